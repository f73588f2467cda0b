"""How alike two rankers order the same lists: V1 agreement, and two V1-like rankers as its ceiling.

`a`, `b`: scores `[B, L]`; `valid`: `[B, L]` bool. All measures are symmetric in a and b, and none but the two
Pearson correlations changes under a monotone transform of either. NaN scores of real documents raise ValueError.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fusion_models.metrics.ranking import average_ranks, check_lists, first_ranks

PAIRS_AT_ONCE = 4_000_000
"""Entries of a pairwise [queries, L, L] block held in memory at one time."""


class Agreement(NamedTuple):
    """Agreement of two rankers over all queries; NaN where no query defines the measure."""

    centred_correlation: float
    pooled_correlation: float
    spearman: float
    """Median over queries."""
    kendall: float
    """Median tau-b over queries."""
    top1_stability: float
    rank_change: float
    """Mean over queries of the mean absolute change of rank, in places."""
    rank_biased_overlap: float


def agreement(a: Tensor, b: Tensor, valid: Tensor) -> Agreement:
    """Every measure of this file at once."""
    return Agreement(
        centred_correlation(a, b, valid),
        pooled_correlation(a, b, valid),
        float(spearman(a, b, valid).nanquantile(0.5)),
        float(kendall_tau_b(a, b, valid).nanquantile(0.5)),
        float(top1_stability(a, b, valid).nanmean()),
        float(mean_rank_change(a, b, valid).nanmean()),
        float(rank_biased_overlap(a, b, valid).nanmean()),
    )


def centred_correlation(a: Tensor, b: Tensor, valid: Tensor) -> float:
    """Pearson correlation of scores centred within each query, pooled over documents (`v1_correlation`).

    Listwise losses leave every query's offset free, so a pooled correlation can be lowered without moving one rank;
    this one cannot. NaN where either side is constant within every query.
    """
    return correlation_of(centred_moments(a, b, valid).sum(0))


def correlation_of(moments: Tensor) -> float:
    """`centred_correlation` from the sums over all queries of their `centred_moments`, `[3]`."""
    ab, aa, bb = moments
    return _ratio(ab, aa, bb)


def centred_moments(a: Tensor, b: Tensor, valid: Tensor) -> Tensor:
    """Each query's sums of `a b`, `a a`, `b b` over its documents, scores centred within it: `[B, 3]` float64.

    Their sums over queries give `centred_correlation`; a query apart, they give its interval
    (`intervals.seed_intervals.seed_correlation_interval`).
    """
    x, y = _centred(a, b, valid, valid.sum(1, keepdim=True))
    return torch.stack([(x * y).sum(1), (x * x).sum(1), (y * y).sum(1)], dim=1)


def pooled_correlation(a: Tensor, b: Tensor, valid: Tensor) -> float:
    """Pearson correlation over all real documents, offsets between queries included (the roadmap's number)."""
    check_lists(a, valid, b)
    check_lists(b, valid)
    x, y = a[valid].double(), b[valid].double()
    x, y = x - x.mean(), y - y.mean()
    return _ratio((x * y).sum(), (x * x).sum(), (y * y).sum())


def spearman(a: Tensor, b: Tensor, valid: Tensor) -> Tensor:
    """Spearman's rho of each query, ties at their mean rank: `[B]` float64; NaN where a side is constant."""
    check_lists(a, valid, b)
    ab, aa, bb = centred_moments(average_ranks(a, valid), average_ranks(b, valid), valid).unbind(1)
    return torch.where((aa > 0) & (bb > 0), ab / (aa * bb).sqrt(), torch.nan)


def kendall_tau_b(a: Tensor, b: Tensor, valid: Tensor) -> Tensor:
    """Kendall's tau-b of each query: `[B]` float64; NaN where a side is constant.

    Pairwise, in blocks of queries: time grows with L squared, memory does not.
    """
    check_lists(a, valid, b)
    check_lists(b, valid)
    step = max(1, PAIRS_AT_ONCE // max(1, a.shape[1] ** 2))
    parts = [_tau_b(a[i : i + step], b[i : i + step], valid[i : i + step]) for i in range(0, len(a), step)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)


def top1_stability(a: Tensor, b: Tensor, valid: Tensor) -> Tensor:
    """Whether each query keeps its top document: `[B]` float64 in [0, 1]; NaN for an empty list.

    With A and B the documents tied at the top of either ranker: |A and B| / |A or B|, the probability that both name
    the same document when one random order of the documents breaks the ties of both. Without ties it is 0 or 1.
    """
    check_lists(a, valid, b)
    top_a, top_b = first_ranks(a, valid) == 1, first_ranks(b, valid) == 1
    return (top_a & top_b).sum(1).double() / (top_a | top_b).sum(1)


def mean_rank_change(a: Tensor, b: Tensor, valid: Tensor) -> Tensor:
    """Mean over documents of the absolute change of rank, ties at their mean rank: `[B]` float64, places."""
    check_lists(a, valid, b)
    return (average_ranks(a, valid) - average_ranks(b, valid)).abs().sum(1) / valid.sum(1)


def rank_biased_overlap(a: Tensor, b: Tensor, valid: Tensor, p: float = 0.9) -> Tensor:
    """Extrapolated rank-biased overlap of each query, RBO_ext: `[B]` float64 in [0, 1], 1 for equal orders.

    `RBO_ext = A_n p^n + (1 - p) / p * sum_d A_d p^d` for depths d = 1..n, n the list's length, where the agreement is
    `A_d = 2 |S_d and T_d| / (|S_d| + |T_d|)`. Both rankers order the same n documents, so A_n = 1 is what the
    extrapolation goes on with. Documents tied at rank d all belong to S_d (Webber's handling of ties).

    Args:
        p: persistence in (0, 1); the first 10 ranks carry 86 % of the weight at 0.9.

    References:
        Webber, Moffat and Zobel 2010, "A similarity measure for indefinite rankings", eq. 32 and section 4.5.
    """
    if not 0.0 < p < 1.0:
        raise ValueError(f"p must be in (0, 1), got {p}")
    check_lists(a, valid, b)
    rank_a, rank_b = first_ranks(a, valid), first_ranks(b, valid)
    size_a, size_b = _reached(rank_a), _reached(rank_b)
    agreed = 2.0 * _reached(torch.maximum(rank_a, rank_b)) / (size_a + size_b).clamp(min=1)
    lengths = valid.sum(1)
    depths = torch.arange(1, a.shape[1] + 1, dtype=torch.float64, device=a.device)
    weights = torch.where(depths <= lengths[:, None], p**depths, 0.0)
    overlap = p ** lengths.double() + (1 - p) / p * (agreed * weights).sum(1)
    return torch.where(lengths > 0, overlap, torch.nan)


def _centred(a: Tensor, b: Tensor, valid: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Float64 scores minus their query's mean, exactly 0 where padded and in constant lists."""
    check_lists(a, valid, b)
    check_lists(b, valid)

    def centre(scores: Tensor) -> Tensor:
        real = scores.double().masked_fill(~valid, 0.0)
        # Anchored at one document first, so that a constant list centres to exact zeros whatever its level.
        anchor = real.gather(1, valid.to(torch.uint8).argmax(1, keepdim=True)) if real.shape[1] else 0.0
        shifted = (real - anchor).masked_fill(~valid, 0.0)
        return (shifted - shifted.sum(1, keepdim=True) / lengths.clamp(min=1)).masked_fill(~valid, 0.0)

    return centre(a), centre(b)


def _ratio(ab: Tensor, aa: Tensor, bb: Tensor) -> float:
    return float(ab / (aa * bb).sqrt()) if float(aa) > 0 and float(bb) > 0 else float("nan")


def _tau_b(a: Tensor, b: Tensor, valid: Tensor) -> Tensor:
    """Tau-b of a block of queries: sums of sign products over ordered pairs, each pair twice on both sides."""
    both = valid[:, :, None] & valid[:, None, :]
    sign_a, sign_b = _pair_order(a) * both, _pair_order(b) * both
    concordant = (sign_a * sign_b).sum((1, 2)).double()
    untied_a, untied_b = (sign_a != 0).sum((1, 2)).double(), (sign_b != 0).sum((1, 2)).double()
    return torch.where((untied_a > 0) & (untied_b > 0), concordant / (untied_a * untied_b).sqrt(), torch.nan)


def _pair_order(scores: Tensor) -> Tensor:
    """-1, 0 or 1 of each pair `[B, L, L]`, by comparison: a difference of two infinities would be NaN."""
    left, right = scores[:, :, None], scores[:, None, :]
    return (left > right).to(torch.int8) - (left < right).to(torch.int8)


def _reached(ranks: Tensor) -> Tensor:
    """How many documents each depth 1..L has reached: `[B, L]` float64, from ranks `[B, L]` with 0 for padding."""
    counts = torch.zeros(ranks.shape[0], ranks.shape[1] + 1, dtype=torch.float64, device=ranks.device)
    return counts.scatter_add(1, ranks, torch.ones_like(ranks, dtype=torch.float64))[:, 1:].cumsum(1)
