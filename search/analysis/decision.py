"""GO, PAUSE_AND_FIX or ARCHIVE: a pure function of what was measured.

A gate passes on its interval, not on its mean. ARCHIVE comes first and needs an archive rule with its interval; GO
needs every applicable gate passed and nothing fragile; all else is PAUSE_AND_FIX.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import nan
from typing import Any, Literal

from fusion_models.config import MODALITIES
from fusion_models.metrics import Interval, more_needed
from spaces import Gate, Phase

Status = Literal["pass", "fail", "undecided", "not applicable", "not measured"]
Verdict = Literal["GO", "PAUSE_AND_FIX", "ARCHIVE"]

NOTHING_TO_GIVE = 0.005
"""Refit gain of the image (nDCG) below which the picture has nothing to give."""
LEAST_GAIN = 0.015
"""After phase 3 a gain whose upper bound is below this ends V2."""
AS_GOOD_AS_TUNED_V1 = 0.005
"""V2's lead over a tuned V1 (nDCG) below which V1 gains as much by tuning."""
LATE_PHASES = ("phase3", "phase4")

RESUME_GATES = (
    Gate(name="resume: queries", quantity="queries", at_least=500, steers=False),
    Gate(name="resume: visual masking drop", quantity="visual_masking_drop", at_least=0.05),
    Gate(name="resume: V1 correlation", quantity="v1_correlation", at_most=0.90),
)
"""The roadmap's technical conditions for resuming V2."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a decision may read. Intervals are of the finalist on the deciding split, over its seeds and queries."""

    quantities: Mapping[str, Interval]
    refit_gain: Mapping[str, Interval]
    """Modality -> nDCG of the finalist minus nDCG of the same recipe retrained without it."""
    base_refit_gain: Interval | None = None
    """The image's refit gain for the base recipe."""
    over_tuned_v1: Interval | None = None
    """nDCG of the finalist minus nDCG of a tuned V1."""
    queries: int | None = 0
    """Queries of the test split with a relevant item; None where another split decides."""
    has_attention: bool = True
    has_images: bool = True
    importance_regularised: bool = False
    """Whether the finalist's recipe holds a term that rewards reliance on the image."""
    modalities: tuple[str, ...] = MODALITIES
    """What the finalist is built with."""
    trainings: tuple[int, int] = (0, 0)
    """Of the trainings that the intervals above rest on: how many finished, how many were asked for."""


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """One gate and what was found there."""

    name: str
    value: float
    ci_low: float
    ci_high: float
    threshold: float
    direction: Literal["at least", "at most"]
    status: Status
    needed: str = ""
    """What would settle an undecided gate."""


@dataclass(frozen=True, kw_only=True)
class ArchiveRule:
    """One rule that ends V2, and whether its interval says so."""

    name: str
    value: float
    ci_high: float
    threshold: float
    holds: bool
    measured: bool
    ci_low: float = nan
    direction: Literal["below", "above"] = "below"
    """On which side of the threshold the whole interval must lie for the rule to hold."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The verdict with its evidence."""

    verdict: Verdict
    fragile: bool
    finalist: str | None
    gates: tuple[GateResult, ...]
    archive_rules: tuple[ArchiveRule, ...]
    reasons: tuple[str, ...]
    facts: Mapping[str, str]
    """Business facts and their status: listed in phases 1 to 3, counted by the release decision alone."""

    def as_json(self) -> dict[str, Any]:
        """Plain values for decision.json."""
        return asdict(self)


def decide(
    phase: Phase,
    finalist: str | None,
    evidence: Evidence | None,
    facts: Mapping[str, str] | None = None,
    *,
    more_gates: Sequence[GateResult] = (),
    more_rules: Sequence[ArchiveRule] = (),
) -> Decision:
    """The verdict of `phase` on one finalist; without a finalist, or without confirmation, every gate is unmeasured.

    `more_gates` and `more_rules` are read elsewhere and count like the phase's own (see `release_decision`).
    """
    if finalist is None or evidence is None:
        blank = [_gate_result(gate, None) for gate in (*phase.gates, *RESUME_GATES)]
        reason = "nothing was confirmed with fresh seeds, so no gate has been measured"
        return Decision(
            verdict="PAUSE_AND_FIX",
            fragile=False,
            finalist=finalist,
            gates=(*blank, *more_gates),
            archive_rules=(),
            reasons=(reason,),
            facts=facts or {},
        )
    wanted = (*phase.gates, *RESUME_GATES)
    gates = (
        *(read_gate(gate, evidence) for gate in wanted),
        _importance(evidence),
        *_earned(phase, evidence),
        _complete(evidence),
        *more_gates,
    )
    rules = (*archive_rules(phase, evidence), *more_rules)
    fragile = is_fragile(evidence)
    archived = [rule for rule in rules if rule.holds]
    passed = all(gate.status in ("pass", "not applicable") for gate in gates)
    verdict: Verdict = "ARCHIVE" if archived else "GO" if passed and not fragile else "PAUSE_AND_FIX"
    return Decision(
        verdict=verdict,
        fragile=fragile,
        finalist=finalist,
        gates=gates,
        archive_rules=rules,
        reasons=tuple(_reasons(gates, archived, fragile, evidence)),
        facts=facts or {},
    )


def read_gate(gate: Gate, evidence: Evidence) -> GateResult:
    """Pass where the whole interval lies on the right side, fail where it is wholly on the wrong side."""
    if (gate.needs == "attention" and not evidence.has_attention) or (
        gate.needs == "images" and not evidence.has_images
    ):
        return _gate_result(gate, None, status="not applicable")
    if gate.quantity == "queries":
        if evidence.queries is None:  # asks whether the test split is large enough: read where that is open
            return _gate_result(gate, None, status="not applicable")
        count = float(evidence.queries)
        return _gate_result(gate, Interval(count, count, count))
    return _gate_result(gate, evidence.quantities.get(gate.quantity))


def _gate_result(gate: Gate, interval: Interval | None, status: Status = "not measured") -> GateResult:
    direction: Literal["at least", "at most"] = "at least" if gate.at_least is not None else "at most"
    if interval is None:
        return GateResult(
            name=gate.name,
            value=nan,
            ci_low=nan,
            ci_high=nan,
            threshold=gate.threshold,
            direction=direction,
            status=status,
        )
    worst, best = sorted((gate.violation(interval.low), gate.violation(interval.high)), reverse=True)
    status = "pass" if worst <= 0.0 else "fail" if best > 0.0 else "undecided"
    return GateResult(
        name=gate.name,
        value=interval.mean,
        ci_low=interval.low,
        ci_high=interval.high,
        threshold=gate.threshold,
        direction=direction,
        status=status,
        needed=_needed(interval, gate.threshold) if status == "undecided" else "",
    )


def _needed(interval: Interval, threshold: float) -> str:
    found = more_needed(interval, threshold)
    counts = ((found.seeds, "seed", "seeds"), (found.queries, "query", "queries"))
    ways = [f"{n:,} more {one if n == 1 else many}" for n, one, many in counts if n]
    return (
        " or ".join(ways) if ways else "no number of seeds or queries alone: the value lies too close to the threshold"
    )


def _importance(evidence: Evidence) -> GateResult:
    """The resume condition "importance regularisation in": in, or the image's refit gain is above 0 without it."""
    gate = Gate(name="resume: importance regularised, or the image's refit gain above 0", quantity="", at_least=0.0)
    gain = evidence.refit_gain.get("visual")
    found = _above_zero(gate, gain)
    if evidence.importance_regularised and found.status != "pass":
        return GateResult(**(asdict(found) | {"status": "pass", "needed": ""}))
    return found


def _earned(phase: Phase, evidence: Evidence) -> tuple[GateResult, ...]:
    """Where a phase wants attention on every modality: the smallest of their refit gains must be above 0.

    Attention spreads over one token a modality even where a modality is empty, so a share alone proves nothing.
    """
    if all(gate.quantity != "attention_min_share" for gate in phase.gates):
        return ()
    gate = Gate(name="every modality earns its attention (smallest refit gain above 0)", quantity="", at_least=0.0)
    if any(m not in evidence.refit_gain for m in evidence.modalities):
        return (_gate_result(gate, None),)
    gains = [evidence.refit_gain[m] for m in evidence.modalities]
    failing = min(gains, key=lambda gain: gain.high)
    return (_above_zero(gate, failing if failing.high <= 0.0 else min(gains, key=lambda gain: gain.low)),)


def _above_zero(gate: Gate, gain: Interval | None) -> GateResult:
    """As `_gate_result`, but 0 itself is not above 0: a refit that changes nothing gains nothing."""
    found = _gate_result(gate, gain)
    if gain is not None and gain.low <= 0.0:
        status: Status = "fail" if gain.high <= 0.0 else "undecided"
        needed = _needed(gain, gate.threshold) if status == "undecided" else ""
        return replace(found, status=status, needed=needed)
    return found


def _complete(evidence: Evidence) -> GateResult:
    """Trainings that did not finish are no random sample: what breaks now and then would be judged by its best days."""
    finished, asked = evidence.trainings
    gate = Gate(name="every training behind the verdict finished", quantity="", at_least=1.0)
    share = finished / asked if asked else 1.0
    return _gate_result(gate, Interval(share, share, share))


def archive_rules(phase: Phase, evidence: Evidence) -> tuple[ArchiveRule, ...]:
    """Every archive rule that this phase may read; each holds only where its whole interval says so."""
    gains = [evidence.refit_gain.get("visual"), evidence.base_refit_gain]
    measured = [gain for gain in gains if gain is not None]
    largest = max(measured, key=lambda gain: gain.high) if len(measured) == len(gains) else None
    rules = [_rule("the image has nothing to give (refit gain, base recipe and finalist)", largest, NOTHING_TO_GIVE)]
    if phase.name in LATE_PHASES:
        rules.append(_rule("the gain over V1 stays too small", evidence.quantities.get("ndcg_gain"), LEAST_GAIN))
        rules.append(_rule("a tuned V1 gains as much", evidence.over_tuned_v1, AS_GOOD_AS_TUNED_V1))
    return tuple(rules)


def _rule(name: str, interval: Interval | None, threshold: float) -> ArchiveRule:
    return ArchiveRule(
        name=name,
        value=interval.mean if interval else nan,
        ci_high=interval.high if interval else nan,
        threshold=threshold,
        holds=interval is not None and interval.high < threshold,
        measured=interval is not None,
        ci_low=interval.low if interval else nan,
    )


def _bound(rule: ArchiveRule) -> str:
    if rule.direction == "above":
        return f"at least {rule.ci_low:.4g}, above {rule.threshold:g}"
    return f"at most {rule.ci_high:+.4f}, below {rule.threshold}"


def is_fragile(evidence: Evidence) -> bool:
    """Blanking the image costs what the gate wants, and yet its refit gain cannot be told from 0: not fused."""
    drop = evidence.quantities.get("visual_masking_drop")
    gain = evidence.refit_gain.get("visual")
    if drop is None or drop.mean < RESUME_GATES[1].threshold:
        return False
    return gain is None or gain.low <= 0.0


def _reasons(
    gates: Sequence[GateResult], archived: Sequence[ArchiveRule], fragile: bool, evidence: Evidence
) -> list[str]:
    said = [f"{rule.name}: {_bound(rule)}" for rule in archived]
    if fragile:
        gain = evidence.refit_gain.get("visual")
        found = f"[{gain.low:+.4f}, {gain.high:+.4f}]" if gain else "not measured"
        said.append(f"fragile, not fused: blanking the image costs enough, but its refit gain is {found}")
    for status in ("fail", "undecided", "not measured"):
        names = [gate.name for gate in gates if gate.status == status]
        if names:
            said.append(f"{status}: {', '.join(names)}")
    return said or ["every applicable gate passed on its whole interval"]
