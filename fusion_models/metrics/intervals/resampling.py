"""Resampling one given pair of rankers: the paired bootstrap, p-values by sign flips, and their correction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf

import numpy as np
import numpy.typing as npt

from fusion_models.metrics.intervals.cluster_sums import checked, cluster_sums, effective_number
from fusion_models.metrics.intervals.interval import Floats, Interval, Variance

Ints = npt.NDArray[np.integer]

DRAWS_AT_ONCE = 4_000_000
"""Random draws held in memory at one time."""


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
    values = checked(differences, 1)
    sums, sizes = cluster_sums(values, clusters)
    mean = float(values.mean())
    if weights is not None:
        (sums, _), (sizes, _) = cluster_sums(values * weights, clusters), cluster_sums(weights, clusters)
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
    variance = Variance(query=float(replicates.var()), query_df=effective_number(sizes) - 1, queries=len(values))
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
    values = checked(differences, 1)
    sums, _ = cluster_sums(values if weights is None else values * weights, clusters)
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


def _blocks(rows: int, width: int, draw: Callable[[tuple[int, int]], Ints]) -> Iterator[Ints]:
    """`draw((n, width))` in blocks of bounded size until `rows` rows are drawn."""
    step = max(1, DRAWS_AT_ONCE // width)
    for start in range(0, rows, step):
        yield draw((min(step, rows - start), width))
