"""p values that agree with the intervals that are shown beside them."""

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
