"""Ensembles of trainings of one recipe, and differences of recipes that are released as ensembles.

A recipe is known by n fresh trainings and released as k of them, their within-query standardised scores averaged. So
its quality is the mean over the k-subsets of the n, a U-statistic, and its seed variance the delete-one jackknife's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb, inf, isfinite

import numpy as np
import numpy.typing as npt
import torch

from fusion_models.metrics.fusion import standardise
from fusion_models.metrics.intervals.interval import Floats, Interval, SeedPart, Variance
from fusion_models.metrics.intervals.query_intervals import Clustering, Clusters, clusters_of, t_limits
from fusion_models.metrics.intervals.weights import counted, linearised, of_rows
from fusion_models.metrics.ndcg import ndcg, scaled_gains
from fusion_models.metrics.ranking_metric import RankingMetric

Bools = npt.NDArray[np.bool_]
QueryValues = Callable[[Floats], Floats]
"""Scores `[Q, L]` of a ranker, in the scale of `standardised`, -> a value a query `[Q]`."""

MOST_SUBSETS = 500
"""Subsets scored for one arm: all of them up to 4 of 12."""
DEPTH = 10


def standardised(scores: npt.ArrayLike, valid: npt.ArrayLike) -> Floats:
    """Mean 0 and (population) deviation 1 within each query: `[..., Q, L]` -> float64 of that shape.

    0 in padding, in constant lists and in lists of one candidate. `valid`: `[Q, L]` bool. Raises ValueError for NaN
    scores of real documents.
    """
    array, real = np.asarray(scores, dtype=np.float64), np.asarray(valid, dtype=np.bool_)
    if array.ndim < 2 or array.shape[-2:] != real.shape:
        raise ValueError(f"expected scores [..., Q, L] of lists {real.shape}, got {array.shape}")
    lists = torch.from_numpy(np.ascontiguousarray(array)).reshape(-1, array.shape[-1])
    every = torch.from_numpy(np.broadcast_to(real, array.shape).copy()).reshape(lists.shape)
    found: Floats = standardise(lists, every).reshape(array.shape).numpy()
    return found


def ensemble_scores(scores: npt.ArrayLike, valid: npt.ArrayLike) -> Floats:
    """Scores of the ranker that is all trainings together: `[n, Q, L]` -> `[Q, L]`, the mean of `standardised`."""
    array = np.asarray(scores)
    if array.ndim != 3 or len(array) == 0:
        raise ValueError(f"expected scores [n, Q, L] of at least one training, got {array.shape}")
    return np.asarray(standardised(array, valid).mean(axis=0))


@dataclass(frozen=True)
class Arm:
    """What n trainings of one recipe tell of its ensembles of k, a query."""

    mean: Floats
    """`[Q]`: the quantity of an ensemble of k, averaged over the k-subsets of the trainings."""
    left_out: Floats
    """`[n, Q]`: the same from the subsets without training i."""
    k: int
    weights: Floats | None = None
    """`[Q]`: what each query counts; None: all alike."""

    @property
    def n(self) -> int:
        """Trainings."""
        return len(self.left_out)

    def usable(self) -> Bools:
        """`[Q]`: queries that have a value and count."""
        return counted(self.mean, self.weights)

    def on(self, rows: Bools) -> Floats:
        """`[R]`: values of some queries, whose plain mean is the mean by their weights."""
        return linearised(self.mean[rows], of_rows(self.weights, rows))

    def seed_part(self, rows: Bools, clustering: Clustering) -> SeedPart:
        """Variance of the mean over `rows` `[Q]` that comes from the trainings drawn, by the delete-one jackknife.

        `clustering` is that of these rows. The jackknife's variance holds what trainings and queries share, and so does
        the queries' part: `shared` says how much, to be counted once (Cameron, Gelbach and Miller 2011). References:
        Efron and Stein 1981 (the jackknife errs upwards), Arvesen 1969 (of U-statistics).
        """
        n = self.n
        influence = (n - 1) * (self.mean[rows] - self.left_out[:, rows])
        influence = linearised(influence - influence.mean(axis=0), of_rows(self.weights, rows))
        scale = 1.0 / (n * (n - 1))
        variance = scale * float((influence.mean(axis=1) ** 2).sum())
        shared = scale * sum(clustering.part(row).variance for row in influence)
        return SeedPart(variance, shared if isfinite(shared) else 0.0, n)


def arm(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    valid: npt.ArrayLike,
    k: int,
    *,
    most_subsets: int = MOST_SUBSETS,
    generator: np.random.Generator | None = None,
) -> Arm:
    """The arm of `scores` `[n, Q, L]` by nDCG@10: NaN where a query has no relevant document. See `arm_of`."""
    values = ndcg_of(labels, valid)
    return arm_of(scores, valid, values, k, most_subsets=most_subsets, generator=generator)


def arm_of(
    scores: npt.ArrayLike,
    valid: npt.ArrayLike,
    values: QueryValues,
    k: int,
    *,
    most_subsets: int = MOST_SUBSETS,
    generator: np.random.Generator | None = None,
) -> Arm:
    """The arm of n trainings' scores `[n, Q, L]` by any quantity that a ranker has a query.

    All k-subsets are scored where there are at most `most_subsets` of them; else a sample in which every training
    stands equally often, drawn from `generator` (by default one of a fixed seed: the same arm twice is the same arm).

    Raises:
        ValueError: fewer than k + 1 trainings (their spread would be unknown), k < 1, or shapes that do not fit.
    """
    array = np.asarray(scores)
    if array.ndim != 3:
        raise ValueError(f"expected scores [n, Q, L], got {array.shape}")
    n = len(array)
    if k < 1 or n < k + 1:
        raise ValueError(
            f"{n} trainings cannot tell how ensembles of {k} vary: train at least {max(k, 1) + 1} with fresh seeds"
        )
    members = standardised(array, valid)
    held = _memberships(n, k, most_subsets, generator or np.random.default_rng(0))
    totals, left = np.zeros(array.shape[1]), np.zeros(array.shape[:2])
    for subset in held:
        value = values(members[subset].mean(axis=0))
        totals += value
        left[~subset] += value
    return Arm(totals / len(held), left / (~held).sum(axis=0)[:, None], k)


def metric_of(metric: RankingMetric, labels: npt.ArrayLike, valid: npt.ArrayLike) -> QueryValues:
    """A metric of lists `[Q, L]` as a function of their scores."""
    if metric.kind == "ndcg":
        return ndcg_of(labels, valid, metric.cutoff)
    grades = torch.from_numpy(np.ascontiguousarray(labels, dtype=np.float64))
    every = torch.from_numpy(np.ascontiguousarray(valid, dtype=np.bool_))
    return lambda scores: np.asarray(metric(torch.from_numpy(np.ascontiguousarray(scores)), grades, every).numpy())


def ndcg_of(labels: npt.ArrayLike, valid: npt.ArrayLike, depth: int = DEPTH) -> QueryValues:
    """nDCG at `depth` of lists `[Q, L]` as a function of their scores; the numbers of `fusion_models.metrics.ndcg`.

    What does not hang on the scores is reckoned once, and lists without ties are read off one sort: a tenth of the
    time. Raises ValueError for labels that are negative or not finite.
    """
    real = np.asarray(valid, dtype=np.bool_)
    grades = torch.from_numpy(np.where(real, np.asarray(labels, dtype=np.float64), 0.0))
    every = torch.from_numpy(real)
    ndcg(torch.zeros_like(grades), grades, every, depth)  # checks the labels
    gains = scaled_gains(grades, every).numpy()
    ranks = np.arange(1, real.shape[1] + 1)
    discounts = np.where(ranks <= depth, 1.0 / np.log2(ranks + 1.0), 0.0)
    ideal = -np.sort(-gains, axis=1) @ discounts
    flat, row = gains.ravel(), np.arange(len(gains))[:, None] * gains.shape[1]

    def values(scores: Floats) -> Floats:
        keys = np.where(real, -scores, inf)
        order = np.argsort(keys, axis=1)
        ordered = keys.ravel()[order + row]
        with np.errstate(invalid="ignore"):
            found = np.where(ideal > 0, (flat[order + row] @ discounts) / ideal, np.nan)
        tied = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] < inf)).any(axis=1) | np.isnan(keys).any(axis=1)
        if tied.any():
            some = torch.from_numpy(tied)
            found[tied] = ndcg(torch.from_numpy(scores[tied]), grades[some], every[some], depth).numpy()
        return np.asarray(found)

    return values


def arm_difference(a: Arm, b: Arm | npt.ArrayLike, clusters: Clusters = None, level: float = 0.95) -> Interval:
    """Mean of `a` less mean of `b`, of the two recipes: over the trainings and the queries that those given stand for.

    Variance = the queries' (of the difference a query, cluster-robust) + each arm's trainings', unpaired, less what is
    in both. Limits are t with Satterthwaite's degrees of freedom, widened for the skewness of the queries' part.

    Args:
        a: one recipe.
        b: another on the same queries, or the values a query `[Q]` of one given ranker, which has no seeds.
        clusters: which queries stand together; see `query_interval`.

    Returns:
        The interval over queries that have a value on both sides, each by its weight in `a`; infinite limits
        with fewer than two of them.

    Raises:
        ValueError: arms of other queries, or of ensembles of another size (averaging would be booked as a difference).
    """
    other = b.mean if isinstance(b, Arm) else np.asarray(b, dtype=np.float64)
    if other.shape != a.mean.shape:
        raise ValueError(f"the two sides hold other queries: {a.mean.shape} and {other.shape}")
    if isinstance(b, Arm) and a.k != b.k:
        raise ValueError(f"an ensemble of {a.k} against one of {b.k}: build both arms with one k")
    difference = a.mean - other
    rows = counted(difference, a.weights)
    if not rows.any():
        raise ValueError("no query has a value on both sides: none has a relevant document")
    clustering = Clustering(clusters_of(clusters, rows), int(rows.sum()))
    arms = [a, b] if isinstance(b, Arm) else [a]
    values = linearised(difference[rows], of_rows(a.weights, rows))
    return recipe_interval(values, [one.seed_part(rows, clustering) for one in arms], clustering, level)


def recipe_interval(
    values: Floats,
    seeds: Sequence[SeedPart],
    clustering: Clustering,
    level: float = 0.95,
    mean: float | None = None,
) -> Interval:
    """Interval from influence values `[Q]`, finite, and the seeds' part of each arm; see `arm_difference`.

    `mean`: the estimate, where it is not the values' mean (a ratio or a correlation, by the delta method).
    """
    estimate = float(values.mean()) if mean is None else mean
    part = clustering.part(values)
    total, df = combined(part.variance, part.df, seeds)
    net = max(sum(seed.net for seed in seeds), 0.0)
    spread = sum(seed.uncertain**2 / seed.df for seed in seeds)
    variance = Variance(
        query=part.variance,
        query_df=part.df,
        queries=len(values),
        seed=net,
        seed_df=net**2 / spread if net > 0 and spread > 0 else inf,
        seeds=min((seed.trainings for seed in seeds), default=1),
        arms=tuple(seeds),
        skew=part.third,
    )
    low, high = t_limits(total, df, part.third, level)
    return Interval(estimate, estimate + low, estimate + high, level, variance)


def combined(query: float, query_df: float, seeds: Sequence[SeedPart]) -> tuple[float, float]:
    """Variance of an estimate, and Satterthwaite's degrees of freedom, from its queries' part and its arms' parts."""
    total = query + max(sum(seed.net for seed in seeds), 0.0)
    weight = query**2 / query_df if query_df > 0 else inf
    weight += sum(seed.uncertain**2 / seed.df for seed in seeds)
    return total, total**2 / weight if weight > 0 else inf


def _memberships(n: int, k: int, most: int, generator: np.random.Generator) -> Bools:
    """`[M, n]`: the members of each subset of k; every training stands in equally many."""
    if comb(n, k) <= max(most, 1):
        chosen = np.array(list(combinations(range(n), k)))
    else:  # all circular windows of k over a random order hold every training k times
        window = (np.arange(n)[:, None] + np.arange(k)) % n
        chosen = np.concatenate([generator.permutation(n)[window] for _ in range(max(1, most // n))])
    held = np.zeros((len(chosen), n), dtype=np.bool_)
    np.put_along_axis(held, chosen, True, axis=1)
    return held
