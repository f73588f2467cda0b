"""Groups of near-duplicates against all pairs compared."""

import numpy as np
import pytest

from fusion_models.data.views import near_groups as module
from fusion_models.data.views.near_groups import near_groups


def rows_with_twins(count, width, random, spread=0.0):
    """Half of the rows, and the other half a cosine of 0.9995 beside them; `spread` draws them into 20 heaps."""
    base = random.standard_normal((count // 2, width))
    base += spread * random.standard_normal((20, width))[random.integers(0, 20, len(base))]
    noise = 0.03 / width**0.5 * np.linalg.norm(base, axis=1, keepdims=True)
    return np.concatenate([base, base + noise * random.standard_normal(base.shape)])


def naive(rows, cosine=0.999):
    """Chains of near pairs, by spreading the lowest number until nothing changes."""
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
    near = unit @ unit.T >= cosine
    group = np.arange(len(rows))
    while True:
        spread = np.where(near, group, len(rows)).min(axis=1, initial=len(rows))
        spread = np.minimum(spread, group)
        if (spread == group).all():
            return group
        group = spread


def same(left, right):
    """Whether two numberings make the same groups."""
    pairs = len(set(zip(left.tolist(), right.tolist(), strict=True)))
    return pairs == len(set(left.tolist())) == len(set(right.tolist()))


@pytest.mark.parametrize("spread", [0.0, 2.0])
def test_groups_are_those_of_all_pairs(monkeypatch, spread):
    monkeypatch.setattr(module, "COMPARED", 100)
    monkeypatch.setattr(module, "LEAF", 40)
    random = np.random.default_rng(0)
    rows = rows_with_twins(1_200, 24, random, spread)
    rows[50], rows[51] = 0.0, 0.0
    rows[60:64] = rows[60] * np.array([[1.0], [2.0], [1e-9], [1e9]])  # one direction on any scale
    rows = rows[random.permutation(len(rows))]
    found = near_groups(lambda picked: rows[picked], len(rows))
    assert same(found, naive(rows))
    assert found.max() + 1 < 700


def test_small_data_are_compared_pair_by_pair():
    rows = rows_with_twins(600, 300, np.random.default_rng(1))
    assert same(near_groups(lambda picked: rows[picked], 600), naive(rows))


def test_heaps_of_one_place_are_joined_and_the_order_of_rows_changes_nothing(monkeypatch):
    monkeypatch.setattr(module, "COMPARED", 100)
    monkeypatch.setattr(module, "LEAF", 40)
    random = np.random.default_rng(2)
    rows = random.standard_normal((400, 16))
    rows[:150] = rows[0] + 1e-7 * random.standard_normal((150, 16))
    order = random.permutation(400)
    found, moved = (near_groups(lambda picked, x=x: x[picked], 400) for x in (rows, rows[order]))
    assert len(set(found[:150].tolist())) == 1
    assert found.max() == 250
    assert same(found[order], moved)


def test_the_first_number_is_of_the_first_row_and_none_is_left_out():
    assert near_groups(lambda picked: np.zeros((len(picked), 9)), 3).tolist() == [0, 1, 2]
