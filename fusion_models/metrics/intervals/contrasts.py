"""Contrasts of recipes that were trained with the same seeds and measured on the same queries.

Every estimate here (a mean, a ratio of means, a pooled correlation) is first written as a mean of values a seed and
query, by its influence function. Sums and differences of such values are then contrasts whose interval is paired.
"""

from __future__ import annotations

from math import isfinite, nan

import numpy as np
import numpy.typing as npt
from scipy import special

from fusion_models.metrics.intervals.ensembles import combined
from fusion_models.metrics.intervals.interval import Interval
from fusion_models.metrics.intervals.query_intervals import t_limits

Floats = npt.NDArray[np.float64]
HALVINGS = 50


def linear_ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> Floats:
    """`[S, Q]` values whose mean is mean(numerator) / mean(denominator), and whose spread is that ratio's.

    Args:
        numerator, denominator: `[S, Q]`, the same seeds and queries, without NaN.

    Raises:
        ValueError: the denominator's mean is not above 0.

    References:
        Hampel 1974 (influence functions); the delta method.
    """
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    if not bottom.mean() > 0:
        raise ValueError(f"the denominator's mean must be above 0, got {bottom.mean()}")
    ratio = top.mean() / bottom.mean()
    return np.asarray(ratio + (top - ratio * bottom) / bottom.mean(), dtype=np.float64)


def linear_correlation(moments: npt.ArrayLike) -> Floats:
    """`[S, Q]` values whose mean is the correlation pooled over queries (see `seed_correlation_interval`).

    Args:
        moments: `[S, Q, 3]`: sums of `a b`, `a a`, `b b` of each query.

    Raises:
        ValueError: one side does not vary at all.
    """
    ab, aa, bb = np.moveaxis(np.asarray(moments, dtype=np.float64), -1, 0)
    if not (aa.mean() > 0 and bb.mean() > 0):
        raise ValueError(f"scores that do not vary have no correlation: mean squares {aa.mean()} and {bb.mean()}")
    scale = np.sqrt(aa.mean() * bb.mean())
    correlation = ab.mean() / scale
    influence = ab / scale - correlation * (aa / aa.mean() + bb / bb.mean()) / 2
    return np.asarray(correlation + influence, dtype=np.float64)


def two_sided_p(interval: Interval) -> float:
    """p of a mean of 0 by the t test that the interval of `seed_interval` is made of: below 1 - level exactly where
    the interval leaves 0 out. NaN where the limits are not finite.
    """
    part = interval.variance
    total = part.query + part.seed
    if not (isfinite(total) and isfinite(interval.low)):
        return nan
    if total <= 0.0:
        return 1.0 if interval.mean == 0.0 else 0.0
    if part.arms or part.skew:
        total, df = combined(part.query, part.query_df, part.arms)
        return _by_limits(interval.mean, total, df, part.skew)
    df = total**2 / (part.query**2 / part.query_df + part.seed**2 / part.seed_df)
    return float(2.0 * special.stdtr(df, -abs(interval.mean) / np.sqrt(total)))


def _by_limits(mean: float, total: float, df: float, third: float) -> float:
    """1 less the level of the interval that just leaves 0 out."""
    inside, outside = 1.0, 0.0  # levels: the widest interval holds 0, the narrowest does not
    for _ in range(HALVINGS):
        level = (inside + outside) / 2.0
        low, high = t_limits(total, df, third, level)
        inside, outside = (level, outside) if mean + low <= 0.0 <= mean + high else (inside, level)
    return 1.0 - outside
