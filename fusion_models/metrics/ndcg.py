"""Normalised discounted cumulative gain with graded labels, ties averaged."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fusion_models.metrics.ranking import block_means, check_lists

GAIN_BITS = 64
"""Labels up to here have the gain `2^label - 1` itself."""


class MeanNdcg(NamedTuple):
    """A mean over queries, and how many it speaks for."""

    mean: float
    """NaN where no query has a relevant document."""
    queries: int
    """Queries in the mean."""
    without_relevant: int
    """Queries left out of it."""


def ndcg(scores: Tensor, labels: Tensor, valid: Tensor, k: int = 10) -> Tensor:
    """nDCG@k of each query: gain `2^label - 1`, discount `1 / log2(rank + 1)`.

    Documents with equal scores share the mean of their block's gains: the expectation over random tie-breaking, so
    that constant scores earn what chance earns. Packages differ here and on the next point: a query without a
    relevant document (no label > 0) has no nDCG and gives NaN; `mean_ndcg` leaves it out and counts it.

    Args:
        scores, labels, valid: `[B, L]`; what stands in padded places is not read.
        k: depth, >= 1; shorter lists are cut at their length.

    Returns:
        `[B]` float64 in [0, 1].

    Raises:
        ValueError: shapes differ, k < 1, a real document's score is NaN, or its label negative or not finite.

    References:
        Järvelin and Kekäläinen 2002 (DCG), Burges et al. 2005 (the gain), McSherry and Najork 2008 (ties).
    """
    check_lists(scores, valid, labels)
    if k < 1:
        raise ValueError(f"k must be >= 1, got {k}")
    labels = labels.masked_fill(~valid, 0)
    if labels.numel() == 0:
        return torch.full((len(labels),), torch.nan, dtype=torch.float64, device=labels.device)
    low, high = labels.aminmax()
    if not bool((low >= 0) & (high < torch.inf)):  # a NaN is neither
        raise ValueError("labels must be finite and >= 0")
    shift = _shift(labels)
    k = min(k, labels.shape[1])
    discounts = 1.0 / torch.log2(torch.arange(2, k + 2, dtype=torch.float64, device=labels.device))
    achieved = (_expected_gains(scores, labels, valid, k, shift) * discounts).sum(1)
    ideal = (_gain(labels.topk(k, dim=1).values, shift) * discounts).sum(1)
    return torch.where(ideal > 0, achieved / ideal, torch.nan)


def chance_ndcg(labels: Tensor, valid: Tensor, k: int = 10) -> Tensor:
    """nDCG@k that a random order of each list earns on average: `[B]` float64, NaN without a relevant document."""
    return ndcg(torch.zeros_like(labels), labels, valid, k)


def mean_ndcg(values: Tensor) -> MeanNdcg:
    """Mean of per-query values `[B]`, NaN ones (no relevant document) left out and counted."""
    counted = values[~values.isnan()]
    mean = float(counted.mean()) if len(counted) else float("nan")
    return MeanNdcg(mean, len(counted), len(values) - len(counted))


def scaled_gains(labels: Tensor, valid: Tensor) -> Tensor:
    """`[B, L]` float64: `2^label - 1` over a power of two of the query's own, 0 where padded.

    nDCG divides by the best order's gain, so that a factor a query plays no part. It is 1 up to GAIN_BITS; above, it
    brings the query's largest gain down to about 2^GAIN_BITS, since 2^1024 is no float64 number.
    """
    real = labels.double().masked_fill(~valid, 0.0)
    return real if real.shape[1] == 0 else _gain(real, _shift(real))


def _shift(labels: Tensor) -> Tensor:
    """`[B, 1]`: bits by which a query's gains are scaled down."""
    return (labels.double().amax(dim=1, keepdim=True).ceil() - GAIN_BITS).clamp(min=0.0)


def _gain(labels: Tensor, shift: Tensor) -> Tensor:
    real = labels.double()
    whole = torch.exp2(real - shift) - torch.exp2(-shift)
    small = torch.expm1(real * math.log(2.0)) * torch.exp2(-shift)  # 2^1e-20 - 1 is not 0
    return torch.where(real < 0.5, small, whole)


def _expected_gains(scores: Tensor, labels: Tensor, valid: Tensor, k: int, shift: Tensor) -> Tensor:
    """`[B, k]` float64: the gain at each of the first k ranks, ties at the mean of their block; `labels` 0 if padded.

    Only the first k are sorted, some ten times faster than whole lists. A block that the cut at rank k goes through
    has its mean over the whole list, the others over what was sorted.
    """
    scores = (scores if scores.is_floating_point() else scores.double()).masked_fill(~valid, -torch.inf)
    top, order = scores.topk(k, dim=1)
    ranked = torch.arange(k, device=scores.device) < valid.sum(1, keepdim=True)
    gains = _gain(labels.gather(1, order), shift)
    starts = torch.ones_like(ranked)
    starts[:, 1:] = top[:, 1:] != top[:, :-1]
    gains = block_means(gains, starts.long().cumsum(1) - 1)
    at_cut = scores == top[:, -1:]
    cut = (at_cut.sum(1) > (top == top[:, -1:]).sum(1)) | top[:, -1].isneginf()
    rows = cut.nonzero().squeeze(1)
    block = at_cut[rows] & valid[rows]
    mean = (_gain(labels[rows], shift[rows]) * block).sum(1, keepdim=True) / block.sum(1, keepdim=True).clamp(min=1)
    gains[rows] = torch.where(top[rows] == top[rows, -1:], mean, gains[rows])
    return gains * ranked
