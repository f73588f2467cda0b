"""Cluster-robust intervals over queries: with one clustering, or with several that cross."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, isfinite

import numpy as np
import numpy.typing as npt
from scipy import sparse, special

from fusion_models.metrics.intervals.interval import Floats, Interval, Variance

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ties:
    """Which queries stand together, where numbers alone do not say it: main clusters, and pairs beside them."""

    main: Ints
    """`[Q]`: clusters that do not cross, whose leverage is counted; negative: a query that has none."""
    pairs: sparse.csr_array
    """`[Q, Q]`: symmetric, ones where two queries stand together in any way; its diagonal is not read."""

    def __post_init__(self) -> None:
        """Raise ValueError where the two do not fit."""
        if self.main.ndim != 1 or self.pairs.shape != (len(self.main),) * 2:
            raise ValueError(f"expected clusters [Q] and pairs [Q, Q], got {self.main.shape} and {self.pairs.shape}")

    def __len__(self) -> int:
        """Queries."""
        return len(self.main)

    def __getitem__(self, rows: npt.NDArray[np.bool_ | np.integer]) -> Ties:
        """The same of some queries: `rows` as numpy takes them, a mask or numbers."""
        chosen = np.arange(len(self.main))[rows]
        return Ties(self.main[chosen], sparse.csr_array(self.pairs[chosen][:, chosen]))


Clusters = npt.ArrayLike | Ties | None
"""As `query_interval` takes them."""


def clusters_of(clusters: Clusters, rows: npt.NDArray[np.bool_ | np.integer]) -> Clusters:
    """`clusters` of some queries alone: `rows` is a mask or numbers."""
    if clusters is None:
        return None
    return clusters[rows] if isinstance(clusters, Ties) else np.array(np.asarray(clusters)[rows])


SURE_OF_SKEW = 10.0
"""Degrees of freedom at which the skewness found is believed by half; fewer say little of it."""


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
    clusters: Clusters = None,
    level: float = 0.95,
) -> Interval:
    """Interval over queries of a quantity of one given ranker, from each query's influence on it.

    For a mean over queries the influence is the value itself; for a ratio or a correlation it is that of the delta
    method. Only its deviations from its mean are read.

    Args:
        influence: `[Q]`, finite.
        mean: the estimate; by default the mean of `influence`.
        clusters: None; `[Q]` numbers, equal where queries stand together; or `[Q, W]`, where two queries stand together
            if they have any number in common (words and items, numbered apart, by `crossed`). Negative: no number. Or
            `Ties`, which say it pair by pair.

    Returns:
        t limits, farther on the side that skewness makes miss (`t_limits`); infinite with fewer than two clusters.

    Raises:
        ValueError: not `[Q]`, empty, NaN or infinite, or clusters of another length or not integers.

    References:
        Liang and Zeger 1986, Bell and McCaffrey 2002 (the leverage of large clusters);
        Cameron, Gelbach and Miller 2011 (crossed clusters: each pair that stands together counts once).
    """
    values = np.asarray(influence, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"expected finite influence values [Q], got shape {values.shape} with {values[:3]} ...")
    estimate = float(values.mean()) if mean is None else mean
    part = Clustering(clusters, len(values)).part(values)
    low, high = t_limits(part.variance, part.df, part.third, level)
    variance = Variance(query=part.variance, query_df=part.df, queries=len(values), skew=part.third)
    return Interval(estimate, estimate + low, estimate + high, level, variance)


def query_ratio_interval(
    numerator: npt.ArrayLike, denominator: npt.ArrayLike, clusters: Clusters = None, level: float = 0.95
) -> Interval:
    """As `query_interval`, for mean(numerator) / mean(denominator), both `[Q]`, by the delta method.

    A masking drop is `query_ratio_interval(full - masked, full)`. Raises ValueError where the denominator's mean is not
    above 0.
    """
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    if top.shape != bottom.shape or not bottom.mean() > 0:
        raise ValueError(f"expected a denominator [Q] with a mean above 0 beside {top.shape}, got {bottom.shape}")
    ratio = float(top.mean() / bottom.mean())
    return query_interval((top - ratio * bottom) / bottom.mean(), ratio, clusters, level)


def query_correlation_interval(moments: npt.ArrayLike, clusters: Clusters = None, level: float = 0.95) -> Interval:
    """As `query_interval`, for a correlation pooled over queries, by the delta method; limits cut at -1 and 1.

    `moments`: `[Q, 3]`, sums of `a b`, `a a`, `b b` of each query (`agreement.centred_moments`). Raises ValueError
    where one side does not vary at all.
    """
    values = np.asarray(moments, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != 3 or not (values[:, 1:].mean(axis=0) > 0).all():
        raise ValueError(f"expected moments [Q, 3] of scores that vary, got {values.shape}")
    ab, aa, bb = values.T
    scale = float(np.sqrt(aa.mean() * bb.mean()))
    correlation = float(ab.mean() / scale)
    influence = ab / scale - correlation * (aa / aa.mean() + bb / bb.mean()) / 2
    found = query_interval(influence, correlation, clusters, level)
    if not isfinite(found.low):
        return found
    return replace(found, low=max(found.low, -1.0), high=min(found.high, 1.0))


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


class Clustering:
    """Which of `count` queries stand together, made ready for many estimates on the same queries."""

    def __init__(self, clusters: Clusters, count: int) -> None:
        """`clusters` as in `query_interval`; raises ValueError as there."""
        ties = clusters if isinstance(clusters, Ties) else None
        ids = np.arange(count) if clusters is None else np.asarray(clusters if ties is None else ties.main)
        if ids.ndim not in (1, 2) or len(ids) != count or not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(f"clusters must be integers [{count}] or [{count}, W], got {ids.shape} {ids.dtype}")
        ids = ids[:, None] if ids.ndim == 1 else ids
        self._count = count
        self._ways = [_alone_apart(ids[:, way]) for way in range(ids.shape[1])]
        together = _pairs(ids) if len(self._ways) > 1 or ties is not None else None
        if ties is not None and together is not None:
            together = _ones(sparse.csr_array(together + ties.pairs))
        self._together = together

    def part(self, values: Floats) -> QueryPart:
        """Cluster-robust variance of the mean of `values` `[Q]`."""
        deviations, count = values - values.mean(), self._count
        ways = [_one_way(deviations, way) for way in self._ways]
        widest = max(ways, key=lambda way: way.variance)
        if self._together is None or not isfinite(widest.variance):
            return widest
        pairs = float(self._together.sum())
        if pairs >= count**2:
            return QueryPart(inf, 0.0, 0.0)
        variance = float(deviations @ (self._together @ deviations)) / (count**2 - pairs)
        df = min(min(way.df for way in ways), count**2 / pairs - 1.0)
        own = float((deviations**3).sum()) / count**3
        third = sum(way.third - own for way in ways) + own
        return QueryPart(max(variance, widest.variance), df, third)


def t_limits(variance: float, df: float, third: float, level: float) -> tuple[float, float]:
    """Lower and upper limit around an estimate of 0, from its variance and third cumulant.

    Rare large values on one side make a t interval miss on that side too often. Hall's monotone cubic transformation
    takes the skewness out of the studentised estimate. Each limit is the outer one of Student's and Hall's: where few
    values carry everything, the skewness of a sample is no better known than its mean, and an interval moved by it
    misses on the other side (docs/log.md). References: Hall 1992, "On the removal of skewness by transformation".
    """
    if not isfinite(variance) or df <= 0:
        return -inf, inf
    if variance <= 0:
        return 0.0, 0.0
    low, high = outer_limits(np.array([variance]), np.array([df]), third, level)
    return float(low[0]), float(high[0])


def outer_limits(variance: Floats, df: Floats, third: float, level: float) -> tuple[Floats, Floats]:
    """As `t_limits`, of many variances `[N]`, not negative, with their degrees of freedom `[N]`, above 0."""
    error = np.sqrt(variance)
    quantile = np.asarray(special.stdtrit(df, (1 + level) / 2), dtype=np.float64)
    believed = np.divide(df, df + SURE_OF_SKEW, out=np.ones_like(df), where=np.isfinite(df))
    skew = np.divide(third * believed, error**3, out=np.zeros_like(error), where=error > 0)
    low, high = np.maximum(quantile, _back(quantile, skew)), np.maximum(quantile, -_back(-quantile, skew))
    return -error * low, error * high


def _back(quantile: Floats, skew: Floats) -> Floats:
    """Inverse of t + skew t^2 / 3 + skew^2 t^3 / 27 + skew / 6, which is free of skewness to first order."""
    known = np.where(np.abs(skew) < 1e-6, 1.0, skew)
    found = 3.0 / known * (np.cbrt(1.0 + known * (quantile - known / 6.0)) - 1.0)
    return np.asarray(np.where(np.abs(skew) < 1e-6, quantile, found))


def _alone_apart(ids: npt.NDArray[np.integer]) -> Ints:
    """Numbers 0, 1, ... of one way; a query without a number gets one of its own."""
    alone = ids < 0
    numbers = ids.astype(np.int64)
    numbers[alone] = numbers.max(initial=0) + 1 + np.arange(int(alone.sum()))
    return np.unique(numbers, return_inverse=True)[1].astype(np.int64)


def _one_way(deviations: Floats, index: Ints) -> QueryPart:
    """Clusters that do not cross: each sum's square, freed of its leverage (CR2, which for a mean is a factor).

    Degrees of freedom: Kish's effective number of clusters less one, or what the fourth powers of the sums say of the
    variance's own variance, whichever is less: few values, or clusters, may carry everything.
    """
    sums, sizes = np.bincount(index, weights=deviations), np.bincount(index).astype(np.float64)
    count, groups = len(deviations), len(sums)
    if groups < 2:
        return QueryPart(inf, 0.0, 0.0)
    scaled = sums / np.sqrt(1.0 - sizes / count)
    squares = float((scaled**2).sum())
    df = count**2 / float((sizes**2).sum()) - 1.0
    if squares > 0:
        excess = float((scaled**4).sum()) / squares**2 - 1.0 / groups
        df = min(df, 2.0 / excess) if excess > 0 else df
    return QueryPart(squares / count**2, df, float((scaled**3).sum()) / count**3)


def _pairs(ids: npt.NDArray[np.integer]) -> sparse.csr_array:
    """`[Q, Q]` ones where two queries have a number in common; each query stands with itself."""
    count = len(ids)
    known, index = np.unique(ids, return_inverse=True)
    index, real = index.reshape(ids.shape), ids >= 0
    rows = np.broadcast_to(np.arange(count)[:, None], ids.shape)[real]
    held = sparse.csr_array((np.ones(len(rows)), (rows, index[real])), shape=(count, len(known)))
    return _ones(sparse.csr_array(held @ held.T + sparse.eye_array(count)))


def _ones(matrix: sparse.csr_array) -> sparse.csr_array:
    """The same entries, each 1."""
    matrix.eliminate_zeros()
    matrix.data[:] = 1.0
    return matrix
