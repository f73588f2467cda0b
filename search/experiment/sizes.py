"""How many units an experiment needs: sample size, power and the smallest effect seen, of means, proportions, ratios.

Guardrails too: units until a harmless V2 clears one, and the harm at which one stops, as `guardrails.limits` reads it.

A *unit* is what is assigned to an arm and counted as independent: a user, a session, a query. All sizes are of
two-sided tests. `ratio` is control units per treatment unit: 19 where 5 % of the traffic is treated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import ceil, inf, isfinite, pi, sqrt

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import qmc

from search.experiment.estimate import Estimate, Floats, check_alpha, units
from search.experiment.guardrails import Guardrail, interval_level, limits
from search.experiment.sequential import BURN_IN, TUNED_FOR, Moments, width_factor

POINTS = 512
"""Experiments, evenly spread over all that may happen (Sobol), that a guardrail's power is averaged over."""
STEP = 1.5
"""Factor by which a size or a harm is sought before it is narrowed down."""
PLENTY = 20.0
"""Standard deviation of a count above which an expansion stands for its distribution."""
MOST = 1e3
"""How many times the harm that its error alone would show a guardrail is looked for."""
MOST_UNITS = 1e13
"""Of an arm, up to which a size is sought."""

# statsmodels takes seconds to import, and only who plans an experiment needs it: it is imported where it is used.


@dataclass(frozen=True, kw_only=True)
class SampleSize:
    """Units of each arm that show `effect` with probability `power` at two-sided level `alpha`."""

    treatment: int
    control: int
    effect: float
    alpha: float
    power: float


def size_of_means(
    effect: float, sd: float, *, alpha: float = 0.05, power: float = 0.8, ratio: float = 1.0
) -> SampleSize:
    """Sample size of a difference of means between arms of one standard deviation `sd` a unit (t test).

    Raises ValueError for an effect of 0, sd <= 0, or alpha, power or ratio out of range.
    """
    from statsmodels.stats.power import TTestIndPower

    _check(effect, sd, alpha, power, ratio)
    needed = TTestIndPower().solve_power(effect_size=abs(effect) / sd, alpha=alpha, power=power, ratio=ratio)
    return _size(_number(needed), effect, alpha, power, ratio)


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
    return _size(needed, effect, alpha, power, ratio)


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


@dataclass(frozen=True, kw_only=True)
class Watch:
    """One guardrail as a plan knows it, for what it will say at the last look of a stage, by `guardrails.limits`.

    Experiments are drawn and read, so burn-in, events, exact limits and the noise of variances and of margins are in
    it. Of units only mean and deviation are known: they are normal, or, where the deviation is above the mean (or above
    what is left to `upper`), one amount that some units have and the others have not. Every power is of this guardrail
    alone: several are all clear less often.
    """

    guardrail: Guardrail
    mean: float
    """Of its metric under V1, a unit, and the standard deviation."""
    sd: float
    alpha: float = 0.05
    """The level at which it is read, `guardrails.family_level`."""

    @property
    def margin(self) -> float:
        """In the metric's unit."""
        return self.guardrail.margin * (abs(self.mean) if self.guardrail.relative else 1.0)

    def power_to_clear(self, treatment: int, control: int) -> float:
        """Probability that a V2 that changes nothing is clear at these sizes."""
        found, margin = self._read(0.0, treatment, control)
        return float((found.high <= margin).mean())

    def power_to_stop(self, harm: float, treatment: int, control: int) -> float:
        """Probability that a V2 of this true `harm`, in the metric's unit, is stopped: its margin is borne."""
        found, margin = self._read(harm, treatment, control)
        return float((found.low > margin).mean())

    def units_to_clear(self, *, power: float = 0.8, ratio: float = 1.0) -> SampleSize:
        """Fewest units at which `power_to_clear` is `power`; `effect` is the margin.

        Raises ValueError for a margin of 0, where no number of units is enough, or as `size_of_means`.
        """

        def enough(treatment: int) -> bool:
            return self.power_to_clear(treatment, ceil(ratio * treatment)) >= power

        return self._fewest(enough, self.margin, power, ratio)

    def units_to_stop(self, harm: float, *, power: float = 0.8, ratio: float = 1.0) -> SampleSize:
        """Fewest units at which `power_to_stop` of this `harm` is `power`; `effect` is the harm beyond the margin.

        Raises ValueError for a harm within the margin, where no number of units is enough, or as `size_of_means`.
        """
        if harm <= self.margin:
            raise ValueError(f"guardrail {self.guardrail.name!r} bears a harm of {harm:g}: give one beyond its margin")

        def enough(treatment: int) -> bool:
            return self.power_to_stop(harm, treatment, ceil(ratio * treatment)) >= power

        return self._fewest(enough, harm - self.margin, power, ratio)

    def harm_to_stop(self, treatment: int, control: int, *, power: float = 0.8, precision: float = 1e-3) -> float:
        """Smallest true harm whose `power_to_stop` is `power`, to this relative precision; infinite where none has."""
        level = interval_level(self.guardrail, self.alpha)
        guess = _detectable_always_valid(self.sd, treatment, control, level, power, TUNED_FOR)

        def enough(beyond: float) -> bool:
            return self.power_to_stop(self.margin + beyond, treatment, control) >= power

        low, high = 0.0, guess
        while not enough(high):
            low, high = high, STEP * high
            if high > MOST * guess:
                return inf
        while high - low > precision * (self.margin + high):
            middle = (low + high) / 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return self.margin + high

    def _fewest(self, enough: Callable[[int], bool], effect: float, power: float, ratio: float) -> SampleSize:
        """Fewest units that are `enough`, to 0.3 %, and no less than the burn-in."""
        asked = {"alpha": interval_level(self.guardrail, self.alpha), "power": power, "ratio": ratio}
        least = ceil(BURN_IN / min(1.0, ratio))
        low, high = least, max(least, size_always_valid(effect, self.sd, **asked).treatment)
        while not enough(high):
            if high > MOST_UNITS:
                raise ValueError(
                    f"guardrail {self.guardrail.name!r}: {MOST_UNITS:g} units are too few at mean {self.mean:g} and "
                    f"deviation {self.sd:g}; give `upper`, or least_events=0 for a metric that may be below 0"
                )
            low, high = high, ceil(STEP * high)
        while high > least and low < high / STEP:
            low = max(least, int(high / STEP))
            if not enough(low):
                break
            high, low = low, least
        while high - low > max(1.0, 0.003 * high):
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return _size(high, effect, self.alpha, power, ratio)

    def _read(self, harm: float, treatment: int, control: int) -> tuple[Estimate, Floats]:
        """The harm that `POINTS` experiments say, and the margin."""
        points, now = _points(), self.mean + harm if self.guardrail.harm == "higher" else self.mean - harm
        arms = self._moments(treatment, now, points[:, :2]), self._moments(control, self.mean, points[:, 2:])
        return limits(self.guardrail, *arms, alpha=self.alpha)[:2]

    def _moments(self, count: int, now: float, points: Floats) -> Moments:
        """Moments `[POINTS]` of `count` units of the mean `now`."""
        upper, sd = self.guardrail.upper, self.sd
        mirrored = upper is not None and self.mean > upper / 2
        base, moved = (upper - self.mean, upper - now) if mirrored and upper is not None else (self.mean, now)
        amount = (base**2 + sd**2) / base if base > 0 else inf
        if base < sd and 0.0 <= moved <= amount < inf:
            share = _counts(points[:, 0], count, moved / amount) / count
            average, variance = amount * share, amount**2 * share * (1 - share) * count / (count - 1)
        else:
            average = moved + sd * ndtri(points[:, 0]) / sqrt(count)
            variance = sd**2 * stats.chi2.ppf(points[:, 1], count - 1) / (count - 1)
        average = upper - average if mirrored and upper is not None else average
        # rounding, or a normal unit, may put a mean beyond its bounds
        average = average if upper is None else np.clip(average, 0.0, upper)
        return Moments(np.full(len(points), float(count)), average, variance)


@cache
def _points() -> Floats:
    """`[POINTS, 4]` in (0, 1)."""
    return np.clip(qmc.Sobol(4, seed=0).random(POINTS), 1e-9, 1 - 1e-9)


def _counts(quantiles: Floats, count: int, chance: float) -> Floats:
    """Binomial counts at these quantiles; of plenty by Cornish and Fisher's expansion, which is fast."""
    spread = sqrt(count * chance * (1 - chance))
    if spread < PLENTY:
        return np.asarray(stats.binom.ppf(quantiles, count, chance))
    z = ndtri(quantiles)
    return np.clip(np.round(count * chance + spread * z + (1 - 2 * chance) * (z**2 - 1) / 6), 0, count)


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
    return _size(float(needed), effect, alpha, power, ratio)


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


def _size(treatment: float, effect: float, alpha: float, power: float, ratio: float) -> SampleSize:
    arms = ceil(treatment), ceil(treatment * ratio)
    return SampleSize(treatment=max(2, arms[0]), control=max(2, arms[1]), effect=effect, alpha=alpha, power=power)


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
