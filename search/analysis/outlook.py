"""What would settle each gate that is open, as probabilities, and what this design could have shown."""

from __future__ import annotations

import dataclasses
import math

from scipy import special

from fusion_models.metrics import Interval
from fusion_models.metrics.ensembles import combined
from fusion_models.metrics.query_intervals import t_limits

POWER = 0.8
MORE_TRAININGS = 12
"""Of every arm: the most that a run goes on to by itself."""
MORE_QUERIES = 2.0


def outlook(interval: Interval, threshold: float) -> str:
    """How likely more trainings, more queries or both are to settle it, and what is shown as things stand.

    The estimate after more data is normal around today's, with the variance that the data take away; that is the
    predictive distribution under a flat prior, so that a value near the threshold is not taken to stay there.
    """
    if not math.isfinite(interval.low):
        return "more trainings: an interval is not known with these"
    ways = {f"{MORE_QUERIES:g} times the queries": (1.0, MORE_QUERIES)}
    part = interval.variance
    if part.arms:
        more = max(MORE_TRAININGS, 2 * part.seeds)
        ways = {
            f"{more} trainings an arm": (more / part.seeds, 1.0),
            **ways,
            "both": (more / part.seeds, MORE_QUERIES),
        }
    said = ", ".join(f"{name} {settling_chance(interval, threshold, *by):.0%}" for name, by in ways.items())
    shown = abs(shown_with_power(interval, threshold) - threshold)
    return f"chance to settle it: {said}; shown with 80 % power here: {shown:.2g} beyond the threshold"


def settling_chance(interval: Interval, threshold: float, trainings: float, queries: float) -> float:
    """Probability that the whole interval lies on one side, with so many times the trainings and the queries."""
    later = grown(interval, trainings, queries)
    spread = math.sqrt(max(interval.standard_error**2 - later.standard_error**2, 0.0))
    below, above = later.mean - later.low, later.high - later.mean
    if spread <= 0.0:
        return float(not later.low <= threshold <= later.high)
    over = special.ndtr((interval.mean - threshold - below) / spread)
    under = special.ndtr((threshold - above - interval.mean) / spread)
    return float(over + under)


def shown_with_power(interval: Interval, threshold: float, power: float = POWER) -> float:
    """The true value above the threshold whose whole interval this design puts above it with such power."""
    return threshold + (interval.mean - interval.low) + float(special.ndtri(power)) * interval.standard_error


def grown(interval: Interval, trainings: float, queries: float) -> Interval:
    """The same estimate with so many times the trainings of each arm, and the queries."""
    part = interval.variance
    arms = tuple(
        dataclasses.replace(
            arm,
            variance=arm.variance / trainings,
            shared=arm.shared / trainings / queries,
            trainings=max(2, round(arm.trainings * trainings)),
        )
        for arm in part.arms
    )
    query, query_df = part.query / queries, part.query_df * queries
    total, df = combined(query, query_df, arms)
    low, high = t_limits(total, df, part.skew / queries**2, interval.level)
    variance = dataclasses.replace(
        part, query=query, query_df=query_df, seed=sum(arm.net for arm in arms), arms=arms, skew=part.skew / queries**2
    )
    return Interval(interval.mean, interval.mean + low, interval.mean + high, interval.level, variance)
