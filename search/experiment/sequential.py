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
"""Units in *each* arm before the first look counts. The promise is asymptotic: it holds once a central limit does, in
the smaller arm too. Both arms counted together, a stage at 5 % would be read at ten treated units."""
TUNED_FOR = 10_000.0
"""Units in both arms at which intervals are narrowest unless told otherwise."""


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
    treatment: Moments,
    control: Moments,
    *,
    alpha: float = 0.05,
    tuned_for: float = TUNED_FOR,
    burn_in: float = BURN_IN,
) -> Estimate:
    """Difference of means at every look `[...]`, with limits and p-values that hold at all looks together.

    With n units in both arms, error s = sqrt(s_t^2 / n_t + s_c^2 / n_c) and r = rho^2, the half-width is
    `s sqrt((n r + 1) / (n r) * 2 log(sqrt(n r + 1) / alpha))`. The smaller arm has at least the variance of all units
    about their common mean: one that has missed the tail so far has a small mean and a small variance at once (measured
    at 5 % of the units: 7 to 13 % errors with its own). Where the values of an arm do not vary (no event yet), both
    arms have that variance. Where nothing varies in either arm, the limits are infinite: that no event was seen does
    not say how rare events are.

    The share under treatment must be one over all units: over a ramp's stages see `strata`.

    Args:
        tuned_for: units in both arms at which the interval is meant to be narrowest; any value keeps the promise.
        burn_in: looks at fewer units in either arm have infinite limits and p = 1.

    Returns:
        `p` is always valid: stopping at the first p <= alpha errs in at most a fraction alpha of experiments.
    """
    common, sizes = common_variance(treatment, control), (treatment.units, control.units)
    own = treatment.variance / sizes[0], control.variance / sizes[1]
    return always_valid(
        treatment.mean - control.mean,
        cautious_variance(own, (common / sizes[0], common / sizes[1]), sizes, each_arm=False),
        treatment.units + control.units,
        early=(np.minimum(treatment.units, control.units) < burn_in) | (common <= 0),
        alpha=alpha,
        tuned_for=tuned_for,
    )


def cautious_variance(
    own: tuple[Floats, Floats], common: tuple[Floats, Floats], sizes: tuple[Floats, Floats], *, each_arm: bool
) -> Floats:
    """Variance `[...]` of a difference between treatment and control in which no arm is believed to be lucky.

    Args:
        own, common: what each arm adds to it with its own variance, and with one variance for both arms.
        sizes: units of each arm.
        each_arm: each arm adds the larger of both; else the smaller arm alone does, and where an arm's units do not
            vary both arms add what is common.
    """
    if each_arm:
        return np.maximum(own[0], common[0]) + np.maximum(own[1], common[1])
    smaller = sizes[0] < sizes[1], sizes[1] < sizes[0]
    lucky = [np.where(at, np.maximum(mine, one), mine) for at, mine, one in zip(smaller, own, common, strict=True)]
    constant = (own[0] <= 0) | (own[1] <= 0)
    return np.where(constant, common[0] + common[1], lucky[0] + lucky[1])


def always_valid(
    value: Floats, variance: Floats, count: Floats, *, early: npt.NDArray[np.bool_], alpha: float, tuned_for: float
) -> Estimate:
    """Limits and always-valid p of estimates with a known variance, all `[...]`; infinite and 1 where it is `early`.

    `count` is the clock: it grows in proportion to 1 / variance where units are alike.
    """
    half = width_factor(count, alpha, tuned_for) * np.sqrt(variance)
    spread = count * mixture_variance(alpha, tuned_for)
    with np.errstate(divide="ignore", invalid="ignore"):
        z_squared = np.where(variance > 0, value**2 / variance, np.where(value == 0, 0.0, np.inf))
    # The alpha at which the half-width would be |value|: 1 / the mixture's likelihood ratio.
    p = np.minimum(1.0, np.sqrt(spread + 1) * np.exp(-0.5 * np.minimum(z_squared, 1e6) * spread / (spread + 1)))
    half, p = np.where(early, np.inf, half), np.where(early, 1.0, p)
    return Estimate(value, value - half, value + half, p, 1 - alpha)


def width_factor(count: npt.ArrayLike, alpha: float, tuned_for: float = TUNED_FOR) -> Floats:
    """Half-width of the always-valid interval at `count` units of both arms, in standard errors: `[...]`."""
    check_alpha(alpha)
    if tuned_for <= 0:
        raise ValueError(f"tuned_for must be above 0 units, got {tuned_for}")
    spread = np.asarray(count, dtype=np.float64) * mixture_variance(alpha, tuned_for)
    return np.asarray(np.sqrt((spread + 1) / spread * 2 * np.log(np.sqrt(spread + 1) / alpha)))


def common_variance(treatment: Moments, control: Moments) -> Floats:
    """Variance of both arms' units about their common mean, `[...]`: what one variance for both arms is."""
    both = treatment.units + control.units
    within = (treatment.units - 1) * treatment.variance + (control.units - 1) * control.variance
    between = treatment.units * control.units / both * (treatment.mean - control.mean) ** 2
    return np.asarray((within + between) / (both - 1))


def mixture_variance(alpha: float, count: float) -> float:
    """The mixture's variance that makes the interval narrowest at `count` units."""
    return float((-2 * np.log(alpha) + np.log(-2 * np.log(alpha) + 1)) / count)
