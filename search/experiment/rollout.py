"""The plan of a release: 5 % first, what each stage can show, how long it lasts, what stops it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import ceil, isfinite
from typing import Any, Literal

from search.experiment.guardrails import (
    GO_ON,
    GUARDRAILS,
    STOP,
    Guardrail,
    GuardrailReading,
    family_level,
    may_ramp,
    should_stop,
)
from search.experiment.guardrails.watch import Watch
from search.experiment.sample_ratio import ALPHA, always_valid_sample_ratio_p
from search.experiment.sizes import (
    SampleSize,
    detectable_effect,
    power_of_means,
    size_of_means,
)

HARM_SEEN_EARLY = 2.0
"""A stage before the deciding one lasts until it would show a loss of this many times the wanted effect, read as
`METRIC`."""
METRIC = Guardrail(
    name="the metric that decides",
    metric="what the release is to raise, a unit",
    harm="lower",
    margin=0.0,
    least_events=0.0,
)
"""As a guardrail, at one guardrail's level: no loss of it is borne. No plan stops by it unless a team declares it."""
WEEK = 7
"""Days that the deciding stage is rounded up to: weekdays and weekends differ."""
WATCH = 7
"""Days at 100 %, where there is nothing left to compare with but the stage before."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What is known of V1 before a release, a unit (a query, a user)."""

    mean: float
    """Of the metric, and its standard deviation."""
    sd: float
    daily_units: float | None = None
    """Units a day over all traffic, that have not been seen before; None: days are left open."""
    guardrails: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Mean and standard deviation of guardrails, by name. The stages are then long enough for a harmless V2 to clear
    them, which is what lets a stage go on."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One share of the traffic under V2, the rest under V1."""

    share: float
    """Fraction of units under treatment."""
    purpose: Literal["safety", "decision", "full"]
    """safety: would show a large harm. decision: shows the wanted effect. full: watched only."""
    treatment_units: int
    """Units needed under treatment; at 100 %, 0: no comparison is made there."""
    control_units: int
    days: int | None
    """None where the traffic a day is not known."""
    detectable_effect: float | None
    """Smallest true difference that the stage shows with the plan's power, over its whole length; None at 100 %.

    Of the metric that decides: in a safety stage a loss, read as `METRIC` (a guardrail without a margin), in the
    deciding stage a difference, by the t interval. What the plan's own guardrails stop says `harm_to_stop`.
    """
    units_to_clear: dict[str, int] = field(default_factory=dict)
    """Units under treatment at which a harmless V2 clears each guardrail whose baseline is known. The stage has at
    least as many. The plan's power is of each guardrail, not of all of them together: that all are clear is rarer."""
    harm_to_stop: dict[str, float | None] = field(default_factory=dict)
    """The smallest true harm, margin included, in the metric's unit, at which each of these guardrails says stop at the
    stage's end with the plan's power; None where no harm of its units would."""


@dataclass(frozen=True, kw_only=True)
class RolloutPlan:
    """A release in stages, in numbers."""

    baseline_mean: float
    baseline_sd: float
    effect: float
    """The wanted effect, in the metric's unit."""
    relative_effect: float | None
    """`effect` over the baseline's mean; None where that is 0."""
    alpha: float
    power: float
    daily_units: float | None
    units_per_arm: SampleSize
    """Units of each arm that show the effect where both arms are equally large."""
    stages: tuple[Stage, ...]
    total_days: int | None
    guardrails: tuple[Guardrail, ...]
    rules: tuple[str, ...]
    """How the stages are gone through."""
    unsized: tuple[str, ...] = ()
    """Guardrails without a known baseline: the stages may last longer than their days until these are clear."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class StageReading:
    """What is done at one look at a stage."""

    then: Literal["stop", "stay", "go on"]
    reasons: tuple[str, ...]
    """Why it stops, or what is still missing; empty at `go on`."""


def rollout_plan(
    baseline: Baseline,
    effect: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    stages: Sequence[float] = (0.05, 0.2, 0.5, 1.0),
    guardrails: Sequence[Guardrail] = GUARDRAILS,
) -> RolloutPlan:
    """Stages, sample sizes, days and guardrails of a release that is to show `effect`.

    Args:
        effect: wanted difference of means, in the metric's unit (+0.015 nDCG, say).
        stages: ascending fractions of the traffic under V2; the last may be 1.

    Raises:
        ValueError: stages not ascending in (0, 1], none below 1, a baseline of no guardrail or without a margin to
            clear, or what `sizes.size_of_means` refuses.
    """
    shares = tuple(stages)
    _require_ascending(shares)
    daily = baseline.daily_units
    if daily is not None and not (isfinite(daily) and daily > 0):
        raise ValueError(f"the baseline's daily_units must be above 0, got {daily}")
    if not isfinite(baseline.mean):
        raise ValueError(f"the baseline's mean must be finite, got {baseline.mean}")
    even = size_of_means(effect, baseline.sd, alpha=alpha, power=power)  # refuses what no stage can be sized by
    level = family_level(guardrails, alpha)
    design = _Design(
        mean=baseline.mean,
        sd=baseline.sd,
        effect=effect,
        daily=daily,
        alpha=alpha,
        power=power,
        level=level,
        watches=_watches(guardrails, baseline.guardrails, level),
    )
    compared = [share for share in shares if share < 1.0]
    deciding = max(compared, key=lambda share: (min(share, 1 - share), share))
    planned = tuple(_full(daily) if share == 1.0 else _stage(share, share == deciding, design) for share in shares)
    days = [stage.days for stage in planned]
    return RolloutPlan(
        baseline_mean=baseline.mean,
        baseline_sd=baseline.sd,
        effect=effect,
        relative_effect=effect / baseline.mean if baseline.mean else None,
        alpha=alpha,
        power=power,
        daily_units=daily,
        units_per_arm=even,
        stages=planned,
        total_days=None if daily is None else sum(d for d in days if d is not None),
        guardrails=tuple(guardrails),
        rules=_rules(deciding, alpha, len(guardrails)),
        unsized=tuple(g.name for g in guardrails if g.name not in baseline.guardrails),
    )


def _require_ascending(shares: tuple[float, ...]) -> None:
    if not shares or list(shares) != sorted(set(shares)) or not 0.0 < shares[0] < 1.0 or shares[-1] > 1.0:
        raise ValueError(f"stages must ascend in (0, 1] and begin below 1, such as (0.05, 0.2, 0.5, 1.0); got {shares}")


def plan_power(plan: RolloutPlan) -> float:
    """Probability that the deciding stage shows the wanted effect at its planned size; at least `plan.power`."""
    stage = next(stage for stage in plan.stages if stage.purpose == "decision")
    return power_of_means(plan.effect, plan.baseline_sd, stage.treatment_units, stage.control_units, alpha=plan.alpha)


def next_stage(
    plan: RolloutPlan,
    share: float,
    readings: Sequence[GuardrailReading],
    *,
    treatment_units: int,
    control_units: int,
) -> StageReading:
    """What one look at the stage of this `share` says; units are those of this stage alone, so far.

    It stops at a sample-ratio mismatch (nothing else counts then) or where `guardrails.should_stop`; it goes on where
    its units are there and `guardrails.may_ramp`; else it stays.

    Raises ValueError where the plan compares nothing at this share, or a guardrail of the plan has not been read.
    """
    stage = next((stage for stage in plan.stages if stage.share == share and share < 1.0), None)
    if stage is None:
        compared = [stage.share for stage in plan.stages if stage.share < 1.0]
        raise ValueError(f"the plan compares V1 and V2 at {compared}, not at {share}")
    unread = {guardrail.name for guardrail in plan.guardrails} - {reading.name for reading in readings}
    if unread:
        raise ValueError(f"guardrails of the plan that were not read: {', '.join(sorted(unread))}")
    p = float(always_valid_sample_ratio_p([[treatment_units, control_units]], (share, 1 - share))[0])
    if p < ALPHA:
        found = f"sample-ratio mismatch: {treatment_units:,} and {control_units:,} units at {share:.0%} (p {p:.1g})"
        return StageReading(then="stop", reasons=(found,))
    if should_stop(readings):
        return StageReading(then="stop", reasons=tuple(r.name for r in readings if r.status == "stop"))
    missing = [
        f"{have:,} of {need:,} units under {arm}"
        for have, need, arm in (
            (treatment_units, stage.treatment_units, "V2"),
            (control_units, stage.control_units, "V1"),
        )
        if have < need
    ]
    if not may_ramp(readings):
        missing += [f"not yet clear: {reading.name}" for reading in readings if reading.status != "clear"]
    return StageReading(then="stay" if missing else "go on", reasons=tuple(missing))


@dataclass(frozen=True, kw_only=True)
class _Design:
    """What all stages of a plan share."""

    mean: float
    sd: float
    effect: float
    daily: float | None
    alpha: float
    power: float
    level: float
    """Of one guardrail."""
    watches: tuple[Watch, ...]
    """Guardrails whose mean and standard deviation under V1 are known."""


def _stage(share: float, decides: bool, design: _Design) -> Stage:
    ratio = (1 - share) / share
    asked = {"power": design.power, "ratio": ratio}
    metric = Watch(guardrail=METRIC, mean=design.mean, sd=design.sd, alpha=design.level)
    if decides:
        size = size_of_means(design.effect, design.sd, alpha=design.alpha, **asked)
    else:
        loss = HARM_SEEN_EARLY * abs(design.effect)
        size = metric.units_to_stop(loss, **asked)
    clear = {watch.guardrail.name: watch.units_to_clear(**asked).treatment for watch in design.watches}
    treatment = max([size.treatment, *clear.values()])
    control, days = max(size.control, ceil(ratio * treatment)), None
    if design.daily is not None:
        days = max(1, ceil(max(treatment / (share * design.daily), control / ((1 - share) * design.daily))))
        days = WEEK * ceil(days / WEEK) if decides else days
        # whole days bring more units than were needed
        treatment = max(treatment, int(days * share * design.daily))
        control = max(control, int(days * (1 - share) * design.daily))
    shows = (
        detectable_effect(design.sd, treatment, control, alpha=design.alpha, power=design.power)
        if decides
        else metric.harm_to_stop(treatment, control, power=design.power, precision=1e-7)
    )
    stops = {
        watch.guardrail.name: watch.harm_to_stop(treatment, control, power=design.power) for watch in design.watches
    }
    return Stage(
        share=share,
        purpose="decision" if decides else "safety",
        treatment_units=treatment,
        control_units=control,
        days=days,
        detectable_effect=shows,
        units_to_clear=clear,
        harm_to_stop={name: harm if isfinite(harm) else None for name, harm in stops.items()},
    )


def _watches(
    guardrails: Sequence[Guardrail], baselines: Mapping[str, tuple[float, float]], level: float
) -> tuple[Watch, ...]:
    by_name = {guardrail.name: guardrail for guardrail in guardrails}
    for name, (mean, sd) in baselines.items():
        if name not in by_name:
            raise ValueError(f"a baseline of {name!r}, which is no guardrail of this plan: {', '.join(by_name)}")
        guardrail = by_name[name]
        if not (isfinite(mean) and isfinite(sd) and sd > 0.0):
            raise ValueError(f"the baseline of {name!r} must be a finite mean and a deviation above 0: {mean}, {sd}")
        if guardrail.margin == 0.0 or (guardrail.relative and mean == 0.0):
            raise ValueError(f"guardrail {name!r} has a margin of 0, within which no interval ever lies: widen it")
    return tuple(
        Watch(guardrail=by_name[name], mean=mean, sd=sd, alpha=level) for name, (mean, sd) in baselines.items()
    )


def _full(daily: float | None) -> Stage:
    return Stage(
        share=1.0,
        purpose="full",
        treatment_units=0,
        control_units=0,
        days=None if daily is None else WATCH,
        detectable_effect=None,
    )


def _rules(deciding: float, alpha: float, guardrails: int) -> tuple[str, ...]:
    return (
        "assign units by hashed id with one salt for the whole rollout: a unit under V2 stays there at later stages",
        "check the sample ratio first, every day; at a mismatch (p < 0.001) stop and find out why: nothing else counts",
        f"read the {guardrails} guardrails as often as you like with always-valid intervals, each at level "
        f"{alpha:g}/{guardrails}, on units of this stage alone or with an entry a stage; take V2 back to 0 % where "
        f"{STOP}",
        f"go on to the next stage when its units are there and {GO_ON}",
        f"decide once, at the end of the {deciding:.0%} stage, by the fixed-horizon interval with CUPED, on units "
        "first seen in that stage, or on differences within stages: means over stages of different shares take drift "
        "for an effect; to decide earlier read the always-valid interval, which is wider",
    )
