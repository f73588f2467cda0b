"""Folds hold out what new lists bring: their queries' words, and their items where those are new."""

import numpy as np
import pytest

from fusion_models.data import open_dataset
from fusion_models.data.clusters import query_clusters
from fusion_models.data.folds import QUERY_FOLDS, SIDE_FOLDS, training_folds


@pytest.fixture
def clipart(tmp_path_factory):
    return open_dataset("clipart", cache=cache_of(tmp_path_factory))


@pytest.fixture
def planted(tmp_path_factory):
    return open_dataset("planted?queries=160&candidates=8", cache=cache_of(tmp_path_factory))


def cache_of(tmp_path_factory):
    """One for all tests of this file, which build nothing else."""
    return tmp_path_factory.getbasetemp() / "folds"


def covered(data, folds):
    """How often each training judgement is held out."""
    count = np.zeros(len(data.judged_item), dtype=int)
    for queries, items in folds:
        for row in folds.rows[queries]:
            judged = np.arange(data.offset[row], data.offset[row + 1])
            count[judged if items is None else judged[items[data.judged_item[judged]]]] += 1
    return count


def test_every_training_judgement_is_held_out_once(planted, clipart):
    for data in (planted, clipart):
        train = np.zeros(len(data.judged_item), dtype=int)
        for row in data.rows("train"):
            train[data.offset[row] : data.offset[row + 1]] = 1
        assert np.array_equal(covered(data, training_folds(data)), train)


def test_queries_that_share_words_stand_in_one_fold(clipart):
    folds = training_folds(clipart)
    groups = query_clusters(clipart, "train")
    assert groups is not None
    assert len(np.unique(groups)) < len(groups)
    for group in np.unique(groups):
        assert len(np.unique(folds.query[groups == group])) == 1
    documents = np.bincount(folds.query, weights=clipart.candidates[folds.rows])
    assert documents.max() < 1.2 * documents.min()


def test_items_are_held_out_where_they_recur_and_new_lists_bring_new_ones(clipart, planted):
    folds = training_folds(clipart)
    assert folds.item is not None
    assert len(np.unique(folds.item)) == len(np.unique(folds.query)) == SIDE_FOLDS
    assert sum(1 for _ in folds) == SIDE_FOLDS**2
    plain = training_folds(planted)  # every list has items of its own
    assert plain.item is None
    assert len(np.unique(plain.query)) == QUERY_FOLDS


def test_a_closed_catalogue_keeps_its_items(clipart, monkeypatch):
    """Where validation's items are training's, knowing an item is no secret."""
    rows = clipart.rows("train")
    monkeypatch.setattr(clipart, "rows", lambda split: rows)
    assert training_folds(clipart).item is None


def test_a_halved_dataset_has_the_folds_of_the_whole(clipart):
    whole, halved = training_folds(clipart), training_folds(clipart.halved())
    assert np.array_equal(whole.query, halved.query)
    assert np.array_equal(whole.item, halved.item)
