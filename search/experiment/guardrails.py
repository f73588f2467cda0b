"""Guardrails: what must not get worse while an experiment runs, and when to stop. Declared as data.

A guardrail is read with always-valid intervals, so it may be looked at after every hour. `stop` needs evidence of harm:
the whole interval lies beyond the margin. `clear` needs evidence of safety: the whole interval lies within it. All else
is `wait`. The levels of a family add up to alpha, so a harmless V2 is stopped by any of them with at most probability
alpha.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal

from search.experiment.sequential import Moments, always_valid_difference

Status = Literal["stop", "clear", "wait"]


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

    def __post_init__(self) -> None:
        if not (isfinite(self.margin) and self.margin >= 0.0):
            raise ValueError(f"guardrail {self.name!r}: the margin must be a number of at least 0, got {self.margin}")


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


GUARDRAILS = (
    Guardrail(
        name="slow answers",
        metric="share of a unit's answers that took longer than 100 ms (a P95 target as a mean: 0.05 is P95 = 100 ms)",
        harm="higher",
        margin=0.005,
    ),
    Guardrail(name="failed answers", metric="share of a unit's requests left unanswered", harm="higher", margin=0.001),
    Guardrail(name="zero results", metric="share of a unit's queries without a result", harm="higher", margin=0.005),
    Guardrail(name="abandoned queries", metric="share of a unit's queries without a click", harm="higher", margin=0.01),
    Guardrail(name="revenue", metric="revenue a unit", harm="lower", margin=0.01, relative=True),
)
"""What a ranker's rollout is watched by unless a team declares its own; the sample ratio is always watched besides."""


def read_guardrails(
    guardrails: Sequence[Guardrail],
    treatment: Mapping[str, Moments],
    control: Mapping[str, Moments],
    *,
    alpha: float = 0.05,
    tuned_for: float = 10_000.0,
) -> tuple[GuardrailReading, ...]:
    """Every guardrail at one look; `treatment` and `control` map a guardrail's name to its moments so far.

    Raises ValueError, naming it, where a guardrail has not been measured: an unread guardrail guards nothing.
    """
    missing = [g.name for g in guardrails if g.name not in treatment or g.name not in control]
    if missing:
        raise ValueError(f"not measured in both arms: {', '.join(missing)}; measure them or take them off the list")
    return tuple(_read(g, treatment[g.name], control[g.name], alpha / len(guardrails), tuned_for) for g in guardrails)


def should_stop(readings: Sequence[GuardrailReading]) -> bool:
    """Whether any guardrail says stop."""
    return any(reading.status == "stop" for reading in readings)


def may_ramp(readings: Sequence[GuardrailReading]) -> bool:
    """Whether every guardrail is shown to be within its margin: the condition for the next stage."""
    return all(reading.status == "clear" for reading in readings)


def as_json(guardrails: Sequence[Guardrail]) -> list[dict[str, Any]]:
    """Plain values."""
    return [asdict(guardrail) for guardrail in guardrails]


def _read(
    guardrail: Guardrail, treatment: Moments, control: Moments, alpha: float, tuned_for: float
) -> GuardrailReading:
    found = always_valid_difference(treatment, control, alpha=alpha, tuned_for=tuned_for).interval()
    sign = 1.0 if guardrail.harm == "higher" else -1.0
    low, high = sorted((sign * found.low, sign * found.high))
    margin = guardrail.margin * (abs(float(control.mean)) if guardrail.relative else 1.0)
    status: Status = "stop" if low > margin else "clear" if high <= margin else "wait"
    return GuardrailReading(
        name=guardrail.name,
        harm=sign * found.mean,
        harm_low=low,
        harm_high=high,
        margin=margin,
        status=status,
        then=guardrail.then if status == "stop" else "",
    )
