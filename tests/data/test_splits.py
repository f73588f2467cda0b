"""Assigned splits: stable, and near their fractions."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion_models.data import DataError, RankingDataset, open_dataset
from fusion_models.data.splits import FRACTIONS, SPLITS, assign_splits, halve_validation, hash_fraction


def test_a_pinned_example_stays() -> None:
    names = ["cat", "dog", "red car", "sun", "dog@test", "q000000", "Ärger", ""]
    expected = ["train", "test", "test", "train", "train", "train", "train", "test"]
    assert [SPLITS[code] for code in assign_splits(names)] == expected
    assert hash_fraction("cat") == 0.4675211634764047
    assert hash_fraction("cat", salt="half ") != hash_fraction("cat")


def test_fractions_are_70_10_20() -> None:
    counts = np.bincount(assign_splits(f"query {n}" for n in range(20_000)), minlength=3) / 20_000
    np.testing.assert_allclose(counts, FRACTIONS, atol=0.01)


@given(st.lists(st.text(), unique=True, max_size=20), st.randoms())
def test_a_query_keeps_its_split_whatever_comes_with_it(names: list[str], random: object) -> None:
    together = dict(zip(names, assign_splits(names), strict=True))
    for name in names:
        assert assign_splits([name])[0] == together[name]
        assert 0 <= hash_fraction(name) < 1


@pytest.fixture
def small() -> RankingDataset:
    return open_dataset("planted?queries=160&candidates=8")


def test_halving_moves_half_of_validation_by_id_alone_and_nothing_else(small: RankingDataset) -> None:
    halved = small.halved()
    assert np.array_equal(halved.rows("train"), small.rows("train"))
    assert np.array_equal(halved.rows("test"), small.rows("test"))
    both = np.concatenate([halved.rows("validation"), halved.rows("deciding")])
    assert np.array_equal(np.sort(both), small.rows("validation"))
    assert min(len(halved.rows("validation")), len(halved.rows("deciding"))) >= 3
    with pytest.raises(ValueError, match="split must be one of train, validation, test, got 'deciding'"):
        small.rows("deciding")


def test_halves_are_even_and_do_not_follow_the_hashed_splits() -> None:
    ids = [f"q{i}" for i in range(40_000)]
    halved = halve_validation(assign_splits(ids), ids)
    counts = [int((halved == code).sum()) for code in range(4)]
    assert counts[1] == pytest.approx(2_000, abs=150)
    assert counts[3] == pytest.approx(2_000, abs=150)
    assert np.array_equal(halve_validation(assign_splits(ids[:100]), ids[:100]), halved[:100])


def test_a_halved_source_opens_halved_and_travels_halved(small: RankingDataset) -> None:
    halved = open_dataset(f"{small.source}#halved")
    assert halved.source == f"{small.source}#halved"
    assert halved.fingerprint == small.fingerprint
    travelled = pickle.loads(pickle.dumps(halved))
    assert np.array_equal(travelled.rows("deciding"), halved.rows("deciding"))


def test_a_validation_split_of_one_query_cannot_be_halved(small: RankingDataset) -> None:
    few = small.halved()
    few.splits, few.split = SPLITS, few.split.copy()
    few.split[small.rows("validation")[1:]] = 0
    with pytest.raises(DataError, match=r"too few validation queries \(1\) to be halved"):
        few.halved()
