"""An estimate with its limits and p-value, for one experiment or for many side by side."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from fusion_models.metrics import Interval

Floats = npt.NDArray[np.float64]


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
