from __future__ import annotations

from itertools import permutations
from math import factorial, isnan

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from padded_lists import random_batch
from torch import Tensor

from fusion_models.data.batch import Batch
from fusion_models.metrics import BLANKS, Blank, blank, keep_only, masking_drop, shapley, subsets

SUBSETS = subsets(("visual", "text", "metadata"))


def blanked(batch: Batch, kind: Blank, seed: int = 0) -> Batch:
    mean = torch.tensor([1.0, 2.0, 3.0])
    return blank(batch, "visual", kind, mean=mean, generator=torch.Generator().manual_seed(seed))


def sorted_rows(rows: Tensor) -> list[list[float]]:
    return sorted(rows.tolist())


@pytest.mark.parametrize("kind", BLANKS)
def test_only_that_modality_changes_and_padding_stays_zero(batch: Batch, kind: Blank) -> None:
    before = batch.features["visual"].clone()
    found = blanked(batch, kind)
    assert torch.equal(batch.features["visual"], before)
    assert not torch.equal(found.features["visual"], before)
    assert not found.features["visual"][~batch.valid].any()
    assert found.features["text"] is batch.features["text"]
    assert all(mine is theirs for mine, theirs in zip(found[1:], batch[1:], strict=True))
    assert list(found.features) == list(batch.features)


def test_zero_and_mean(batch: Batch) -> None:
    assert not blanked(batch, "zero").features["visual"].any()
    rows = blanked(batch, "mean").features["visual"][batch.valid]
    assert torch.equal(rows, torch.tensor([1.0, 2, 3]).expand_as(rows))
    as_numpy = blank(batch, "visual", "mean", mean=np.array([1, 2, 3], dtype=np.float32))
    assert torch.equal(as_numpy.features["visual"], blanked(batch, "mean").features["visual"])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_shuffles_move_rows_about_and_lose_none(seed: int) -> None:
    batch = random_batch(seed)
    before = batch.features["visual"]
    within, across = (blanked(batch, kind, seed).features["visual"] for kind in ("shuffle_within", "shuffle_across"))
    for row, valid in enumerate(batch.valid):
        assert sorted_rows(within[row, valid]) == sorted_rows(before[row, valid])
    assert sorted_rows(across[batch.valid]) == sorted_rows(before[batch.valid])
    assert torch.equal(blanked(batch, "shuffle_within", seed).features["visual"], within)


def test_shuffles_are_uniform() -> None:
    batch = random_batch(1, queries=3, length=4)
    batch = batch._replace(valid=torch.ones(3, 4, dtype=torch.bool))
    batch.features["visual"] = torch.arange(12.0).view(3, 4, 1)
    generator = torch.Generator().manual_seed(0)
    for kind, reach in (("shuffle_within", 4), ("shuffle_across", 12)):
        counts = torch.zeros(12, 12)
        for _ in range(1200):
            found = blank(batch, "visual", kind, generator=generator).features["visual"].flatten().long()
            counts[torch.arange(12), found] += 1
        expected = torch.block_diag(*[torch.ones(reach, reach) * 1200 / reach] * (12 // reach))
        assert (counts - expected).abs().max() < 5 * (1200 / reach) ** 0.5
        assert not counts[expected == 0].any()


def test_errors_say_what_to_hand_in(batch: Batch) -> None:
    with pytest.raises(ValueError, match="no modality 'sound'"):
        blank(batch, "sound", "zero")
    with pytest.raises(ValueError, match="unknown blank"):
        blank(batch, "visual", "grey")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Generator"):
        blank(batch, "visual", "shuffle_within")
    with pytest.raises(ValueError, match="needs the training split's mean"):
        blank(batch, "visual", "mean")
    with pytest.raises(ValueError, match="3 wide"):
        blank(batch, "visual", "mean", mean=torch.zeros(2))
    with pytest.raises(ValueError, match="sound"):
        keep_only(batch, {"sound"}, "zero")


def test_keep_only_blanks_the_others(batch: Batch) -> None:
    found = keep_only(batch, {"text"}, "zero")
    assert not found.features["visual"].any()
    assert not found.features["metadata"].any()
    assert found.features["text"] is batch.features["text"]
    assert keep_only(batch, batch.features.keys(), "zero").features == batch.features


def test_masking_drop_is_a_share_of_the_full_value() -> None:
    full, masked = torch.tensor([0.8, torch.nan, 0.6]), torch.tensor([0.7, torch.nan, 0.6])
    assert masking_drop(full, masked) == pytest.approx((0.7 - 0.65) / 0.7)
    assert masking_drop(masked, full) == pytest.approx(-0.05 / 0.65)
    assert isnan(masking_drop(torch.zeros(2), torch.zeros(2)))
    with pytest.raises(ValueError, match="same queries"):
        masking_drop(full, masked[:2])


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.floats(-5, 5), min_size=16, max_size=16), players=st.integers(1, 4))
def test_shapley_is_the_mean_over_all_orders_and_sums_up(values: list[float], players: int) -> None:
    names = ["visual", "sound", "metadata", "text"][:players]
    table = dict(zip(subsets(names), values, strict=False))
    naive = dict.fromkeys(names, 0.0)
    for order in permutations(names):
        for place, name in enumerate(order):
            gain = table[frozenset(order[: place + 1])] - table[frozenset(order[:place])]
            naive[name] += gain / factorial(players)
    found = shapley(table)
    assert found == pytest.approx(naive, abs=1e-9)
    assert sum(found.values()) == pytest.approx(table[frozenset(names)] - table[frozenset()], abs=1e-9)


def test_shapley_of_a_synergy_is_shared_and_idle_players_get_nothing() -> None:
    assert len(SUBSETS) == 8
    found = shapley({s: float({"visual", "text"} <= s) for s in SUBSETS})
    assert found == pytest.approx({"visual": 0.5, "text": 0.5, "metadata": 0.0})
    assert list(found) == ["visual", "text", "metadata"]
    with pytest.raises(ValueError, match=r"missing: .*'text'"):
        shapley({s: 0.0 for s in SUBSETS if s != {"text"}})
