"""Intervals over queries that stand together, in one way or in several that cross."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite

import numpy as np
import numpy.typing as npt
from scipy import sparse, special

from fusion_models.metrics.statistics import Floats, Interval, Variance

Ints = npt.NDArray[np.int64]

PROBES = 64
"""Random vectors by which the degrees of freedom of crossed clusters are estimated (a trace)."""


@dataclass(frozen=True)
class QueryPart:
    """What the queries drawn add to an estimate's uncertainty."""

    variance: float
    """Of the estimate; infinite with fewer than two queries or clusters."""
    df: float
    """Degrees of freedom of `variance`."""
    third: float
    """Third cumulant of the estimate."""


def query_interval(
    influence: npt.ArrayLike,
    mean: float | None = None,
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """Interval over queries of a quantity of one given ranker, from each query's influence on it.

    For a mean over queries the influence is the value itself; for a ratio or a correlation it is that of the delta
    method. Only its deviations from its mean are read.

    Args:
        influence: `[Q]`, finite.
        mean: the estimate; by default the mean of `influence`.
        clusters: None; `[Q]` numbers, equal where queries stand together; or `[Q, W]`, where two queries stand together
            if they have any number in common (words and items, numbered apart, by `crossed`). Negative: no number.

    Returns:
        t limits, moved for skewness (`t_limits`); infinite with fewer than two queries or clusters.

    Raises:
        ValueError: not `[Q]`, empty, NaN or infinite, or clusters of another length or not integers.

    References:
        Liang and Zeger 1986; Bell and McCaffrey 2002 and Imbens and Kolesár 2016 (leverage, degrees of freedom);
        Cameron, Gelbach and Miller 2011 (crossed clusters: each pair that stands together counts once).
    """
    values = np.asarray(influence, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"expected finite influence values [Q], got shape {values.shape} with {values[:3]} ...")
    estimate = float(values.mean()) if mean is None else mean
    part = query_part(values - values.mean(), clusters)
    low, high = t_limits(part.variance, part.df, part.third, level)
    variance = Variance(query=part.variance, query_df=part.df, queries=len(values), skew=part.third)
    return Interval(estimate, estimate + low, estimate + high, level, variance)


def crossed(*ways: npt.ArrayLike) -> Ints:
    """`[Q, W]` clusters for `query_interval` from ways of standing together, each `[Q]` or `[Q, w]`, numbered apart.

    Negative numbers stay: a query without a number in that way.
    """
    columns, start = [], 0
    for way in ways:
        ids = np.asarray(way, dtype=np.int64)
        ids = ids[:, None] if ids.ndim == 1 else ids
        known, index = np.unique(ids, return_inverse=True)
        numbers = np.where(known >= 0, np.arange(len(known)) + start, -1)
        columns.append(numbers[index].reshape(ids.shape))
        start += len(known)
    return np.concatenate(columns, axis=1)


def query_part(deviations: Floats, clusters: npt.ArrayLike | None = None) -> QueryPart:
    """Cluster-robust variance of a mean, from deviations `[Q]` that sum to 0; see `query_interval`."""
    count = len(deviations)
    if clusters is None:
        if count < 2:
            return QueryPart(inf, 0.0, 0.0)
        variance = float((deviations**2).sum()) / (count - 1) / count
        return QueryPart(variance, count - 1.0, float((deviations**3).sum()) / count**3)
    ids = np.asarray(clusters)
    if ids.ndim not in (1, 2) or len(ids) != count or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"clusters must be integers [{count}] or [{count}, W], got {ids.shape} {ids.dtype}")
    ids = ids[:, None] if ids.ndim == 1 else ids
    ways = [_alone_apart(ids[:, way]) for way in range(ids.shape[1])]
    if len(ways) == 1:
        return _one_way(deviations, ways[0])
    return _crossed(deviations, ids, [_one_way(deviations, way) for way in ways])


def t_limits(variance: float, df: float, third: float, level: float) -> tuple[float, float]:
    """Lower and upper limit around an estimate of 0, from its variance and third cumulant.

    Hall's monotone cubic transformation takes the skewness out of the studentised estimate: rare large values on one
    side make a t interval miss on that side too often. References: Hall 1992, "On the removal of skewness by
    transformation".
    """
    if not isfinite(variance) or df <= 0:
        return -inf, inf
    if variance <= 0:
        return 0.0, 0.0
    error = float(np.sqrt(variance))
    quantile = float(special.stdtrit(df, (1 + level) / 2))
    skew = third / error**3
    return -error * _back(quantile, skew), -error * _back(-quantile, skew)


def _back(quantile: float, skew: float) -> float:
    """Inverse of t + skew t^2 / 3 + skew^2 t^3 / 27 + skew / 6, which is free of skewness to first order."""
    if abs(skew) < 1e-6:
        return quantile
    return float(3.0 / skew * (np.cbrt(1.0 + skew * (quantile - skew / 6.0)) - 1.0))


def _alone_apart(ids: npt.NDArray[np.integer]) -> Ints:
    """Numbers 0, 1, ... of one way; a query without a number gets one of its own."""
    alone = ids < 0
    _, index = np.unique(ids, return_inverse=True)
    index = index.astype(np.int64)
    index[alone] = index.max(initial=0) + 1 + np.arange(int(alone.sum()))
    return np.unique(index, return_inverse=True)[1].astype(np.int64)


def _one_way(deviations: Floats, index: Ints) -> QueryPart:
    """CR2 for a mean, with degrees of freedom under the intraclass correlation found in the deviations."""
    sums, sizes = np.bincount(index, weights=deviations), np.bincount(index).astype(np.float64)
    count, groups = len(deviations), len(sums)
    if groups < 2:
        return QueryPart(inf, 0.0, 0.0)
    share = sizes / count
    scaled = sums / np.sqrt(1.0 - share)
    variance = float((scaled**2).sum()) / count**2
    pairs = float((sizes**2).sum()) - count
    within = (float((sums**2).sum()) - float((deviations**2).sum())) / pairs if pairs > 0 else 0.0
    spread = float((deviations**2).mean())
    rho = min(max(within / spread, 0.0), 1.0) if spread > 0 else 0.0
    own = sizes * (1.0 + (sizes - 1.0) * rho)  # variance of a cluster's sum
    # Covariance of the scaled sums: D (diag(own) - own share' - share own' + total share share') D, D^2 = 1/(1 - share).
    weight, total = 1.0 / (1.0 - share), float(own.sum())
    diagonal = own - 2.0 * own * share + total * share**2
    low_rank = np.stack([own, share])
    inner = np.array([[0.0, -1.0], [-1.0, total]]) @ (low_rank * weight) @ low_rank.T
    squares = float((weight**2 * own**2).sum()) + 2.0 * float((weight**2 * own * (diagonal - own)).sum())
    squares += float(np.trace(inner @ inner))
    df = float((weight * diagonal).sum()) ** 2 / squares
    return QueryPart(variance, df, float((scaled**3).sum()) / count**3)


def _crossed(deviations: Floats, ids: npt.NDArray[np.integer], ways: list[QueryPart]) -> QueryPart:
    """Every pair of queries that has a number in common counts once."""
    count = len(deviations)
    known, index = np.unique(ids, return_inverse=True)
    index = index.reshape(ids.shape)
    real = ids >= 0
    rows = np.broadcast_to(np.arange(count)[:, None], ids.shape)[real]
    ones = np.ones(len(rows))
    held = sparse.csr_array((ones, (rows, index[real])), shape=(count, len(known)))
    held.data[:] = 1.0  # a number that a query has twice counts once
    together = (held @ held.T).tolil()
    together.setdiag(1.0)
    together = together.tocsr()
    together.data[:] = 1.0
    pairs = float(together.sum())
    if pairs >= count**2:
        return QueryPart(inf, 0.0, 0.0)
    variance = float(deviations @ (together @ deviations)) / count**2 / (1.0 - pairs / count**2)
    widest = max(ways, key=lambda way: way.variance)
    if not isfinite(widest.variance):
        return widest
    df = min(min(way.df for way in ways), count**2 / pairs)
    third = sum(way.third for way in ways) - (len(ways) - 1) * float((deviations**3).sum()) / count**3
    return QueryPart(max(variance, widest.variance), df, third)
