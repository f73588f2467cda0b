"""Always-valid intervals: look at a running experiment as often as you like, stop when you like.

The fixed-horizon interval of `analysis` covers the truth in 95 % of experiments at one look that was fixed before.
Whoever looks daily and stops at the first significant day is wrong far more often (`docs/experiments.md`). A confidence
*sequence* covers the truth at all looks at once in 95 % of experiments, and is wider for it.

References:
    Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2021, "Time-uniform central limit theory and asymptotic confidence
    sequences", theorem 2.2 and appendix B.2 (the tuning); Robbins 1970 (the normal mixture); Johari, Koomen, Pekelis
    and Walsh 2017, "Peeking at A/B tests" (the same mixture as a sequential test, and always-valid p-values).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from search.experiment.estimate import Estimate, Floats, check_alpha

BURN_IN = 200
"""Units in both arms before the first look counts. The promise is asymptotic: it holds once a central limit does."""


class Moments(NamedTuple):
    """What a sequential look reads of one arm: counts, means and variances `[...]`, such as one a day."""

    units: Floats
    mean: Floats
    variance: Floats
    """With N - 1 below the fraction."""


def running_moments(values: npt.ArrayLike, looks: npt.ArrayLike) -> Moments:
    """Moments of the first `looks` `[K]` units of `values` `[..., N]`: `[..., K]`.

    Raises ValueError where a look is below 2 or beyond N.
    """
    array, at = np.asarray(values, dtype=np.float64), np.asarray(looks, dtype=np.int64)
    if at.ndim != 1 or at.size == 0 or at.min() < 2 or at.max() > array.shape[-1]:
        raise ValueError(f"looks must be a list of counts from 2 to {array.shape[-1]}, got {at.tolist()}")
    # Centred at the first unit, so that a large mean does not cancel the sum of squares.
    first = array[..., :1]
    sums = np.cumsum(array - first, axis=-1)[..., at - 1]
    squares = np.cumsum((array - first) ** 2, axis=-1)[..., at - 1]
    variance = np.maximum(squares - sums**2 / at, 0.0) / (at - 1)
    return Moments(np.broadcast_to(at, sums.shape).astype(np.float64), first + sums / at, variance)


def always_valid_difference(
    treatment: Moments, control: Moments, *, alpha: float = 0.05, tuned_for: float = 10_000.0, burn_in: int = BURN_IN
) -> Estimate:
    """Difference of means at every look `[...]`, with limits and p-values that hold at all looks together.

    With n units in both arms, error s = sqrt(s_t^2 / n_t + s_c^2 / n_c) and r = rho^2, the half-width is
    `s sqrt((n r + 1) / (n r) * 2 log(sqrt(n r + 1) / alpha))`.

    Args:
        tuned_for: units in both arms at which the interval is meant to be narrowest; any value keeps the promise.
        burn_in: looks at fewer units have infinite limits and p = 1.

    Returns:
        `p` is always valid: stopping at the first p <= alpha errs in at most a fraction alpha of experiments.
    """
    check_alpha(alpha)
    if tuned_for <= 0:
        raise ValueError(f"tuned_for must be above 0 units, got {tuned_for}")
    value = treatment.mean - control.mean
    count = treatment.units + control.units
    error = np.sqrt(treatment.variance / treatment.units + control.variance / control.units)
    spread = count * _rho_squared(alpha, tuned_for)
    half = error * np.sqrt((spread + 1) / spread * 2 * np.log(np.sqrt(spread + 1) / alpha))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(error > 0, value / error, np.where(value == 0, 0.0, np.inf))
    # The alpha at which the half-width would be |value|: 1 / the mixture's likelihood ratio.
    p = np.minimum(1.0, np.sqrt(spread + 1) * np.exp(-0.5 * np.minimum(z**2, 1e6) * spread / (spread + 1)))
    early = count < burn_in
    half, p = np.where(early, np.inf, half), np.where(early, 1.0, p)
    return Estimate(value, value - half, value + half, p, 1 - alpha)


def _rho_squared(alpha: float, count: float) -> float:
    """The mixture's variance that makes the interval narrowest at `count` units."""
    return float((-2 * np.log(alpha) + np.log(-2 * np.log(alpha) + 1)) / count)
