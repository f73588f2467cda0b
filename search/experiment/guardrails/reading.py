"""Guardrails: what must not get worse while an experiment runs, and when to stop or go on. Declared as data.

A guardrail is read with always-valid intervals, so it may be looked at after every hour. `stop` needs evidence of harm:
the whole interval lies beyond the margin. `clear` needs evidence of safety: the whole interval lies within it. All else
is `wait`. The levels of a family add up to alpha, so a harmless V2 is stopped by any of them with at most probability
alpha. Nothing is read before *each* arm has its burn-in and its least number of events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite, nan, pi
from typing import Any, Literal

import numpy as np

from search.experiment.estimate import Estimate, Floats
from search.experiment.guardrails.bounded import bounded_difference
from search.experiment.sample_ratio import ALPHA, always_valid_sample_ratio_p
from search.experiment.sequential import BURN_IN, TUNED_FOR, Moments, always_valid, cautious_variance
from search.experiment.strata import Contrast, contrast, pooled

Status = Literal["stop", "clear", "wait"]
Arm = Moments | Sequence[Moments]
"""One arm's moments since the stage began, or one entry a stratum (stage or day) where the share has changed."""

LEAST_EVENTS = 20.0
"""Events that each arm must hold, or be expected to hold, before a limit theorem is believed of a metric."""
GO_ON = "every guardrail is clear: its whole interval lies within the margin"
"""What lets a stage go on to the next, as `may_ramp` checks it; the absence of a stop is not enough."""
STOP = "any guardrail says stop: its whole interval lies beyond the margin"
"""What ends a rollout, as `should_stop` checks it."""


@dataclass(frozen=True, kw_only=True)
class Guardrail:
    """One metric, a mean over units in each arm, which treatment must not make worse by more than a margin."""

    name: str
    metric: str
    """What is averaged over the units of an arm."""
    harm: Literal["higher", "lower"]
    """In which direction the metric gets worse."""
    margin: float
    """How much worse is borne: in the metric's unit, or a fraction of the control's mean where `relative`."""
    relative: bool = False
    then: str = "treatment back to 0 % of the traffic; V1 answers everybody"
    """What is done at `stop`."""
    upper: float | None = None
    """Largest value of a unit where none is below 0, such as 1 for shares: then exact limits are read as well, which
    need no events. None: not known."""
    least_events: float = LEAST_EVENTS
    """Events that each arm needs (see `events`). 0 for a metric that may be below 0 and is not skewed."""

    def __post_init__(self) -> None:
        if not (isfinite(self.margin) and self.margin >= 0.0):
            raise ValueError(f"guardrail {self.name!r}: the margin must be a number of at least 0, got {self.margin}")
        if self.upper is not None and not (isfinite(self.upper) and self.upper > 0.0):
            raise ValueError(f"guardrail {self.name!r}: the upper bound must be above 0 or None, got {self.upper}")
        if not (isfinite(self.least_events) and self.least_events >= 0.0):
            raise ValueError(f"guardrail {self.name!r}: least_events must be at least 0, got {self.least_events}")


@dataclass(frozen=True, kw_only=True)
class GuardrailReading:
    """One guardrail at one look: harm is positive, in the metric's unit."""

    name: str
    harm: float
    harm_low: float
    harm_high: float
    margin: float
    """In the metric's unit, the relative ones multiplied out."""
    status: Status
    then: str
    events: float = nan
    """Events in the arm that has fewer (see `events`)."""


GUARDRAILS = (
    Guardrail(
        name="slow answers",
        metric="share of a unit's answers that took longer than 100 ms (a P95 target as a mean: 0.05 is P95 = 100 ms)",
        harm="higher",
        margin=0.005,
        upper=1.0,
    ),
    Guardrail(
        name="failed answers",
        metric="share of a unit's requests left unanswered",
        harm="higher",
        margin=0.001,
        upper=1.0,
    ),
    Guardrail(
        name="zero results", metric="share of a unit's queries without a result", harm="higher", margin=0.005, upper=1.0
    ),
    Guardrail(
        name="abandoned queries",
        metric="share of a unit's queries without a click",
        harm="higher",
        margin=0.01,
        upper=1.0,
    ),
    Guardrail(name="revenue", metric="revenue a unit", harm="lower", margin=0.01, relative=True),
)
"""What a ranker's rollout is watched by unless a team declares its own; the sample ratio is always watched besides."""


def read_guardrails(
    guardrails: Sequence[Guardrail],
    treatment: Mapping[str, Arm],
    control: Mapping[str, Arm],
    *,
    alpha: float = 0.05,
    tuned_for: float = TUNED_FOR,
    share: float | None = None,
) -> tuple[GuardrailReading, ...]:
    """Every guardrail at one look; `treatment` and `control` map a guardrail's name to its moments so far.

    Args:
        treatment, control: moments of this stage alone, or a list with a stage (or day) an entry, the same in both
            arms. Moments added up over stages of different shares take a drift for an effect.
        share: fraction of the units that this stage assigns to treatment; the arms' sizes are then held against it.

    Raises ValueError, naming it, where a guardrail has not been measured (an unread guardrail guards nothing), its mean
    lies outside [0, upper], or the sizes of its arms are not those of `share`.
    """
    missing = [g.name for g in guardrails if g.name not in treatment or g.name not in control]
    if missing:
        raise ValueError(f"not measured in both arms: {', '.join(missing)}; measure them or take them off the list")
    readings = []
    for guardrail in guardrails:
        arms = treatment[guardrail.name], control[guardrail.name]
        _check_arms(guardrail, _strata(arms[0]), _strata(arms[1]), share)
        readings.append(_read(guardrail, *arms, family_level(guardrails, alpha), tuned_for))
    return tuple(readings)


def family_level(guardrails: Sequence[Guardrail], alpha: float) -> float:
    """The level at which each guardrail of a family is read, so that all together err in at most `alpha`."""
    return alpha / max(1, len(guardrails))


def interval_level(guardrail: Guardrail, level: float) -> float:
    """The level of a guardrail's asymptotic interval: half of its own where exact limits are read as well."""
    return level if guardrail.upper is None else level / 2


def should_stop(readings: Sequence[GuardrailReading]) -> bool:
    """Whether `STOP` holds."""
    return any(reading.status == "stop" for reading in readings)


def may_ramp(readings: Sequence[GuardrailReading]) -> bool:
    """Whether `GO_ON` holds: the guardrails' condition for the next stage, in `rollout.next_stage` as well."""
    return all(reading.status == "clear" for reading in readings)


def events_a_unit(mean: float, variance: float) -> float:
    """Events that one unit of a metric with this mean and variance brings (see `events`)."""
    return float(_kish(Moments(*(np.asarray(x, np.float64) for x in (1e12, mean, variance)))))


def events(treatment: Moments, control: Moments) -> Floats:
    """Events in the arm that has fewer, `[...]`: N mean^2 / mean square (Kish 1965), in its own moments or in both's.

    Of an indicator, that is how often it is 1; of an amount, the number of equal units that vary as much. An arm holds
    what it has, or would have if both arms were alike: no event in many units is knowledge, too. Values that may all
    lie in [0, 1] are counted from the rarer end: 99.8 % answered is as rare an event as 0.2 % failed.
    """
    both = pooled((treatment, control))
    expected = _kish(both)
    arms = [np.maximum(_kish(arm), expected) * arm.units for arm in (treatment, control)]
    return np.minimum(*arms)


def _kish(arm: Moments) -> Floats:
    """Events a unit."""

    def of(level: Floats) -> Floats:
        square = arm.variance + level**2
        return np.asarray(np.where(square > 0, level**2 / np.where(square > 0, square, 1.0), 0.0))

    coin = arm.mean * (1 - arm.mean) * arm.units / np.maximum(arm.units - 1, 1.0)
    within_unit = (arm.mean >= 0) & (arm.mean <= 1) & (arm.variance <= coin * (1 + 1e-9))
    return np.where(within_unit, np.minimum(of(arm.mean), of(1 - arm.mean)), of(arm.mean))


def limits(
    guardrail: Guardrail, treatment: Arm, control: Arm, *, alpha: float, tuned_for: float = TUNED_FOR
) -> tuple[Estimate, Floats, Floats]:
    """Harm with its always-valid limits, the margin in the metric's unit, and the events: moments and result `[...]`.

    The asymptotic limits are infinite before the burn-in or the least events of an arm. Each arm has the larger of its
    own variance and that of both arms together: an arm with few events has a small mean and a small variance at once,
    so its own makes it look safe when it was lucky. Where the largest value of a unit is known, exact limits are read
    as well, each at half of `alpha`: of several strata the average of theirs, which is wide where strata are many.

    Units count as far as they are compared: those of a stratum that `strata.contrast` leaves out say nothing.
    """
    of_treatment, of_control = _strata(treatment), _strata(control)
    found = contrast(of_treatment, of_control)
    whole = pooled(found.used[0]), pooled(found.used[1])
    count = events(*whole)
    variance = cautious_variance(found.own, found.common, found.units, each_arm=True)
    smaller, total = np.minimum(*found.units), found.units[0] + found.units[1]
    level = interval_level(guardrail, alpha)
    harm = always_valid(
        found.value,
        variance,
        np.maximum(total if len(of_treatment) == 1 else found.clock, 1.0),
        early=(smaller < BURN_IN) | (count < guardrail.least_events) | (variance <= 0),
        alpha=level,
        tuned_for=tuned_for,
    )
    low, high = harm.low, harm.high
    if guardrail.upper is not None:
        ramp = not (isinstance(treatment, Moments) and isinstance(control, Moments))
        least, most = _exact(found, guardrail.upper, level, tuned_for, ramp=ramp)
        low, high = np.maximum(low, least), np.minimum(high, most)
    value, p = harm.value, harm.p
    if guardrail.harm == "lower":
        value, low, high = -value, -high, -low
    margin = guardrail.margin * (np.abs(found.control_mean) if guardrail.relative else np.ones_like(value))
    return Estimate(value, low, high, p, 1 - alpha), np.asarray(margin), count


def _exact(found: Contrast, upper: float, alpha: float, tuned_for: float, *, ramp: bool) -> tuple[Floats, Floats]:
    """Exact limits `[...]` of the strata's average difference: the average of each stratum's own.

    In a `ramp`, stratum k = 1, 2, ... has the level 6 alpha / (pi k)^2: all of them together keep alpha, however many
    are still to come.
    """
    least, most = np.zeros_like(found.value), np.zeros_like(found.value)
    for k, (treatment, control, weight) in enumerate(zip(*found.used, found.weight, strict=True), start=1):
        own = 6 * alpha / (pi * k) ** 2 if ramp else alpha
        low, high = bounded_difference(treatment, control, upper=upper, alpha=own, tuned_for=tuned_for)
        least, most = least + weight * low, most + weight * high
    compared = found.clock > 0
    return np.where(compared, least, -np.inf), np.where(compared, most, np.inf)


def as_json(guardrails: Sequence[Guardrail]) -> list[dict[str, Any]]:
    """Plain values."""
    return [asdict(guardrail) for guardrail in guardrails]


def _strata(arm: Arm) -> tuple[Moments, ...]:
    return (arm,) if isinstance(arm, Moments) else tuple(arm)


def _check_arms(
    guardrail: Guardrail, treatment: tuple[Moments, ...], control: tuple[Moments, ...], share: float | None
) -> None:
    if guardrail.upper is not None:
        outside = [float(p.mean) for p in treatment + control if p.units > 0 and not 0 <= p.mean <= guardrail.upper]
        if outside:
            raise ValueError(
                f"guardrail {guardrail.name!r}: a mean of {outside[0]:g} is outside [0, {guardrail.upper:g}]; "
                "correct the measurement or the guardrail's `upper`"
            )
    if share is None:
        return
    sizes = [float(treatment[-1].units), float(control[-1].units)]
    if float(always_valid_sample_ratio_p([sizes], (share, 1 - share))[0]) < ALPHA:
        raise ValueError(
            f"guardrail {guardrail.name!r}: {sizes[0]:,.0f} and {sizes[1]:,.0f} units are not a split at {share:.0%}. "
            "Moments added up over stages of other shares? Give this stage's alone, or one entry a stage. Else units "
            "were lost or counted twice (`sample_ratio`): find out why before anything is read"
        )


def _read(guardrail: Guardrail, treatment: Arm, control: Arm, level: float, tuned_for: float) -> GuardrailReading:
    harm, margin, count = limits(guardrail, treatment, control, alpha=level, tuned_for=tuned_for)
    status: Status = "stop" if harm.low > margin else "clear" if harm.high <= margin else "wait"
    return GuardrailReading(
        name=guardrail.name,
        harm=float(harm.value),
        harm_low=float(harm.low),
        harm_high=float(harm.high),
        margin=float(margin),
        status=status,
        then=guardrail.then if status == "stop" else "",
        events=float(count),
    )
