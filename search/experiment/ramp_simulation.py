"""Ramps whose truth is known: how often guardrails err, what drift does, what a safety stage shows.

As `simulation`, for the stages before the even split, where one arm is small. Every function runs R whole experiments
side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from search.experiment.analysis import difference_of_means
from search.experiment.estimate import Estimate, Floats
from search.experiment.guardrails import Guardrail, family_level, limits
from search.experiment.rollout import METRIC, RolloutPlan
from search.experiment.sequential import Moments, always_valid
from search.experiment.simulation import Rates, rates
from search.experiment.strata import pooled, stratified_difference

Draw = Callable[[tuple[int, ...]], Floats]
"""Draws a metric's units of a shape."""
MEAN, SD = 0.5, 0.3
"""Of the metric that drifts over a ramp, as it begins."""


class Watched(NamedTuple):
    """A guardrail looked at K times in each of R experiments; fractions of the experiments."""

    clear: float
    """It was clear at some look."""
    stop: float
    """It said stop at some look."""


class Chances(NamedTuple):
    """Units of one arm, and the chance that one of them has `amount`, and not 0."""

    units: int
    chance: float
    amount: float = 1.0


class Sides(NamedTuple):
    """How often the limits of a difference miss its truth, a side each; fractions of R experiments."""

    above: float
    """The lower limit lies above the truth: surely better, and wrong."""
    below: float
    """The upper limit lies below the truth."""
    width: float
    """Mean width."""


def unlike_arms(
    generator: np.random.Generator, *, runs: int, treatment: int, control: int, sigma: float
) -> dict[str, Rates]:
    """Log-normal units (`sigma` of their logs), alike in both arms: Welch's t, and `difference_of_means`."""
    treated = generator.lognormal(sigma=sigma, size=(runs, treatment))
    kept = generator.lognormal(sigma=sigma, size=(runs, control))
    return {
        "Welch": rates(_welch(treated, kept), 0.0),
        "difference of means": rates(difference_of_means(treated, kept), 0.0),
    }


def unlike_shapes(treated: Draw, kept: Draw, *, runs: int, treatment: int, control: int) -> dict[str, Sides]:
    """Units of one mean in both arms, of any shapes and scales: Welch's t, and `difference_of_means`."""
    arms = treated((runs, treatment)), kept((runs, control))
    found = {"Welch": _welch(*arms), "difference of means": difference_of_means(*arms)}
    return {name: _sides(each) for name, each in found.items()}


def centred_lognormal(generator: np.random.Generator, sigma: float, scale: float = 1.0) -> Draw:
    """Log-normal units (`sigma` of their logs) of mean 0 and this deviation; below 0: the tail is on the left."""
    middle = np.exp(sigma**2 / 2)
    spread = middle * np.sqrt(np.expm1(sigma**2))
    return lambda shape: scale * (generator.lognormal(sigma=sigma, size=shape) - middle) / spread


def _welch(treated: Floats, kept: Floats) -> Estimate:
    """Without any heed of skewness."""
    found = stats.ttest_ind(treated, kept, axis=-1, equal_var=False)
    bounds = found.confidence_interval(0.95)
    value, low, high, p = (
        np.asarray(x, np.float64) for x in (treated.mean(-1) - kept.mean(-1), bounds.low, bounds.high, found.pvalue)
    )
    return Estimate(value, low, high, p, 0.95)


def _sides(found: Estimate) -> Sides:
    """Against a truth of 0."""
    return Sides(float((found.low > 0).mean()), float((found.high < 0).mean()), float((found.high - found.low).mean()))


@dataclass(frozen=True, kw_only=True)
class DailyLooks:
    """R experiments at one stage, each looked at once a day."""

    runs: int
    share: float
    """Fraction of the units that goes to treatment, at random."""
    daily: int
    """Units a day, both arms together."""
    days: int
    alpha: float
    """Level of the guardrail."""


def watched(
    generator: np.random.Generator, guardrail: Guardrail, treatment: Draw, control: Draw, looks: DailyLooks
) -> dict[str, Watched]:
    """What the looks at one guardrail say.

    "by its own": burn-in of 200 units over both arms together and each arm's own variance, as it must not be read.
    """
    sizes = generator.binomial(looks.daily, looks.share, (looks.runs, looks.days))
    arms = running(treatment, sizes), running(control, looks.daily - sizes)
    harm, margin, _ = limits(guardrail, *arms, alpha=looks.alpha)
    return {"each arm": _watched(harm, margin), "by its own": _watched(*_by_its_own(guardrail, *arms, looks.alpha))}


def running(draw: Draw, sizes: npt.NDArray[np.int64]) -> Moments:
    """Moments of one arm after each of K days, where day k brings `sizes[..., k]` units: `[R, K]`."""
    seen = sizes.cumsum(-1)
    values = draw((len(sizes), int(seen.max())))
    at = np.maximum(seen, 1) - 1
    sums, squares = (np.take_along_axis(np.cumsum(values**power, -1), at, -1) for power in (1, 2))
    count = np.maximum(seen, 1).astype(np.float64)
    variance = np.maximum(squares - sums**2 / count, 0.0) / np.maximum(count - 1, 1.0)
    return Moments(count, sums / count, variance)


def drifting_ramp(
    generator: np.random.Generator,
    *,
    runs: int,
    shares: Sequence[float],
    units: int,
    drift: float,
    effect: float,
) -> dict[str, Rates]:
    """Stages of `units` units each, over which the metric drifts by `drift` in all: three ways of reading them.

    `width` and `covered` are of the true `effect`; `shown` says how often 0 is left out.
    """
    means = MEAN + drift * np.linspace(0.0, 1.0, len(shares))
    treated, kept = [], []
    for share, middle in zip(shares, means, strict=True):
        count = generator.binomial(units, share, runs).astype(np.float64)
        treated.append(_drawn(generator, count, middle + effect, SD))
        kept.append(_drawn(generator, units - count, middle, SD))
    return {
        "moments over all stages": rates(stratified_difference([pooled(treated)], [pooled(kept)]), effect),
        "last stage alone": rates(stratified_difference(treated[-1:], kept[-1:]), effect),
        "within stages": rates(stratified_difference(treated, kept), effect),
    }


def safety_power(generator: np.random.Generator, plan: RolloutPlan, *, runs: int) -> dict[float, float]:
    """How often each safety stage of `plan` shows its `detectable_effect` at its end, by `guardrails.limits`.

    Units are normal; the metric is read as `rollout.METRIC`.
    """
    found = {}
    for stage in plan.stages:
        if stage.purpose != "safety" or stage.detectable_effect is None:
            continue
        count = [np.full(runs, float(n)) for n in (stage.treatment_units, stage.control_units)]
        harmed = _drawn(generator, count[0], plan.baseline_mean - stage.detectable_effect, plan.baseline_sd)
        kept = _drawn(generator, count[1], plan.baseline_mean, plan.baseline_sd)
        harm, margin, _ = limits(METRIC, harmed, kept, alpha=family_level(plan.guardrails, plan.alpha))
        found[stage.share] = float((harm.low > margin).mean())
    return found


def last_look(
    generator: np.random.Generator, guardrail: Guardrail, treated: Chances, kept: Chances, *, runs: int, alpha: float
) -> Watched:
    """One look by `guardrails.limits`."""
    arms = []
    for units, chance, amount in (treated, kept):
        share = generator.binomial(units, chance, runs) / units
        variance = amount**2 * share * (1 - share) * units / (units - 1)
        arms.append(Moments(np.full(runs, float(units)), amount * share, variance))
    harm, margin, _ = limits(guardrail, *arms, alpha=alpha)
    return Watched(float((harm.high <= margin).mean()), float((harm.low > margin).mean()))


def _drawn(generator: np.random.Generator, count: Floats, mean: float, sd: float) -> Moments:
    """Moments of `count` normal units, from their own distributions."""
    average = mean + sd * generator.normal(size=count.shape) / np.sqrt(count)
    return Moments(count, average, sd**2 * generator.chisquare(count - 1) / (count - 1))


def _by_its_own(guardrail: Guardrail, treatment: Moments, control: Moments, alpha: float) -> tuple[Estimate, Floats]:
    value = treatment.mean - control.mean
    count = treatment.units + control.units
    found = always_valid(
        value if guardrail.harm == "higher" else -value,
        treatment.variance / treatment.units + control.variance / control.units,
        count,
        early=count < 200,
        alpha=alpha,
        tuned_for=10_000.0,
    )
    return found, guardrail.margin * (np.abs(control.mean) if guardrail.relative else np.ones_like(value))


def _watched(harm: Estimate, margin: Floats) -> Watched:
    return Watched(float((harm.high <= margin).any(-1).mean()), float((harm.low > margin).any(-1).mean()))
