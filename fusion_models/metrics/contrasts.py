"""Contrasts of recipes that were trained with the same seeds and measured on the same queries.

Every estimate here (a mean, a ratio of means, a pooled correlation) is first written as a mean of values a seed and
query, by its influence function. Sums and differences of such values are then contrasts whose interval is paired.
"""

from __future__ import annotations

from math import inf, isfinite, nan

import numpy as np
import numpy.typing as npt
from scipy import special

from fusion_models.metrics.statistics import Interval

Floats = npt.NDArray[np.float64]


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
    """`[S, Q]` values whose mean is the correlation pooled over queries (see `statistics.seed_correlation_interval`).

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
    weight = part.query**2 / part.query_df if part.query_df > 0 else 0.0
    if part.arms:
        weight += sum(arm.variance**2 / arm.df for arm in part.arms)
    elif part.seed > 0.0:
        weight += part.seed**2 / part.seed_df
    df = total**2 / weight if weight > 0 else inf
    statistic = interval.mean / np.sqrt(total)
    skew = part.skew / total**1.5
    statistic += skew * statistic**2 / 3.0 + skew**2 * statistic**3 / 27.0 + skew / 6.0
    return float(2.0 * special.stdtr(df, -abs(statistic)))
