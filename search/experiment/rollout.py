"""The plan of a release: 5 % first, what each stage can show, how long it lasts, what stops it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil, isfinite
from typing import Any, Literal

from search.experiment.guardrails import GUARDRAILS, Guardrail
from search.experiment.sizes import SampleSize, detectable_effect, power_of_means, size_of_means

HARM_SEEN_EARLY = 2.0
"""A stage before the deciding one lasts until it would show a loss of this many times the wanted effect."""
WEEK = 7
"""Days that the deciding stage is rounded up to: weekdays and weekends differ."""
WATCH = 7
"""Days at 100 %, where there is nothing left to compare with but the stage before."""


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
    """Smallest true difference that the stage shows with the plan's power, over its whole length; None at 100 %."""


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

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def rollout_plan(
    *,
    baseline_mean: float,
    baseline_sd: float,
    effect: float,
    daily_units: float | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
    stages: Sequence[float] = (0.05, 0.2, 0.5, 1.0),
    guardrails: Sequence[Guardrail] = GUARDRAILS,
) -> RolloutPlan:
    """Stages, sample sizes, days and guardrails of a release that is to show `effect`.

    Args:
        baseline_mean, baseline_sd: mean and standard deviation a unit (a query, a user) of the metric under V1.
        effect: wanted difference of means, in the metric's unit (+0.015 nDCG, say).
        daily_units: units a day over all traffic, that have not been seen before; None: days are left open.
        stages: ascending fractions of the traffic under V2; the last may be 1.

    Raises:
        ValueError: stages not ascending in (0, 1], none below 1, or what `sizes.size_of_means` refuses.
    """
    shares = tuple(stages)
    compared = [share for share in shares if share < 1.0]
    if not compared or list(shares) != sorted(set(shares)) or shares[0] <= 0.0 or shares[-1] > 1.0:
        raise ValueError(f"stages must ascend in (0, 1] and begin below 1, such as (0.05, 0.2, 0.5, 1.0); got {shares}")
    if daily_units is not None and not (isfinite(daily_units) and daily_units > 0):
        raise ValueError(f"daily_units must be above 0, got {daily_units}")
    if not isfinite(baseline_mean):
        raise ValueError(f"baseline_mean must be finite, got {baseline_mean}")
    deciding = max(compared, key=lambda share: (min(share, 1 - share), share))
    planned = tuple(
        _full(daily_units)
        if share == 1.0
        else _stage(share, share == deciding, baseline_sd, effect, daily_units, alpha, power)
        for share in shares
    )
    days = [stage.days for stage in planned]
    return RolloutPlan(
        baseline_mean=baseline_mean,
        baseline_sd=baseline_sd,
        effect=effect,
        relative_effect=effect / baseline_mean if baseline_mean else None,
        alpha=alpha,
        power=power,
        daily_units=daily_units,
        units_per_arm=size_of_means(effect, baseline_sd, alpha=alpha, power=power),
        stages=planned,
        total_days=None if daily_units is None else sum(d for d in days if d is not None),
        guardrails=tuple(guardrails),
        rules=_rules(deciding, alpha, len(guardrails)),
    )


def plan_power(plan: RolloutPlan) -> float:
    """Probability that the deciding stage shows the wanted effect at its planned size; at least `plan.power`."""
    stage = next(stage for stage in plan.stages if stage.purpose == "decision")
    return power_of_means(plan.effect, plan.baseline_sd, stage.treatment_units, stage.control_units, alpha=plan.alpha)


def _stage(
    share: float, decides: bool, sd: float, effect: float, daily: float | None, alpha: float, power: float
) -> Stage:
    looked_for = effect if decides else HARM_SEEN_EARLY * effect
    size = size_of_means(looked_for, sd, alpha=alpha, power=power, ratio=(1 - share) / share)
    treatment, control, days = size.treatment, size.control, None
    if daily is not None:
        days = max(1, ceil(max(treatment / (share * daily), control / ((1 - share) * daily))))
        days = WEEK * ceil(days / WEEK) if decides else days
        # whole days bring more units than were needed
        treatment = max(treatment, int(days * share * daily))
        control = max(control, int(days * (1 - share) * daily))
    return Stage(
        share=share,
        purpose="decision" if decides else "safety",
        treatment_units=treatment,
        control_units=control,
        days=days,
        detectable_effect=detectable_effect(sd, treatment, control, alpha=alpha, power=power),
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
        f"{alpha:g}/{guardrails}; one stop takes V2 back to 0 %",
        "go on to the next stage when its days are over and no guardrail says stop",
        f"decide once, at the end of the {deciding:.0%} stage, by the fixed-horizon interval with CUPED; to "
        "decide earlier read the always-valid interval, which is wider",
    )
