"""What more trainings or more queries would show, and what a design can show: plans for the next look at a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan, pi
from typing import Literal

import numpy as np
from scipy import special

from fusion_models.metrics.intervals.interval import Floats, Interval, SeedPart, Variance
from fusion_models.metrics.intervals.query_intervals import outer_limits

Side = Literal["either", "above", "below"]

DRAWS = 4_000
NORMAL = 1e4
"""Degrees of freedom from which Student's t is taken for normal."""


def look_level(look: int, alpha: float = 0.05) -> float:
    """Error level of the `look`-th look (1, 2, ...) at one split: alpha 6 / (pi^2 look^2), so that all keep alpha.

    An interval read then has the level 1 - `look_level(look)`. Raises ValueError for a look below 1.
    """
    if look < 1:
        raise ValueError(f"looks are counted from 1, got {look}")
    return alpha * 6.0 / (pi**2 * look**2)


def probability_settled(
    interval: Interval,
    threshold: float,
    *,
    trainings: Sequence[int] = (),
    queries: Sequence[int] = (),
    side: Side = "either",
    draws: int = DRAWS,
) -> Floats:
    """Chance that the whole interval lies on one side of `threshold` once there are more trainings, or more queries.

    The true value and the true variances are drawn from what the interval leaves open (flat priors), then the interval
    that a larger study would find: an estimate that keeps what is measured already, with variances estimated again.
    So an estimate that happens to lie far out, or a seed variance from five trainings, is not taken at its word.

    Args:
        interval: of `arm_difference`, `query_interval` or `seed_interval`. Its `level` is that of the one to come:
            replace it where that is read at another look.
        trainings: totals of each arm, `T` of them; an arm that has more keeps them. By default those there are.
        queries: totals, `N` of them; by default those there are.
        side: where the interval must come to lie; `above` is the chance that an "at least" gate passes.
        draws: how many, from one fixed seed for every cell of the grid.

    Returns:
        `[T, N]` probabilities; NaN where the interval's limits are infinite, for nothing is known of its variance.

    Raises:
        ValueError: a total below what there is.
    """
    part = interval.variance
    wanted_n, wanted_q = tuple(trainings) or (0,), tuple(queries) or (part.queries,)
    if any(0 < n < part.seeds for n in wanted_n) or min(wanted_q) < part.queries:
        raise ValueError(
            f"there are {part.seeds} trainings and {part.queries} queries already; asked for {wanted_n} and {wanted_q}"
        )
    out = np.full((len(wanted_n), len(wanted_q)), nan)
    if not (isfinite(interval.low) and isfinite(interval.high)):
        return out
    seed = int(np.random.default_rng(0).integers(2**62))
    for row, n in enumerate(wanted_n):
        for column, q in enumerate(wanted_q):
            low, high = _predicted(interval, n, q, draws, np.random.default_rng(seed))
            above, below = low > threshold, high < threshold
            settled = {"either": above | below, "above": above, "below": below}[side]
            out[row, column] = settled.mean()
    return out


def detectable(
    variance: Variance,
    *,
    trainings: int | None = None,
    queries: int | None = None,
    power: float = 0.8,
    level: float = 0.95,
) -> float:
    """How far beyond a threshold the true value must lie for the whole interval to lie beyond it with chance `power`.

    `variance` comes from any interval of the quantity, on other trainings and queries too: it is scaled to `trainings`
    an arm and `queries` (by default those there are). Infinite where the variance is not known. References: Lehmann and
    Romano 2005, section 5.2 (power of the t test by the noncentral t).

    Raises:
        ValueError: power not between 0 and 1, or less than two trainings or queries.
    """
    if not 0 < power < 1:
        raise ValueError(f"power must lie between 0 and 1, got {power}")
    if (trainings is not None and trainings < 2) or (queries is not None and queries < 2):
        raise ValueError(f"a spread needs two trainings and two queries, got {trainings} and {queries}")
    if not isfinite(variance.query + variance.seed):
        return inf
    arms = _arms(variance)
    totals = [trainings if trainings is not None else arm.trainings for arm in arms]
    query, df = _scaled_query(variance, arms, totals, queries or variance.queries)
    scale = np.array([arm.trainings / n for arm, n in zip(arms, totals, strict=True)])
    net, uncertain = np.array([arm.net for arm in arms]) * scale, np.array([arm.uncertain for arm in arms]) * scale
    total = query + max(float(net.sum()), 0.0)
    weight = query**2 / df + sum(u**2 / (n - 1) for u, n in zip(uncertain, totals, strict=True))
    if total <= 0:
        return 0.0
    freedom = total**2 / weight
    quantile = float(special.stdtrit(freedom, (1 + level) / 2))
    if freedom >= NORMAL:
        return float(np.sqrt(total)) * (quantile + float(special.ndtri(power)))
    return float(np.sqrt(total) * special.nctdtrinc(freedom, 1 - power, quantile))


@dataclass(frozen=True)
class _Pooled:
    """A variance estimated from what there is and what will be added, in draws."""

    true: Floats
    """Of the mean as it is now."""
    estimate: Floats
    """Of the mean as it is now, from all data to come."""


def _predicted(
    interval: Interval, trainings: int, queries: int, draws: int, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """Lower and upper limit of the interval to come, `[draws]` each."""
    part = interval.variance
    arms = _arms(part)
    totals = [max(arm.trainings, trainings) for arm in arms]
    query_after, df_after = _scaled_query(part, arms, totals, queries)
    query = _pooled(part.query, part.query_df, df_after, draws, random)
    shrink = query_after / part.query if part.query > 0 else 0.0
    now, then = query.true.copy(), query.true * shrink
    total, weight, seeds = query.estimate * shrink, (query.estimate * shrink) ** 2 / df_after, np.zeros(draws)
    for arm, n in zip(arms, totals, strict=True):
        gross, share = _pooled(arm.variance, arm.df, n - 1.0, draws, random), arm.trainings / n
        net = np.maximum(gross.true - arm.shared, 0.0)
        now, then = now + net, then + net * share
        seeds = seeds + (gross.estimate - arm.shared) * share
        weight = weight + (np.maximum(gross.estimate - arm.shared / 2, 0.0) * share) ** 2 / (n - 1)
    total = total + np.maximum(seeds, 0.0)
    mean = interval.mean + np.sqrt(np.maximum(now - then, 0.0)) * random.standard_normal(draws)
    freedom = np.divide(total**2, weight, out=np.full(draws, 1.0), where=weight > 0)
    low, high = outer_limits(total, freedom, part.skew * (part.queries / queries) ** 2, interval.level)
    return mean + low, mean + high


def _pooled(variance: float, df: float, df_after: float, draws: int, random: np.random.Generator) -> _Pooled:
    """The true variance behind an estimate, and the estimate from the degrees of freedom to come."""
    known = np.full(draws, variance)
    true = variance * df / random.chisquare(df, draws) if isfinite(df) and df > 0 else known
    more = df_after - df
    if not (isfinite(df_after) and more > 1e-9):
        return _Pooled(true, known)
    return _Pooled(true, (df * variance + true * random.chisquare(more, draws)) / df_after)


def _scaled_query(part: Variance, arms: Sequence[SeedPart], totals: Sequence[int], queries: int) -> tuple[float, float]:
    """The queries' variance with other totals, and its degrees of freedom; what trainings share in it shrinks twice."""
    share = part.queries / queries
    shrunk = sum(arm.shared * (1.0 - arm.trainings / n) for arm, n in zip(arms, totals, strict=True))
    return max(part.query - shrunk, 0.0) * share, max((part.query_df + 1.0) / share - 1.0, 1e-9)


def _arms(part: Variance) -> tuple[SeedPart, ...]:
    """The arms of an interval; one where its trainings are paired, none where one given ranker is the subject."""
    if part.arms or part.seed <= 0:
        return part.arms
    return (SeedPart(part.seed, 0.0, part.seeds),)
