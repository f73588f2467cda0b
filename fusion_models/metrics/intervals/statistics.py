"""Intervals and p-values: over queries (or clusters of them), over training seeds, over a family of tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import ceil, inf, isfinite, nan

import numpy as np
import numpy.typing as npt
from scipy import special  # not scipy.stats, which takes every worker a second to load

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer]

DRAWS_AT_ONCE = 4_000_000
"""Random draws held in memory at one time."""


@dataclass(frozen=True)
class SeedPart:
    """What the trainings of one arm add to the variance of an estimate."""

    variance: float
    """Of the estimate, from the trainings drawn; what they share with the queries is in it."""
    shared: float
    """Of that: what the queries' part holds too. Both are estimates, so it may be the larger."""
    trainings: int

    @property
    def net(self) -> float:
        """What the queries' part does not hold; below 0 by chance, where trainings hardly differ."""
        return self.variance - self.shared

    @property
    def uncertain(self) -> float:
        """What counts against the degrees of freedom: known from the trainings alone.

        All of `variance` makes differences of recipes whose trainings hardly differ cover 98.6 %, `net` alone 94.4 %:
        half of what many queries tell as well is the middle (docs/evidence.md, "Level and coverage").
        """
        return max(self.variance - self.shared / 2, 0.0)

    @property
    def df(self) -> int:
        """Degrees of freedom of `variance`."""
        return self.trainings - 1


@dataclass(frozen=True)
class Variance:
    """What an interval's width is made of, kept so that `more_needed` can say what would narrow it."""

    query: float = nan
    """Variance of the mean that comes from the queries drawn."""
    query_df: float = nan
    queries: int = 0
    seed: float = 0.0
    """Variance of the mean that comes from the training seeds drawn; 0 where one given model is the subject."""
    seed_df: float = inf
    seeds: int = 1
    """Trainings; of the arm with the fewest, where there are two."""
    arms: tuple[SeedPart, ...] = ()
    """The seeds' part arm by arm, where the trainings are not paired."""
    skew: float = 0.0
    """Third cumulant of the mean over the queries drawn; 0 where the limits do not read it."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence limits; the limits are infinite where the data cannot bound it."""

    mean: float
    low: float
    high: float
    level: float = 0.95
    variance: Variance = field(default_factory=Variance, repr=False)

    @property
    def standard_error(self) -> float:
        """Of the estimate, from queries and seeds together; NaN where it is not known."""
        return float(np.sqrt(self.variance.query + self.variance.seed))


@dataclass(frozen=True)
class Needed:
    """What would settle an undecided gate, if the estimate and its variances stay as they are."""

    seeds: int | None
    """More training seeds on the same queries; None: no number of them would."""
    queries: int | None
    """More queries with the same seeds; None: no number of them would."""
    both: tuple[int, int] | None
    """More seeds and more queries, grown in one proportion; None: no number of them would."""


def paired_bootstrap(
    differences: npt.ArrayLike,
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    generator: np.random.Generator,
    clusters: npt.ArrayLike | None = None,
    weights: Floats | None = None,
) -> Interval:
    """Percentile bootstrap interval of the mean paired difference over queries (one given pair of rankers).

    Args:
        differences: `[Q]`, one ranker's value minus the other's on the same query, without NaN.
        resamples: bootstrap replicates, drawn in blocks so that memory stays bounded.
        clusters: `[Q]` integers: queries of one number are resampled together (the mean stays over queries).
        weights: `[Q]`, not negative: what each query counts in the mean; None: all alike.

    Returns:
        Infinite limits with fewer than two queries or clusters.

    Raises:
        ValueError: empty, not one-dimensional, NaN or infinite, or clusters of another length.

    References:
        Efron and Tibshirani 1993, chapters 13 and 8.5 (clusters).
    """
    values = _checked(differences, 1)
    sums, sizes = _cluster_sums(values, clusters)
    mean = float(values.mean())
    if weights is not None:
        (sums, _), (sizes, _) = _cluster_sums(values * weights, clusters), _cluster_sums(weights, clusters)
        mean = float(sums.sum() / sizes.sum())
    if len(sums) < 2:
        return Interval(mean, -inf, inf, level, Variance(query=inf, query_df=0, queries=len(values)))
    replicates = np.concatenate(
        [
            sums[drawn].sum(1) / sizes[drawn].sum(1)
            for drawn in _blocks(resamples, len(sums), lambda shape: generator.integers(0, len(sums), shape))
        ]
    )
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    variance = Variance(query=float(replicates.var()), query_df=_effective(sizes) - 1, queries=len(values))
    return Interval(mean, float(low), float(high), level, variance)


def sign_flip_p(
    differences: npt.ArrayLike,
    *,
    permutations: int = 10_000,
    generator: np.random.Generator,
    clusters: npt.ArrayLike | None = None,
    weights: Floats | None = None,
) -> float:
    """Two-sided p of a zero mean difference: paired permutation test by sign flips, with the +1 correction.

    `p = (1 + #{|flipped mean| >= |mean|}) / (1 + permutations)`: never 0. Queries of one cluster flip together.
    `differences`: `[Q]` without NaN (ValueError); `weights`: `[Q]`, what each query counts.
    References: Phipson and Smyth 2010 (the +1).
    """
    values = _checked(differences, 1)
    sums, _ = _cluster_sums(values if weights is None else values * weights, clusters)
    total, observed = sums.sum(), abs(sums.sum())
    tolerance = 1e-12 * np.abs(sums).sum()
    as_extreme = 0
    for flips in _blocks(permutations, len(sums), lambda shape: generator.integers(0, 2, shape, dtype=np.int8)):
        as_extreme += int((np.abs(total - 2.0 * (flips @ sums)) >= observed - tolerance).sum())
    return (1 + as_extreme) / (1 + permutations)


def holm(p: npt.ArrayLike) -> Floats:
    """Holm's step-down adjusted p-values, in the order given: `[K]` -> `[K]`. References: Holm 1979.

    Raises ValueError where a p is not in [0, 1].
    """
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"expected a list of p-values in [0, 1], got {values}")
    # Not statsmodels' `multipletests`: it collects garbage at every call, 0.14 s in a process that holds many objects.
    order = values.argsort()
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


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
    values = _checked(differences, 2)
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
    top, bottom = _checked(numerator, 2), _checked(denominator, 2)
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
    values = _checked(moments, 3)
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
    sums, sizes = _cluster_sums(deviations.mean(0) - deviations.mean(), clusters)
    groups = len(sums)
    query = groups / (groups - 1) * float((sums**2).sum()) / queries**2 if groups > 1 else inf
    seed = float(deviations.mean(1).var(ddof=1)) / seeds if seeds > 1 else inf
    variance = Variance(query, _effective(sizes) - 1, queries, seed, float(seeds - 1), seeds)
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


def _checked(values: npt.ArrayLike, dimensions: int) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(f"expected a non-empty array of {dimensions} dimensions, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(
            f"{int((~np.isfinite(array)).sum())} of {array.size} values are NaN or infinite; leave out the queries "
            "without a relevant document, on both sides alike"
        )
    return array


def _cluster_sums(values: Floats, clusters: npt.ArrayLike | None) -> tuple[Floats, Floats]:
    """Sum and size of each cluster `[C]`; every query its own where none are given."""
    if clusters is None:
        return values, np.ones(len(values))
    ids = np.asarray(clusters)
    if ids.shape != values.shape or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"clusters must be {values.shape} integers, got {ids.shape} {ids.dtype}")
    _, index = np.unique(ids, return_inverse=True)
    return np.bincount(index, weights=values).astype(np.float64), np.bincount(index).astype(np.float64)


def _effective(sizes: Floats) -> float:
    """Kish's effective number of clusters; the number itself where all are of one size."""
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def _blocks(rows: int, width: int, draw: Callable[[tuple[int, int]], Ints]) -> Iterator[Ints]:
    """`draw((n, width))` in blocks of bounded size until `rows` rows are drawn."""
    step = max(1, DRAWS_AT_ONCE // width)
    for start in range(0, rows, step):
        yield draw((min(step, rows - start), width))
