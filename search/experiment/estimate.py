"""An estimate with its limits and p-value, for one experiment or for many side by side."""

from __future__ import annotations

from collections.abc import Sequence
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
    variance = values.var(-1, ddof=1) / count
    return _outer(value, variance, np.asarray(count - 1.0), [_skewness(values) / np.sqrt(count)], alpha)


def skewed_difference(treatment: Floats, control: Floats, alpha: float) -> Estimate:
    """Difference of means of `[..., N]` and `[..., M]` units: Welch's, widened where the units' skewness asks for it.

    Welch's t is right on average over both tails only where arms are alike. With 5 % of the units in one arm its
    statistic is as skewed as that arm's mean, and its variance goes with its mean: level 7 to 12 % on log-normal units.
    Hall's transformation takes the skewness away, if that is known. Each limit is the outermost of three: without
    skewness (Welch's), with one shape in both arms that each arm has at its own scale, and with each arm's own shape.
    The own skewness of the small arm alone is the noisiest number there is (measured: 6 to 9 %), and one shape is wrong
    where treatment changes it.

    A skewness within noise (`EVIDENT` standard errors of a normal sample's) is left alone: that is Welch's t.

    References:
        Hall 1992 (see `skewed_mean`); Zhou and Dinh 2005, "Nonparametric confidence intervals for the one- and
        two-sample problems", Biostatistics 6 (two samples).
    """
    check_alpha(alpha)
    n, m = treatment.shape[-1], control.shape[-1]
    value = np.asarray(treatment.mean(-1) - control.mean(-1))
    own = treatment.var(-1, ddof=1) / n, control.var(-1, ddof=1) / m
    variance = own[0] + own[1]
    known = variance > 0
    total = np.where(known, variance, 1.0)
    df = np.where(known, total**2 / (own[0] ** 2 / (n - 1) + own[1] ** 2 / (m - 1) + ~known), 1.0)
    shapes = _skewness(treatment), _skewness(control)
    one = _evident((n * shapes[0] + m * shapes[1]) / (n + m), n + m)

    def of_difference(of_treatment: Floats, of_control: Floats) -> Floats:
        third = of_treatment * own[0] ** 1.5 / np.sqrt(n) - of_control * own[1] ** 1.5 / np.sqrt(m)
        return np.asarray(np.where(known, third / total**1.5, 0.0))

    each = _evident(shapes[0], n), _evident(shapes[1], m)
    return _outer(value, variance, df, [np.zeros_like(value), of_difference(one, one), of_difference(*each)], alpha)


def _skewness(values: Floats) -> Floats:
    """Of units `[..., N]`: `[...]`, 0 where they do not vary."""
    spread = values.std(-1, ddof=1)
    third = ((values - values.mean(-1, keepdims=True)) ** 3).mean(-1)
    return np.asarray(np.where(spread > 0, third / np.where(spread > 0, spread, 1.0) ** 3, 0.0))


def _evident(skewness: Floats, count: int) -> Floats:
    """The skewness of `count` units where it is beyond a normal sample's noise, else 0."""
    return np.where(np.abs(skewness) > EVIDENT * np.sqrt(6 / count), skewness, 0.0)


def _outer(value: Floats, variance: Floats, df: Floats, skewnesses: Sequence[Floats], alpha: float) -> Estimate:
    """The outermost of Hall's limits at each of these skewnesses, all `[...]`, of the estimate itself, not of a unit.

    At a skewness of 0 they are Student's. p is the largest of theirs on either side, so that it is at most alpha where
    the limits leave 0 out.
    """
    error = np.sqrt(variance)
    quantile: Floats = np.asarray(stats.t.ppf(1 - alpha / 2, df), dtype=np.float64)
    low = np.min([value - error * _untransformed(quantile, skewness) for skewness in skewnesses], axis=0)
    high = np.max([value - error * _untransformed(np.negative(quantile), skewness) for skewness in skewnesses], axis=0)
    plain = np.where(error > 0, value / np.where(error > 0, error, 1.0), 0.0)
    statistics = [plain + s * plain**2 / 3 + s**2 * plain**3 / 27 + s / 6 for s in skewnesses]
    p = 2 * np.minimum(stats.t.sf(np.min(statistics, axis=0), df), stats.t.cdf(np.max(statistics, axis=0), df))
    # without any spread there is no statistic: certain where they differ, certainly equal where they do not
    p = np.where(error > 0, np.minimum(p, 1.0), np.where(value == 0, 1.0, 0.0))
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
