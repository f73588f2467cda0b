"""Intervals of a recipe: its training seeds are drawn as well as its queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf, isfinite

import numpy as np
import numpy.typing as npt
from scipy import special  # not scipy.stats, which takes every worker a second to load

from fusion_models.metrics.intervals.cluster_sums import checked, cluster_sums, effective_number
from fusion_models.metrics.intervals.interval import Floats, Interval, Variance


@dataclass(frozen=True)
class Needed:
    """What would settle an undecided gate, if the estimate and its variances stay as they are."""

    seeds: int | None
    """More training seeds on the same queries; None: no number of them would."""
    queries: int | None
    """More queries with the same seeds; None: no number of them would."""
    both: tuple[int, int] | None
    """More seeds and more queries, grown in one proportion; None: no number of them would."""


def seed_interval(differences: npt.ArrayLike, clusters: npt.ArrayLike | None = None, level: float = 0.95) -> Interval:
    """Interval of a recipe's mean over training seeds and over the queries that its data stand for.

    Variance = query variance of the seed-averaged differences / Q + variance of the seeds' means / S; degrees of
    freedom after Satterthwaite; t quantile. What seed and query share (their interaction) is in both parts, which
    errs on the wide side. Satterthwaite errs on the narrow side where seeds are few and vary much: 95 % is in truth
    92 to 95 % with three seeds, but down to 87 % with two, too few to decide by (docs/log.md). With clusters the
    query part is the cluster-robust variance of the mean, and its degrees of freedom are the effective number of
    clusters, (sum of sizes)^2 / sum of squared sizes, less one.

    Args:
        differences: `[S, Q]`: seed by query, the same queries for every seed, without NaN.
        clusters: `[Q]` integers: queries that share items or words.

    Returns:
        Infinite limits with one seed (a recipe's spread cannot be known from one training), or one query or cluster.

    Raises:
        ValueError: not `[S, Q]`, empty, NaN or infinite, or clusters of another length.

    References:
        Satterthwaite 1946; Liang and Zeger 1986 (cluster-robust variance).
    """
    values = checked(differences, 2)
    return _interval(float(values.mean()), values, clusters, level)


def seed_ratio_interval(
    numerator: npt.ArrayLike,
    denominator: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """As `seed_interval`, for the ratio mean(numerator) / mean(denominator), by the delta method.

    A masking drop is `seed_ratio_interval(full - masked, full)`: 1 - mean(masked) / mean(full).

    Args:
        numerator, denominator: `[S, Q]`, the same seeds and queries.

    Raises:
        ValueError: as `seed_interval`, or shapes differ, or the denominator's mean is not above 0.
    """
    top, bottom = checked(numerator, 2), checked(denominator, 2)
    if top.shape != bottom.shape:
        raise ValueError(f"numerator and denominator differ in shape: {top.shape} and {bottom.shape}")
    if bottom.mean() <= 0:
        raise ValueError(f"the denominator's mean must be above 0, got {bottom.mean()}")
    ratio = float(top.mean() / bottom.mean())
    return _interval(ratio, (top - ratio * bottom) / bottom.mean(), clusters, level)


def seed_correlation_interval(
    moments: npt.ArrayLike, clusters: npt.ArrayLike | None = None, level: float = 0.95
) -> Interval:
    """As `seed_interval`, for a correlation pooled over queries, by the delta method; limits cut at -1 and 1.

    Args:
        moments: `[S, Q, 3]`: sums of `a b`, `a a`, `b b` of each query (`agreement.centred_moments`).

    Raises:
        ValueError: as `seed_interval`, or one side does not vary at all.
    """
    values = checked(moments, 3)
    ab, aa, bb = (values[..., i] for i in range(3))
    if values.shape[-1] != 3 or aa.mean() <= 0 or bb.mean() <= 0:
        raise ValueError(
            f"expected moments [S, Q, 3] of scores that vary, got {values.shape}, {aa.mean()}, {bb.mean()}"
        )
    scale = float(np.sqrt(aa.mean() * bb.mean()))
    correlation = float(ab.mean() / scale)
    influence = ab / scale - correlation * (aa / aa.mean() + bb / bb.mean()) / 2
    found = _interval(correlation, influence, clusters, level)
    low, high = (max(found.low, -1.0), min(found.high, 1.0)) if isfinite(found.low) else (-inf, inf)
    return Interval(correlation, low, high, level, found.variance)


def more_needed(interval: Interval, threshold: float, *, most: int = 1_000_000) -> Needed:
    """How many more seeds, or how many more queries, would put the whole interval on one side of `threshold`.

    Takes the estimate and its two variances as they stand: a plan, not a promise. 0 where it is settled already, None
    where no number up to `most` would do. It needs an interval of this file with finite limits (else all are None).
    """
    if threshold < interval.low or threshold > interval.high:
        return Needed(0, 0, (0, 0))
    part, distance = interval.variance, abs(interval.mean - threshold)
    if not isfinite(part.query + part.seed + interval.low):
        return Needed(None, None, None)

    def settled(more_seeds: int, more_queries: int) -> bool:
        seeds, queries = (part.seeds + more_seeds) / part.seeds, (part.queries + more_queries) / part.queries
        query_df = (part.query_df + 1) * queries - 1
        half = _half_width(part.query / queries, query_df, part.seed / seeds, part.seed_df + more_seeds, interval.level)
        return half < distance

    def proportional(seeds: int) -> int:
        return ceil(seeds * part.queries / part.seeds)

    seeds = _smallest(lambda n: settled(n, 0), most)
    queries = _smallest(lambda n: settled(0, n), most)
    both = _smallest(lambda n: settled(n, proportional(n)), most) if part.seed > 0 else None
    return Needed(seeds, queries, (both, proportional(both)) if both is not None else None)


def _interval(mean: float, deviations: Floats, clusters: npt.ArrayLike | None, level: float) -> Interval:
    """t interval around `mean` from values `[S, Q]` whose spread is that of the estimate's linear form."""
    seeds, queries = deviations.shape
    sums, sizes = cluster_sums(deviations.mean(0) - deviations.mean(), clusters)
    groups = len(sums)
    query = groups / (groups - 1) * float((sums**2).sum()) / queries**2 if groups > 1 else inf
    seed = float(deviations.mean(1).var(ddof=1)) / seeds if seeds > 1 else inf
    variance = Variance(query, effective_number(sizes) - 1, queries, seed, float(seeds - 1), seeds)
    if not (isfinite(query) and isfinite(seed)):
        return Interval(mean, -inf, inf, level, variance)
    half = _half_width(query, variance.query_df, seed, variance.seed_df, level)
    return Interval(mean, mean - half, mean + half, level, variance)


def _half_width(query: float, query_df: float, seed: float, seed_df: float, level: float) -> float:
    total = query + seed
    if total <= 0:
        return 0.0
    df = total**2 / (query**2 / query_df + seed**2 / seed_df)
    return float(special.stdtrit(df, (1 + level) / 2)) * float(np.sqrt(total))


def _smallest(holds: Callable[[int], bool], most: int) -> int | None:
    """Smallest n >= 1 for which a condition that stays true holds, by doubling and halving."""
    above = 1
    while not holds(above):
        above *= 2
        if above > most:
            return None
    below = above // 2
    while above - below > 1:
        middle = (above + below) // 2
        below, above = (below, middle) if holds(middle) else (middle, above)
    return above
