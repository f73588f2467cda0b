"""How many units a guardrail needs: until a harmless V2 clears it, and the harm at which it stops.

Experiments are simulated and read by `limits`, since no formula knows of burn-in, events and exact limits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import ceil, inf, isfinite, sqrt

import numpy as np
from scipy import stats
from scipy.special import ndtri
from scipy.stats import qmc

from search.experiment.estimate import Estimate, Floats
from search.experiment.guardrails.reading import Guardrail, interval_level, limits
from search.experiment.sequential import BURN_IN, Moments
from search.experiment.sizes import SampleSize, detectable_always_valid, size_always_valid

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


@dataclass(frozen=True, kw_only=True)
class Watch:
    """One guardrail as a plan knows it, for what it will say at the last look of a stage, by `limits`.

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
    """The level at which it is read, `family_level`."""

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
        guess = detectable_always_valid(self.sd, treatment, control, alpha=level, power=power)
        if not isfinite(guess):  # before the burn-in nothing is stopped
            return inf

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
        return SampleSize.of(high, effect, alpha=self.alpha, power=power, ratio=ratio)

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
