"""How many units an experiment needs: sample size, power and the smallest effect seen, of means, proportions, ratios.

A *unit* is what is assigned to an arm and counted as independent: a user, a session, a query. All sizes are of
two-sided tests. `ratio` is control units per treatment unit: 19 where 5 % of the traffic is treated.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, isfinite, pi, sqrt

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtri

from search.experiment.estimate import check_alpha, units
from search.experiment.sequential import BURN_IN, TUNED_FOR, width_factor

# statsmodels takes seconds to import, and only who plans an experiment needs it: it is imported where it is used.


@dataclass(frozen=True, kw_only=True)
class SampleSize:
    """Units of each arm that show `effect` with probability `power` at two-sided level `alpha`."""

    treatment: int
    control: int
    effect: float
    alpha: float
    power: float

    @staticmethod
    def of(treatment: float, effect: float, *, alpha: float, power: float, ratio: float) -> SampleSize:
        """So many treatment units, rounded up, and `ratio` times as many control units; two of each at the least."""
        arms = ceil(treatment), ceil(treatment * ratio)
        return SampleSize(treatment=max(2, arms[0]), control=max(2, arms[1]), effect=effect, alpha=alpha, power=power)


def size_of_means(
    effect: float, sd: float, *, alpha: float = 0.05, power: float = 0.8, ratio: float = 1.0
) -> SampleSize:
    """Sample size of a difference of means between arms of one standard deviation `sd` a unit (t test).

    Raises ValueError for an effect of 0, sd <= 0, or alpha, power or ratio out of range.
    """
    from statsmodels.stats.power import TTestIndPower

    _check(effect, sd, alpha, power, ratio)
    needed = TTestIndPower().solve_power(effect_size=abs(effect) / sd, alpha=alpha, power=power, ratio=ratio)
    return SampleSize.of(_number(needed), effect, alpha=alpha, power=power, ratio=ratio)


def power_of_means(effect: float, sd: float, treatment: int, control: int, *, alpha: float = 0.05) -> float:
    """Probability that the t test of two arms of these sizes shows a true `effect`."""
    from statsmodels.stats.power import TTestIndPower

    _check(effect, sd, alpha, 0.5, control / treatment)
    size = abs(effect) / sd
    return float(TTestIndPower().power(effect_size=size, nobs1=treatment, alpha=alpha, ratio=control / treatment))


def detectable_effect(sd: float, treatment: int, control: int, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest difference of means that arms of these sizes show with probability `power`; above 0."""
    from statsmodels.stats.power import TTestIndPower

    _check(1.0, sd, alpha, power, control / treatment)
    ratio = control / treatment
    return sd * _number(TTestIndPower().solve_power(nobs1=treatment, alpha=alpha, power=power, ratio=ratio))


def size_always_valid(
    effect: float,
    sd: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    ratio: float = 1.0,
    tuned_for: float = TUNED_FOR,
) -> SampleSize:
    """Sample size at which the *always-valid* interval shows `effect` with probability `power`, at its last look alone.

    Looks before can only add to the power. The interval is wider than the t interval that `size_of_means` is for:
    what that one shows with power 0.8, an always-valid interval at a fifth of the level shows with 0.2 to 0.3.

    Raises ValueError as `size_of_means`.
    """
    _check(effect, sd, alpha, power, ratio)

    def lacking(treatment: float) -> float:
        return _detectable_always_valid(sd, treatment, ratio * treatment, alpha, power, tuned_for) - abs(effect)

    least = max(2.0, BURN_IN / min(1.0, ratio))  # no look counts before
    most = least
    while lacking(most) > 0:
        most *= 2
    needed = float(brentq(lacking, least, most)) if most > least else least
    return SampleSize.of(needed, effect, alpha=alpha, power=power, ratio=ratio)


def detectable_always_valid(
    sd: float,
    treatment: int,
    control: int,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    tuned_for: float = TUNED_FOR,
) -> float:
    """Smallest difference of means that the always-valid interval shows with probability `power` at these sizes.

    Infinite before the burn-in of `sequential`. Raises ValueError as `size_of_means`.
    """
    _check(1.0, sd, alpha, power, control / treatment)
    if min(treatment, control) < BURN_IN:
        return inf
    return _detectable_always_valid(sd, treatment, control, alpha, power, tuned_for)


def _detectable_always_valid(
    sd: float, treatment: float, control: float, alpha: float, power: float, tuned_for: float
) -> float:
    """The half-width plus what chance may take away, in the metric's unit.

    The interval takes the larger of an arm's variance and both arms'; of normal units that is 1 + 1 / sqrt(pi n) times
    the true one on average.
    """
    error = sd * sqrt(sum((1 + 1 / sqrt(pi * n)) / n for n in (treatment, control)))
    return error * (float(width_factor(treatment + control, alpha, tuned_for)) + float(ndtri(power)))


def size_of_proportions(
    baseline: float, effect: float, *, alpha: float = 0.05, power: float = 0.8, ratio: float = 1.0
) -> SampleSize:
    """Sample size of a difference of proportions: the control's `baseline`, the treatment's `baseline + effect`.

    Raises ValueError where either is not in (0, 1), or as `size_of_means`.
    """
    from statsmodels.stats.proportion import samplesize_proportions_2indep_onetail

    _check(effect, 1.0, alpha, power, ratio)
    if not (0.0 < baseline < 1.0 and 0.0 < baseline + effect < 1.0):
        raise ValueError(f"both proportions must be in (0, 1), got {baseline} and {baseline + effect}")
    # The one tail of level alpha / 2 that the effect lies in; statsmodels counts the other arm per first-arm unit.
    needed = samplesize_proportions_2indep_onetail(
        effect, baseline, power, ratio=ratio, alpha=alpha / 2, alternative="larger" if effect > 0 else "smaller"
    )
    return SampleSize.of(float(needed), effect, alpha=alpha, power=power, ratio=ratio)


def power_of_proportions(baseline: float, effect: float, treatment: int, control: int, *, alpha: float = 0.05) -> float:
    """Probability that the score-less z test of two proportions shows a true `effect` on `baseline`."""
    from statsmodels.stats.proportion import power_proportions_2indep

    _check(effect, 1.0, alpha, 0.5, control / treatment)
    found = power_proportions_2indep(effect, baseline, treatment, ratio=control / treatment, alpha=alpha)
    return float(found.power)


def ratio_sd(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> float:
    """Standard deviation a unit of a ratio metric sum(numerator) / sum(denominator), by the delta method.

    `size_of_means(effect, ratio_sd(clicks, queries))` sizes an experiment on clicks per query whose unit is a user:
    the ratio's error is that of the mean of `(y - R x) / mean(x)`, with R the ratio.

    Args:
        numerator, denominator: `[N]`, one entry a unit, of a time before the experiment.

    Raises:
        ValueError: shapes differ, values are not finite, or the denominator's mean is not above 0.

    References:
        Deng, Knoblich and Lu 2018, "Applying the delta method in metric analytics".
    """
    top, bottom = units(numerator, "numerator"), units(denominator, "denominator")
    if top.shape != bottom.shape or top.ndim != 1:
        raise ValueError(f"expected two lists of one length, got {top.shape} and {bottom.shape}")
    if bottom.mean() <= 0:
        raise ValueError(f"the denominator's mean must be above 0, got {bottom.mean()}")
    linear = (top - top.mean() / bottom.mean() * bottom) / bottom.mean()
    return float(linear.std(ddof=1))


def _number(solved: npt.ArrayLike) -> float:
    """What `solve_power` found: it gives a number or, by the root finder it took, an array `[1]`.

    NumPy 2.4 makes no float of the latter.
    """
    return float(np.asarray(solved).item())


def _check(effect: float, sd: float, alpha: float, power: float, ratio: float) -> None:
    check_alpha(alpha)
    if not isfinite(effect) or effect == 0.0:
        raise ValueError(f"the effect must be a finite number other than 0, got {effect}")
    if not (isfinite(sd) and sd > 0.0):
        raise ValueError(f"the standard deviation must be above 0, got {sd}")
    if not alpha < power < 1.0:
        raise ValueError(f"the power must be above alpha ({alpha}) and below 1, got {power}")
    if not (isfinite(ratio) and ratio > 0.0):
        raise ValueError(f"control units per treatment unit must be above 0, got {ratio}")
