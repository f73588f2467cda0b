"""A label, or V1's score, that stands in several blocks, behind V1's score or in products is found; strength is not."""

import numpy as np
import pytest
from planted_faults import spread
from scipy import special

from fusion_models.data import open_dataset
from fusion_models.integrity import leak_probe_checks


def found(data):
    return leak_probe_checks(data, np.random.default_rng(0))


def noise(tables, *shape, seed=1):
    return np.random.default_rng(seed).standard_normal((len(tables["judgements"]), *shape))


def label_of(tables):
    return tables["judgements"]["label"].to_numpy()


def v1_of(tables):
    return tables["judgements"]["v1_score"].to_numpy()


def put_pair(tables, values):
    tables["judgements"]["features"] = list(np.float32(values).reshape(len(tables["judgements"]), -1))


def two_masked_sums(tables):
    for number, modality in enumerate(("visual", "text")):
        mask = noise(tables, seed=number)
        spread(tables, modality, [3, 7], np.stack([label_of(tables) + mask, -mask], axis=1))


def grades_twice(tables):
    grades = (label_of(tables)[:, None] == np.unique(label_of(tables))).astype(float)
    spread(tables, "metadata", list(range(grades.shape[1])), grades)
    put_pair(tables, grades)


def two_dense_blocks(tables):
    for number, modality in enumerate(("visual", "text")):
        mask = noise(tables, 31, seed=number) * 0.8
        values = np.concatenate([mask, (label_of(tables) - mask.sum(1))[:, None]], axis=1)
        spread(tables, modality, list(range(32)), values)


def over_two_blocks(tables, target, loud=10.0):
    mask = loud * noise(tables)
    spread(tables, "visual", [3], target + mask)
    spread(tables, "text", [7], -mask)


def all_of_two_blocks(tables, target):
    mask = noise(tables, 63) * 0.8
    values = np.concatenate([mask, (target - mask.sum(1))[:, None]], axis=1)
    spread(tables, "visual", list(range(32)), values[:, :32])
    spread(tables, "text", list(range(32)), values[:, 32:])


def signed(tables, target, places):
    """A random sign in one column, that sign times the target's normal score in another."""
    ranks = np.argsort(np.argsort(target + 1e-6 * noise(tables)))
    sign = np.where(noise(tables) > 0, 1.0, -1.0)
    code = special.ndtri((ranks + 0.5) / len(ranks))
    for (modality, column), values in zip(places, (sign, sign * code), strict=True):
        spread(tables, modality, [column], values)


def scaled(tables, target):
    """A quotient: the target times a random factor in one column, 1 over that factor in another."""
    factor = np.exp(noise(tables)) * np.sign(noise(tables, seed=2))
    spread(tables, "visual", [3], target * factor)
    spread(tables, "text", [7], 1 / factor)


LABELS = {
    "masked sums in two blocks": two_masked_sums,
    "the grades in two blocks": grades_twice,
    "all columns of either of two blocks": two_dense_blocks,
    "a sum of two blocks": lambda t: over_two_blocks(t, label_of(t)),
    "a sum of all columns of two blocks": lambda t: all_of_two_blocks(t, label_of(t)),
    "the label less V1's score": lambda t: put_pair(t, label_of(t) - v1_of(t) * 2 * label_of(t).std() / v1_of(t).std()),
    "V1's score and two blocks": lambda t: over_two_blocks(t, label_of(t) - 2 * v1_of(t), 3.0),
    "a product in one block": lambda t: signed(t, label_of(t), [("visual", 3), ("visual", 7)]),
    "a product of two blocks": lambda t: signed(t, label_of(t), [("text", 3), ("visual", 7)]),
    "a factor and its inverse": lambda t: scaled(t, label_of(t) + 0.5),
    "a product with noise columns of pairs": lambda t: (
        put_pair(t, noise(t, 3)),
        signed(t, label_of(t), [("metadata", 3), ("text", 7)]),
    ),
}


@pytest.mark.parametrize("kind", LABELS)
def test_a_label_is_found_however_it_is_spread(tables, written, kind):
    LABELS[kind](tables)
    label, _ = found(written(tables))
    assert label.status == "fail"


def eight(tables, target):
    mask = noise(tables, 8)
    spread(tables, "visual", list(range(8, 16)), target[:, None] / 8 + mask - mask.mean(1, keepdims=True))


SCORES = {
    "a sum of two blocks": lambda t: over_two_blocks(t, v1_of(t)),
    "a sum of eight columns": lambda t: eight(t, v1_of(t)),
    "a product in one block": lambda t: signed(t, v1_of(t), [("visual", 3), ("visual", 7)]),
    "a product of two blocks": lambda t: signed(t, v1_of(t), [("visual", 3), ("text", 7)]),
}


@pytest.mark.parametrize("kind", SCORES)
def test_v1_is_found_however_it_is_spread(tables, written, kind):
    SCORES[kind](tables)
    label, v1 = found(written(tables))
    assert v1.status == "fail"
    assert label.status != "fail"


STRONG = {
    "an image that tells most of what V1 misses": "planted:healthy?share_visual=0.4",
    "a product of image and text": "planted:synergy?share_synergy=0.85",
    "a sign code in the image": "planted:seed-case?share_visual=0.4&visual_unique_scale=1",
    "a V1 that the text tells": "planted:redundant?v1_noise=0.2",
}


@pytest.mark.parametrize("kind", STRONG)
def test_features_that_honestly_tell_much_are_no_leak(kind):
    source = STRONG[kind]
    assert [c.status for c in found(open_dataset(f"{source}&queries=300&candidates=12"))] == ["pass", "pass"]
