from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from padded_lists import Lists, random_lists
from scipy import stats

from fusion_models.metrics import (
    agreement,
    average_ranks,
    centred_correlation,
    first_ranks,
    kendall_tau_b,
    mean_rank_change,
    pooled_correlation,
    rank_biased_overlap,
    spearman,
    top1_stability,
)


def rows(lists: Lists) -> list[tuple[int, np.ndarray, np.ndarray]]:
    return [(i, lists.a[i, v].numpy(), lists.b[i, v].numpy()) for i, v in enumerate(lists.valid)]


@pytest.mark.filterwarnings("ignore::scipy.stats.ConstantInputWarning")
def test_spearman_and_kendall_equal_scipy(lists: Lists) -> None:
    rho, tau = spearman(lists.a, lists.b, lists.valid), kendall_tau_b(lists.a, lists.b, lists.valid)
    compared = 0
    for i, a, b in rows(lists):
        expected = (stats.spearmanr(a, b).statistic, stats.kendalltau(a, b).statistic) if len(a) > 1 else (np.nan,) * 2
        assert (float(rho[i]), float(tau[i])) == pytest.approx(expected, abs=1e-12, nan_ok=True)
        compared += np.isfinite(expected[0])
    assert compared > 30


def test_kendall_in_blocks_is_the_same(lists: Lists, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = kendall_tau_b(lists.a, lists.b, lists.valid)
    # By module name: the package's attribute `agreement` is the function.
    monkeypatch.setattr(sys.modules["fusion_models.metrics.agreement"], "PAIRS_AT_ONCE", 500)
    torch.testing.assert_close(kendall_tau_b(lists.a, lists.b, lists.valid), whole, equal_nan=True)


def test_ranks_equal_scipy(lists: Lists) -> None:
    mean, first = average_ranks(lists.a, lists.valid), first_ranks(lists.a, lists.valid)
    for i, a, _b in rows(lists):
        np.testing.assert_array_equal(mean[i, lists.valid[i]].numpy(), stats.rankdata(-a))
        np.testing.assert_array_equal(first[i, lists.valid[i]].numpy(), stats.rankdata(-a, method="min"))
    assert not mean[~lists.valid].any()
    assert not first[~lists.valid].any()


def test_correlations_equal_numpy(lists: Lists) -> None:
    pairs = [(a - a.mean(), b - b.mean()) for _, a, b in rows(lists) if len(a)]
    a, b = (np.concatenate(side) for side in zip(*pairs, strict=True))
    # Means over centred queries are 0, so this is the uncentred correlation too.
    assert centred_correlation(lists.a, lists.b, lists.valid) == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-12)
    pooled = np.corrcoef(lists.a[lists.valid], lists.b[lists.valid])[0, 1]
    assert pooled_correlation(lists.a, lists.b, lists.valid) == pytest.approx(pooled, abs=1e-12)


def test_offsets_move_the_pooled_correlation_alone(lists: Lists) -> None:
    offsets = 10 * torch.randn(len(lists.a), 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    centred = centred_correlation(lists.a, lists.b, lists.valid)
    assert centred_correlation(lists.a + offsets, lists.b, lists.valid) == pytest.approx(centred, abs=1e-9)
    moved = pooled_correlation(lists.a + offsets, lists.b, lists.valid)
    assert abs(moved - pooled_correlation(lists.a, lists.b, lists.valid)) > 0.1


def test_constant_lists_have_no_correlation() -> None:
    a, valid = torch.full((3, 4), 0.1), torch.ones(3, 4, dtype=torch.bool)
    b = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert np.isnan(centred_correlation(a, b, valid))
    assert spearman(a, b, valid).isnan().all()
    assert kendall_tau_b(a, b, valid).isnan().all()


def test_top1_and_rank_change_against_naive_loops(lists: Lists) -> None:
    stability = top1_stability(lists.a, lists.b, lists.valid)
    change = mean_rank_change(lists.a, lists.b, lists.valid)
    for i, a, b in rows(lists):
        if not len(a):
            assert stability[i].isnan()
            assert change[i].isnan()
            continue
        top_a, top_b = set(np.flatnonzero(a == a.max())), set(np.flatnonzero(b == b.max()))
        assert float(stability[i]) == pytest.approx(len(top_a & top_b) / len(top_a | top_b))
        assert float(change[i]) == pytest.approx(np.abs(stats.rankdata(-a) - stats.rankdata(-b)).mean())


def test_top1_with_ties_is_what_one_random_order_keeps() -> None:
    a, b = np.array([2.0, 2, 2, 1, 0]), np.array([0.0, 3, 3, 3, 1])
    generator = np.random.default_rng(0)
    kept = []
    for _ in range(4000):
        order = generator.permutation(5)
        kept.append(order[np.argmax(a[order])] == order[np.argmax(b[order])])
    exact = top1_stability(torch.from_numpy(a)[None], torch.from_numpy(b)[None], torch.ones(1, 5, dtype=torch.bool))
    assert float(exact) == 0.5
    assert np.mean(kept) == pytest.approx(0.5, abs=0.04)


def naive_rbo(a: np.ndarray, b: np.ndarray, p: float) -> float:
    rank_a, rank_b = stats.rankdata(-a, method="min"), stats.rankdata(-b, method="min")
    total = 0.0
    for depth in range(1, len(a) + 1):
        left, right = set(np.flatnonzero(rank_a <= depth)), set(np.flatnonzero(rank_b <= depth))
        total += 2 * len(left & right) / (len(left) + len(right)) * p**depth
    return p ** len(a) + (1 - p) / p * total


@pytest.mark.parametrize("p", [0.5, 0.9])
def test_rank_biased_overlap_against_sets(lists: Lists, p: float) -> None:
    measured = rank_biased_overlap(lists.a, lists.b, lists.valid, p)
    for i, a, b in rows(lists):
        expected = naive_rbo(a, b, p) if len(a) else np.nan
        assert float(measured[i]) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_rank_biased_overlap_of_the_reverse_in_closed_form() -> None:
    # Two documents swapped: agreement 0 at depth 1, 1 at depth 2 and beyond.
    value = rank_biased_overlap(torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 2.0]]), torch.ones(1, 2).bool(), 0.9)
    assert float(value) == pytest.approx(0.9**2 + 0.1 / 0.9 * 0.9**2)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), padding=st.integers(0, 4))
def test_agreement_keeps_its_invariants(seed: int, padding: int) -> None:
    lists = random_lists(seed, queries=6, length=8)
    found = agreement(lists.a, lists.b, lists.valid)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(seed))
    permuted = agreement(lists.a[:, order], lists.b[:, order], lists.valid[:, order])
    assert permuted == pytest.approx(found, nan_ok=True, abs=1e-9)
    padded = [torch.nn.functional.pad(x, (padding, 1)) for x in (lists.a, lists.b, lists.valid)]
    assert agreement(*padded) == pytest.approx(found, nan_ok=True, abs=1e-9)
    assert agreement(lists.b, lists.a, lists.valid) == pytest.approx(found, nan_ok=True, abs=1e-9)
    assert agreement(lists.a.exp(), lists.b, lists.valid)[2:] == pytest.approx(found[2:], nan_ok=True, abs=1e-9)
    same = agreement(lists.a, lists.a, lists.valid)
    assert same == pytest.approx((1, 1, 1, 1, 1, 0, 1), nan_ok=True, abs=1e-9)
