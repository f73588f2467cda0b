"""Assigned splits: stable, and near their fractions."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fusion_models.data.splits import FRACTIONS, SPLITS, assign_splits, hash_fraction


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
