"""Labels and V1's score that hide in several columns are named; features that are merely good are not."""

import numpy as np
import pytest
from planted_faults import spread

from fusion_models.data import open_dataset
from fusion_models.integrity import leak_check, leak_probe_checks, order_check


def found(data):
    return leak_probe_checks(data, np.random.default_rng(0))


def noise(tables, *shape):
    return np.random.default_rng(1).standard_normal((len(tables["judgements"]), *shape))


def sum_of_two(tables, target):
    mask = noise(tables)
    return np.stack([target + mask, -mask], axis=1)


def one_hot(tables, target):
    grades = np.unique(target)
    return (target[:, None] == grades).astype(float)


LABEL_LEAKS = {
    "the sum of two image columns": ("visual", [3, 17], sum_of_two),
    "a noisy column": ("visual", [5], lambda t, y: y + 0.4 * y.std() * noise(t)),
    "categories of the metadata": ("metadata", [0, 1, 2, 3], one_hot),
    "a column turned round and bent": ("text", [2], lambda t, y: np.exp(-y) + 0.02 * noise(t)),
    "an offset a query": ("visual", [4], lambda t, y: y + 5 * np.repeat(noise(t)[::8], 8) + 0.05 * noise(t)),
}


@pytest.mark.parametrize("kind", LABEL_LEAKS)
def test_a_label_in_a_few_columns_is_a_leak(tables, written, kind):
    modality, columns, code = LABEL_LEAKS[kind]
    spread(tables, modality, columns, code(tables, tables["judgements"]["label"].to_numpy()))
    data = written(tables)
    label, v1 = found(data)
    assert label.status == "fail"
    assert all(f"{modality}[{column}]" in label.detail for column in columns[:3])
    assert v1.status == "pass"


def test_a_label_spread_over_all_columns_of_a_modality_is_a_leak(tables, written):
    y = tables["judgements"]["label"].to_numpy()
    mask = noise(tables, 31) * 0.8
    spread(tables, "visual", list(range(32)), np.concatenate([mask, (y - mask.sum(1))[:, None]], axis=1))
    label, _ = found(written(tables))
    assert label.status == "fail"
    assert "all of visual" in label.detail


@pytest.mark.parametrize("modality", ["visual", "text"])
def test_v1_split_over_two_columns_is_a_leak(tables, written, modality):
    spread(tables, modality, [6, 9], sum_of_two(tables, tables["judgements"]["v1_score"].to_numpy()))
    data = written(tables)
    label, v1 = found(data)
    assert v1.status == "fail"
    assert f"{modality}[6]" in v1.detail
    assert f"{modality}[9]" in v1.detail
    assert label.status != "fail"
    assert leak_check(data, np.random.default_rng(0)).status == "pass"  # it looks at single columns


def test_a_noisy_rank_of_v1_in_the_image_is_a_leak(tables, written):
    v1 = tables["judgements"]["v1_score"]
    rank = v1.groupby(tables["judgements"]["query_id"]).rank().to_numpy()
    spread(tables, "visual", [8], np.exp(0.3 * rank) + 0.05 * noise(tables))
    assert found(written(tables))[1].status == "fail"


def test_features_of_pairs_are_read_too(tables, written):
    values = sum_of_two(tables, tables["judgements"]["label"].to_numpy())
    tables["judgements"]["features"] = list(np.float32(values))
    label, _ = found(written(tables))
    assert label.status == "fail"
    assert "pair features[0]" in label.detail


@pytest.mark.parametrize("preset", ["healthy", "seed-case", "no-visual", "redundant", "synergy"])
def test_presets_are_not_accused(preset):
    data = open_dataset(f"planted:{preset}?queries=500&candidates=12")
    assert [c.status for c in found(data)] == ["pass", "pass"]
    assert order_check(data, np.random.default_rng(0)).status == "pass"


def test_candidates_sorted_by_label_and_ids_in_the_order_of_labels_are_warned_of(tables, written):
    judged = tables["judgements"]
    judged = judged.iloc[np.lexsort((-judged["label"], judged["query_id"]))].reset_index(drop=True)
    check = order_check(written(tables | {"judgements": judged}), np.random.default_rng(0))
    assert (check.status, check.counts) == ("warning", False)
    assert "place in the list" in check.detail
