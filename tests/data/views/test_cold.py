"""Cold items: which they are, lists of them alone, and trainings that never saw them."""

import pickle

import numpy as np
import pyarrow as pa
import pytest
import torch

from fusion_models.data import open_dataset
from fusion_models.data.folds import SIDE_FOLDS, training_folds
from fusion_models.data.tables import write_tables
from fusion_models.data.views.alike import alike_items
from fusion_models.data.views.cold import (
    cold_items,
    cold_lists,
    item_isolation,
    needs_cold_lists,
    without_cold,
)
from fusion_models.evaluation import score_with
from fusion_models.metrics import ndcg
from fusion_models.probes.products import product_probe

ITEMS, WIDTH = 300, 64


def recurring_items(
    folder, *, quality_in="visual", queries=260, candidates=14, fresh_test_items=False, twins=None, seed=0
):
    """Items recur in every split; how good one is shows in the text alone, or nowhere, and the picture is a hash.

    `twins`: fresh items are uploads of the old ones, each picture encoded anew with noise of so many deviations.
    """
    random = np.random.default_rng(seed)
    total = 2 * ITEMS if fresh_test_items else ITEMS
    quality = random.standard_normal(total)
    text = random.standard_normal((total, 4))
    if quality_in == "text":
        text[:, 0] = quality
    visual = random.standard_normal((total, WIDTH))
    if twins is not None:
        visual[ITEMS:] = visual[:ITEMS] + twins * random.standard_normal((ITEMS, WIDTH))
    items = {
        "item_id": [f"i{n}" for n in range(total)],
        "visual": visual.astype(np.float32).tolist(),
        "text": text.astype(np.float32).tolist(),
        "metadata": random.standard_normal((total, 2)).astype(np.float32).tolist(),
    }
    split = np.array(["train", "validation", "test"])[
        np.searchsorted([0.55, 0.7], np.arange(queries) / queries, "right")
    ]
    judgements = {"query_id": [], "item_id": [], "label": [], "v1_score": []}
    for query in range(queries):
        low = ITEMS if fresh_test_items and split[query] == "test" else 0
        chosen = low + random.choice(ITEMS, candidates, replace=False)
        place = np.argsort(np.argsort(quality[chosen] + 0.3 * random.standard_normal(candidates)))
        judgements["query_id"] += [f"q{query}"] * candidates
        judgements["item_id"] += [f"i{n}" for n in chosen]
        judgements["label"] += np.searchsorted([6, 10, 12], place, "right").astype(float).tolist()
        judgements["v1_score"] += random.standard_normal(candidates).tolist()
    table = {"query_id": [f"q{n}" for n in range(queries)], "split": split.tolist()}
    return open_dataset(
        _written(folder, {"items": items, "queries": table, "judgements": judgements}), folder / "cache"
    )


def _written(folder, columns):
    write_tables(folder, {name: pa.table(table) for name, table in columns.items()})
    return folder


@pytest.fixture(scope="module")
def hashed(tmp_path_factory):
    return recurring_items(tmp_path_factory.mktemp("hashed"))


def test_a_stable_hash_of_the_id_says_which_items_are_cold(hashed):
    cold = cold_items(hashed)
    assert cold.shape == (ITEMS,)
    assert 0.12 < cold.mean() < 0.28
    np.testing.assert_array_equal(cold, cold_items(hashed, 0.2))
    assert (cold_items(hashed, 0.5) >= cold).all()  # more of them, and the same ones
    with pytest.raises(ValueError, match="between 0 and 1, got 1"):
        cold_items(hashed, 1)


def test_one_picture_under_two_ids_is_one_item_and_a_blank_one_is_none(columns, write):
    items = columns["items"]
    items["visual"][3] = items["visual"][1]
    data = open_dataset(write(columns))
    assert alike_items(data).tolist() == [0, 1, 2, 1, 4, 5]
    many = 40
    grown = {name: [values[n % 6] for n in range(many)] for name, values in items.items()}
    grown["item_id"] = [f"i{n}" for n in range(many)]
    grown["visual"] = [[0.0, 0.0, 0.0]] * many
    grown["text"] = [[float(n), 1.0] for n in range(many)]
    blank = open_dataset(write(columns | {"items": grown}))
    assert alike_items(blank).tolist() == list(range(many))


def test_isolation_says_whether_test_items_are_new(hashed, tmp_path):
    assert item_isolation(hashed, "test") < 0.05
    assert needs_cold_lists(hashed, "test")
    fresh = recurring_items(tmp_path, fresh_test_items=True)
    assert item_isolation(fresh, "test") == 1.0
    assert not needs_cold_lists(fresh, "test")
    assert not needs_cold_lists(open_dataset("planted?queries=40"), "test")


@pytest.mark.parametrize("noise", [0.001, 0.02])
def test_a_picture_encoded_anew_is_no_new_item(tmp_path, noise):
    """A test item that is a training item's picture, a cosine of 0.9995 away, can be learnt by heart."""
    data = recurring_items(tmp_path, fresh_test_items=True, twins=noise)
    alike = alike_items(data)
    assert np.array_equal(alike[:ITEMS], alike[ITEMS:])
    assert len(np.unique(alike)) == ITEMS
    assert item_isolation(data, "test") < 0.05
    assert needs_cold_lists(data, "test")
    assert np.array_equal(cold_items(data), cold_items(data)[alike])
    for batch in without_cold(data).batches("train", 64):
        assert not np.isin(alike[batch.item[batch.valid]], alike[cold_items(data)]).any()


def test_groups_of_many_items_are_kept_beside_the_arrays(tmp_path, monkeypatch):
    data = recurring_items(tmp_path, fresh_test_items=True, twins=0.001)
    found = alike_items(data)
    monkeypatch.setattr("fusion_models.data.views.alike.KEPT", 10)
    assert np.array_equal(alike_items(data), found)
    assert len(list(data.folder.parent.glob("*-alike-visual-*/first.npy"))) == 1
    monkeypatch.setattr("fusion_models.data.views.alike.near_groups", None)
    assert np.array_equal(alike_items(data), found)


def test_groups_that_cannot_be_kept_are_made_anew(tmp_path, monkeypatch):
    data = recurring_items(tmp_path, fresh_test_items=True, twins=0.001)
    found = alike_items(data)
    monkeypatch.setattr("fusion_models.data.views.alike.KEPT", 10)
    data.folder = data.folder / "meta.json" / "below"  # no folder can stand there
    assert np.array_equal(alike_items(data), found)


def patched(data, **arrays):
    """The same data with some arrays changed."""
    view = object.__new__(type(data))
    view.__dict__.update(data.__dict__ | arrays)
    return view


def test_a_picture_encoded_anew_stands_in_the_fold_of_the_old_one(tmp_path):
    data = recurring_items(tmp_path, fresh_test_items=True)
    visual, half = np.array(data.item_features["visual"]), ITEMS // 2
    visual[half:ITEMS] = visual[:half] + 0.001 * np.random.default_rng(1).standard_normal((half, WIDTH))
    split = np.array(data.split)
    split[split == data.splits.index("validation")] = data.splits.index("train")
    split[data.rows("test")[::2]] = data.splits.index("validation")  # of new items
    view = patched(data, item_features=data.item_features | {"visual": np.float32(visual)}, split=split)
    folds = training_folds(view)
    assert len(np.unique(folds.item)) == SIDE_FOLDS
    assert np.array_equal(folds.item[:half], folds.item[half:ITEMS])


def test_cold_lists_are_the_cold_candidates_of_each_query(hashed):
    found, cold = cold_lists(hashed, "test"), cold_items(hashed)
    rows = hashed.rows("test")
    assert 0 < len(found.kept) < len(rows) == found.queries
    scored = score_with(lambda batch: batch.item.double(), hashed, "test")
    items, labels = found.take(scored.scores), found.take(scored.labels)
    naive = {}
    for number, row in enumerate(rows):
        judged = slice(hashed.offset[row], hashed.offset[row + 1])
        mine = [
            (int(i), float(y))
            for i, y in zip(hashed.judged_item[judged], hashed.labels[judged], strict=False)
            if cold[i]
        ]
        if len(mine) >= 4 and len({y for _, y in mine}) > 1:
            naive[number] = mine
    assert found.kept.tolist() == list(naive)
    for place, mine in enumerate(naive.values()):
        real = found.valid[place]
        assert list(zip(items[place][real].long().tolist(), labels[place][real].tolist(), strict=True)) == mine
        assert not items[place][~real].any()
    stacked = torch.stack([scored.scores, scored.scores + 1])
    assert torch.equal(found.take(stacked)[0], items)
    with pytest.raises(ValueError, match=f"cold lists of {len(rows)} queries"):
        found.take(scored.scores[1:])
    none = cold_lists(hashed, "test", np.zeros(ITEMS, dtype=bool))
    assert none.take(scored.scores).shape == (0, 0)


def test_training_lists_lack_the_cold_items_and_nothing_else_changes(hashed):
    cold, view = cold_items(hashed), without_cold(hashed)
    for batch in view.batches("train", 16):
        assert not cold[batch.item[batch.valid]].any()
    kept = {(int(b.query[q]), int(i)) for b in view.batches("train", 16) for q, i in _pairs(b)}
    whole = {(int(b.query[q]), int(i)) for b in hashed.batches("train", 16) for q, i in _pairs(b)}
    assert kept == {(q, i) for q, i in whole if not cold[i]}
    for split in ("validation", "test"):
        for left, right in zip(view.batches(split, 16), hashed.batches(split, 16), strict=True):
            assert all(_same(a, b) for a, b in zip(left[1:], right[1:], strict=True))
    again = pickle.loads(pickle.dumps(view.halved()))
    assert len(again.rows("deciding")) > 0
    assert not any(cold[b.item[b.valid]].any() for b in again.batches("train", 64))
    assert view.item_features["visual"] is not None
    assert view.fingerprint == hashed.fingerprint


def _same(a, b):
    """Two tensors, or two of what a batch may lack."""
    return torch.equal(a, b) if a is not None and b is not None else a is b


def _pairs(batch):
    return [(int(q), int(batch.item[q, place])) for q, place in batch.valid.nonzero()]


def test_pair_features_go_with_their_candidates(columns, write):
    columns["judgements"]["features"] = [[float(n)] for n in range(9)]
    data = open_dataset(write(columns))
    view = without_cold(data, 0.5)
    assert 0 < len(view.labels) < 9

    def context(of):
        batches = [b for split in ("train", "validation", "test") for b in of.batches(split, 9)]
        return {
            (int(b.query[q]), int(b.item[q, p])): float(b.context[q, p]) for b in batches for q, p in b.valid.nonzero()
        }

    assert context(view).items() < context(data).items()


@pytest.fixture
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cold_refit_gain(data):
    """Mean gain of the picture on the test split's whole lists, and on its cold lists, and its error."""
    whole, fresh = [], []
    lists = cold_lists(data, "test")
    for modalities in (("visual", "text", "metadata"), ("text", "metadata")):
        learned = product_probe(data, "test", modalities=modalities, seeds=(0,))
        whole.append(np.nanmean(learned.ndcg()))
        blind = product_probe(without_cold(data), "test", modalities=modalities, seeds=(0,))
        labels = lists.take(blind.labels)
        fresh.append(np.stack([ndcg(s, labels, lists.valid).numpy() for s in lists.take(blind.scores)]).mean(0))
    differences = fresh[0] - fresh[1]
    differences = differences[np.isfinite(differences)]
    return whole[0] - whole[1], differences.mean(), differences.std() / len(differences) ** 0.5


@pytest.mark.usefixtures("_one_thread")
def test_a_picture_that_is_a_hash_gains_on_known_items_and_nothing_on_cold_ones(hashed):
    whole, cold, error = cold_refit_gain(hashed)
    assert whole > 0.02
    assert cold - 2 * error <= 0
    assert cold < whole / 2
