"""An estimate with its limits and p-value, for one experiment or for many side by side."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from fusion_models.metrics import Interval

Floats = npt.NDArray[np.float64]
NO_SKEWNESS = 1e-6
"""A skewness below this changes nothing, and 0 is divided by."""


class Estimate(NamedTuple):
    """What one experiment, or a stack of them, says: every field `[...]`, 0-dimensional for one experiment."""

    value: Floats
    low: Floats
    high: Floats
    p: Floats
    """Two-sided p of a value of 0."""
    level: float
    """Coverage that the limits promise, such as 0.95."""

    def interval(self) -> Interval:
        """The same for one experiment. Raises ValueError where this is a stack of them."""
        if self.value.ndim:
            raise ValueError(f"this holds {self.value.shape} experiments: an interval is of one")
        return Interval(float(self.value), float(self.low), float(self.high), self.level)


def t_estimate(value: Floats, variance: Floats, df: Floats | float, alpha: float) -> Estimate:
    """Limits and p of an estimate with a known-up-to-df variance, all `[...]`, by Student's t."""
    check_alpha(alpha)
    error = np.sqrt(variance)
    half = stats.t.ppf(1 - alpha / 2, df) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.where(error > 0, np.abs(value) / error, np.where(value == 0, 0.0, np.inf))
    p = np.asarray(2 * stats.t.sf(statistic, df), dtype=np.float64)
    return Estimate(value, value - half, value + half, p, 1 - alpha)


def skewed_mean(values: Floats, alpha: float) -> Estimate:
    """The mean of `[..., N]` units with limits that heed their skewness, for heavy tails on one side.

    Hall 1992, "On the removal of skewness by transformation", Journal of the Royal Statistical Society B 54: the
    cubic, monotone transformation of Student's statistic, read at Student's quantiles.
    """
    check_alpha(alpha)
    count = values.shape[-1]
    value = np.asarray(values.mean(-1))
    spread = values.std(-1, ddof=1)
    third = ((values - value[..., None]) ** 3).mean(-1)
    scale = np.where(spread > 0, spread, 1.0)
    skewness = np.where(spread > 0, third / scale**3, 0.0)
    skewness = np.where(np.abs(skewness) < NO_SKEWNESS, NO_SKEWNESS, skewness)
    quantile = stats.t.ppf(1 - alpha / 2, count - 1) / np.sqrt(count)
    low, high = (value - spread * _untransformed(x, skewness, count) for x in (quantile, -quantile))
    shift = value / scale
    statistic = shift + skewness * shift**2 / 3 + skewness**2 * shift**3 / 27 + skewness / (6 * count)
    p = 2 * stats.t.sf(np.abs(statistic) * np.sqrt(count), count - 1)
    p = np.where(spread > 0, p, np.where(value == 0, 1.0, 0.0))
    return Estimate(value, np.asarray(low), np.asarray(high), np.asarray(p, dtype=np.float64), 1 - alpha)


def _untransformed(x: float, skewness: Floats, count: int) -> Floats:
    """Hall's inverse: the standardised deviation that his transformation takes to `x`."""
    return np.asarray(3 / skewness * (np.cbrt(1 + skewness * (x - skewness / (6 * count))) - 1))


def check_alpha(alpha: float) -> None:
    """Raises ValueError unless 0 < alpha < 1."""
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}")


def units(values: npt.ArrayLike, what: str, least: int = 2) -> Floats:
    """`[..., N]` finite float64 with N of at least `least`; raises a ValueError that names `what` and where."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] < least:
        raise ValueError(f"{what}: expected [..., N] with N >= {least} units, got shape {array.shape}")
    if not np.isfinite(array).all():
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{what}: the value at {first} is NaN or infinite; leave out units without a measurement")
    return array
