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
EVIDENT = 3.0
"""Standard errors, sqrt(6 / units), beyond which a difference's limits heed the skewness of its units."""


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
    skewness = np.where(spread > 0, third / np.where(spread > 0, spread, 1.0) ** 3, 0.0)
    return _skewed(value, spread**2 / count, np.asarray(count - 1.0), skewness / np.sqrt(count), alpha)


def skewed_difference(treatment: Floats, control: Floats, alpha: float) -> Estimate:
    """Difference of means of `[..., N]` and `[..., M]` units: Welch's, heeding skewness where arms differ in size.

    Welch's t is right on average over both tails only where arms are of like size. With 5 % of the units in one arm its
    statistic is as skewed as that arm's mean, and its variance goes with its mean: level 7 to 12 % on log-normal units.
    Hall's transformation takes the skewness away. It is estimated from both arms' units together, each about its own
    mean: one shape in both arms, each with its own scale. The small arm's own skewness is the noisiest number there
    is (measured: 6 to 9 %), and in arms of one size it would add an error that Welch's has not.

    A skewness within noise (`EVIDENT` standard errors of a normal sample's) is left alone: that is Welch's t.

    References:
        Hall 1992 (see `skewed_mean`); Zhou and Dinh 2005, "Nonparametric confidence intervals for the one- and
        two-sample problems", Biostatistics 6 (two samples).
    """
    check_alpha(alpha)
    n, m = treatment.shape[-1], control.shape[-1]
    value = np.asarray(treatment.mean(-1) - control.mean(-1))
    deviations = [arm - arm.mean(-1, keepdims=True) for arm in (treatment, control)]
    own = [treatment.var(-1, ddof=1) / n, control.var(-1, ddof=1) / m]
    variance = own[0] + own[1]
    known = variance > 0
    total = np.where(known, variance, 1.0)
    df = np.where(known, total**2 / (own[0] ** 2 / (n - 1) + own[1] ** 2 / (m - 1) + ~known), 1.0)
    second, third = (sum((d**power).sum(-1) for d in deviations) / (n + m) for power in (2, 3))
    skewness = np.where(known, third / np.where(known, second, 1.0) ** 1.5, 0.0)
    skewness = np.where(np.abs(skewness) > EVIDENT * np.sqrt(6 / (n + m)), skewness, 0.0)
    of_difference = skewness * (1 / n**2 - 1 / m**2) / (1 / n + 1 / m) ** 1.5
    return _skewed(value, variance, df, of_difference, alpha)


def _skewed(value: Floats, variance: Floats, df: Floats, skewness: Floats, alpha: float) -> Estimate:
    """Hall's limits and p of an estimate whose own skewness (not a unit's) is `skewness`; all `[...]`."""
    error = np.sqrt(variance)
    quantile: Floats = np.asarray(stats.t.ppf(1 - alpha / 2, df), dtype=np.float64)
    low, high = (value - error * _untransformed(x, skewness) for x in (quantile, np.negative(quantile)))
    with np.errstate(divide="ignore", invalid="ignore"):
        plain = np.where(error > 0, value / np.where(error > 0, error, 1.0), np.where(value == 0, 0.0, np.inf))
        statistic = plain + skewness * plain**2 / 3 + skewness**2 * plain**3 / 27 + skewness / 6
    p = 2 * stats.t.sf(np.abs(statistic), df)
    # without any spread there is no statistic: certain where they differ, certainly equal where they do not
    p = np.where(error > 0, p, np.where(value == 0, 1.0, 0.0))
    return Estimate(value, np.asarray(low), np.asarray(high), np.asarray(p, dtype=np.float64), 1 - alpha)


def _untransformed(x: Floats, skewness: Floats) -> Floats:
    """Hall's inverse: the standardised deviation that his transformation takes to `x`."""
    none = np.abs(skewness) < NO_SKEWNESS
    divisor = np.where(none, 1.0, skewness)
    return np.asarray(np.where(none, x, 3 / divisor * (np.cbrt(1 + divisor * (x - divisor / 6)) - 1)))


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
