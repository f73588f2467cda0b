"""The release decision of phase 4: a pure function of phase 3's evidence, the checks made since, and the facts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

from fusion_models.integrity import Check
from fusion_models.metrics import Interval
from search.analysis.archive import RULES_LATE, RULES_RELEASE, ArchiveRule
from search.analysis.decision import Decision, decide
from search.analysis.gates import GateResult, Group, Status
from search.analysis.judged import ArchiveEvidence, Evidence
from search.analysis.measure import at_level
from spaces import Phase


@dataclass(frozen=True, kw_only=True)
class Validated:
    """What phase 4 found beside phase 3's evidence."""

    earlier_verdict: str
    """Of phase 3."""
    integrity: Sequence[Check]
    latency: Interval | None
    """P95 (milliseconds) of what would be released; None: not measured."""
    fastest: Interval | None
    """The smallest P95 of all runtime variants, at the level of an archive rule; lossy ones and smaller recipes count
    unless their own gain or drop fails."""
    ablation_missing: Sequence[str] | None
    """Components whose removal was not measured; None: no ablation."""


def decide_release(
    phase: Phase, finalist: str | None, evidence: Evidence | None, found: Validated, facts: Mapping[str, str]
) -> Decision:
    """GO means: release, at 5 % first. Business facts count here; one that nobody answered is not passed."""
    slowest = phase.thresholds.slowest_ms
    gates = [_earlier(found.earlier_verdict), *(_fact(name, status) for name, status in facts.items())]
    rules = [
        ArchiveRule(
            key="latency",
            name=f"P95 cannot be brought under {slowest:g} ms (the best runtime variant)",
            value=found.fastest.mean if found.fastest else nan,
            ci_low=found.fastest.low if found.fastest else nan,
            ci_high=found.fastest.high if found.fastest else nan,
            threshold=slowest,
            direction="above",
            holds=found.fastest is not None and found.fastest.low > slowest,
            measured=found.fastest is not None,
        )
    ]
    if evidence is not None:
        measured = dict(evidence.quantities) | {"integrity_open": integrity_open(found.integrity)}
        if found.latency is not None:
            measured["latency_p95_ms"] = found.latency
        if found.ablation_missing is not None:
            missing = float(len(found.ablation_missing))
            measured["ablation_open"] = Interval(missing, missing, missing)
        evidence = dataclasses.replace(evidence, quantities=measured, archive=shared(evidence.archive))
    decision = decide(phase, finalist, evidence, facts, more_gates=gates, more_rules=rules)
    said = {
        "integrity_open": "; ".join(
            f"{c.name}: {c.status}" for c in found.integrity if c.counts and c.status != "pass"
        ),
        "ablation_open": ", ".join(found.ablation_missing or ()),
    }
    still_open = said | {"latency_p95_ms": "more requests on a quieter machine"}  # which mend none that failed
    readings = [_with_needed(gate, said if gate.status == "fail" else still_open) for gate in decision.gates]
    reasons = (*decision.reasons, *(f"warning: {c.name} {c.value:.3f}: {c.detail}" for c in warnings(found.integrity)))
    return dataclasses.replace(decision, gates=tuple(readings), reasons=reasons)


def _with_needed(gate: GateResult, said: Mapping[str, str]) -> GateResult:
    if gate.status == "pass" or gate.quantity not in said:
        return gate
    return dataclasses.replace(gate, needed=said[gate.quantity])


def shared(found: ArchiveEvidence) -> ArchiveEvidence:
    """Phase 3's intervals at the level of one of phase 4's rules, which are one more and share the same error."""

    def wider(interval: Interval) -> Interval:
        return at_level(interval, 1.0 - (1.0 - interval.level) * RULES_LATE / RULES_RELEASE)

    said = {field.name: getattr(found, field.name) for field in dataclasses.fields(ArchiveEvidence)}
    changed: dict[str, Any] = {name: wider(value) for name, value in said.items() if isinstance(value, Interval)}
    probes = tuple(dataclasses.replace(p, gain=wider(p.gain)) for p in found.probes)
    return dataclasses.replace(found, probes=probes, **changed)


def warnings(checks: Sequence[Check]) -> list[Check]:
    """What keeps no verdict back and must be weighed by people, such as splits that differ on purpose."""
    return [c for c in checks if c.status == "warning"]


def integrity_open(checks: Sequence[Check]) -> Interval:
    """How many checks fail; up to the upper end, how many do not pass: undecided and unmeasured ones may yet fail."""
    failed = sum(c.status == "fail" for c in checks)
    unsettled = sum(c.counts and c.status not in ("pass", "fail") for c in checks)
    return Interval(float(failed), float(failed), float(failed + unsettled))


def _fact(name: str, status: str) -> GateResult:
    known: dict[str, Status] = {"pass": "pass", "fail": "fail"}
    return _yes_or_no(
        f"resume: {name.replace('_', ' ')} (business fact)", known.get(status, "not measured"), group="resume"
    )


def _earlier(verdict: str) -> GateResult:
    return _yes_or_no("phase 3 said GO", "pass" if verdict == "GO" else "fail")


def _yes_or_no(name: str, status: Status, group: Group = "phase") -> GateResult:
    value = {"pass": 1.0, "fail": 0.0}.get(status, nan)
    return GateResult(
        key=name,
        name=name,
        group=group,
        quantity="",
        kind="fact",
        value=value,
        ci_low=value,
        ci_high=value,
        threshold=1.0,
        direction="at least",
        status=status,
    )
