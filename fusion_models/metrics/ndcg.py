"""Normalised discounted cumulative gain with graded labels, ties averaged."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fusion_models.metrics.ranking import block_means, check_lists, tie_blocks

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
    gains = _checked_gains(labels, valid)
    discounts = _discounts(scores.shape[1], k, scores.device)
    order, block = tie_blocks(scores, valid)
    achieved = (block_means(gains.gather(1, order), block) * discounts).sum(1)
    ideal = (gains.sort(dim=1, descending=True).values * discounts).sum(1)
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
    if real.shape[1] == 0:
        return real
    shift = (real.amax(dim=1, keepdim=True).ceil() - GAIN_BITS).clamp(min=0.0)
    whole = torch.exp2(real - shift) - torch.exp2(-shift)
    small = torch.expm1(real * math.log(2.0)) * torch.exp2(-shift)  # 2^1e-20 - 1 is not 0
    return torch.where(real < 0.5, small, whole)


def _checked_gains(labels: Tensor, valid: Tensor) -> Tensor:
    real = labels.masked_fill(~valid, 0.0)
    if not bool((torch.isfinite(real) & (real >= 0)).all()):
        raise ValueError("labels must be finite and >= 0")
    return scaled_gains(labels, valid)


def _discounts(length: int, k: int, device: torch.device) -> Tensor:
    """`[L]` float64, 0 below depth k."""
    ranks = torch.arange(1, length + 1, dtype=torch.float64, device=device)
    return torch.where(ranks <= k, 1.0 / torch.log2(ranks + 1.0), 0.0)
