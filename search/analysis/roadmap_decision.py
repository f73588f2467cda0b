"""One verdict for a whole roadmap: a pure function of its phases' decision.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from search.analysis.decision import Verdict

Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class PhaseVerdict:
    """What one phase decided."""

    phase: str
    title: str
    verdict: Verdict
    fragile: bool
    finalist: str | None
    decided_on: str
    reasons: tuple[str, ...]
    look: str = ""
    """Which look at that split it was, and the level of its intervals; empty where none was taken."""


@dataclass(frozen=True, kw_only=True)
class RoadmapDecision:
    """The roadmap's verdict with what it rests on."""

    verdict: Verdict
    fragile: bool
    finalist: str | None
    """Of the last phase that was run."""
    phases: tuple[PhaseVerdict, ...]
    not_run: tuple[str, ...]
    gates: tuple[Json, ...]
    """Those of the phases that the verdict asks: the ones decided on the test split."""
    archive_rules: tuple[Json, ...]
    """Every one that a phase read, with the phase's name."""
    reasons: tuple[str, ...]
    facts: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Plain values for decision.json."""
        return asdict(self)


def side(rule: Json) -> str:
    """On which side of its threshold the whole interval of an archive rule must lie for it to hold."""
    return str(rule.get("direction", "below"))


def bound(rule: Json) -> float | None:
    """The end of its interval that decides an archive rule."""
    found: float | None = rule["ci_low" if side(rule) == "above" else "ci_high"]
    return found


def stops(decision: Json) -> bool:
    """Whether a phase ends the roadmap: where an archive rule holds, no later phase can help."""
    return bool(decision["verdict"] == "ARCHIVE")


def decide_roadmap(
    planned: Sequence[str], done: Mapping[str, tuple[PhaseVerdict, Json]], *, releasing: Sequence[str]
) -> RoadmapDecision:
    """The verdict over the phases `done` (name -> its verdict and decision.json), in the order `planned`.

    ARCHIVE where an archive rule held in any phase. GO where every phase of `releasing` (those that decide on the test
    split) says GO and every business fact holds. All else is PAUSE_AND_FIX: an earlier phase that paused is what
    the later ones are for, so it pauses nothing by itself.
    """
    phases = [done[name] for name in planned if name in done]
    not_run = tuple(name for name in dict.fromkeys((*planned, *releasing)) if name not in done)
    archived = [said for said, decision in phases if stops(decision)]
    last = phases[-1][0] if phases else None
    facts: Mapping[str, str] = phases[-1][1].get("facts", {}) if phases else {}
    open_facts = [name for name, status in facts.items() if status != "pass"]
    asked = [done[name][0] for name in releasing if name in done]
    go = len(asked) == len(releasing) and all(said.verdict == "GO" for said in asked) and not open_facts
    reasons = [f"{said.phase} ({said.title}): {said.verdict}; {'; '.join(said.reasons)}" for said, _ in phases]
    if archived:
        reasons.append(f"stopped after {archived[0].phase}: an archive rule holds, no later phase can help")
    elif not_run:
        why = f" ({last.phase} confirmed no finalist to go on with)" if last is not None and not last.finalist else ""
        reasons.append(f"not run: {', '.join(not_run)}{why}")
    if open_facts and not archived:
        reasons.append(f"business facts that do not hold or are not stated: {', '.join(open_facts)}")
    return RoadmapDecision(
        verdict="ARCHIVE" if archived else "GO" if go else "PAUSE_AND_FIX",
        fragile=any(said.fragile for said in asked),
        finalist=last.finalist if last is not None else None,
        phases=tuple(said for said, _ in phases),
        not_run=not_run,
        gates=tuple(
            {"phase": said.phase, **gate}
            for said, decision in phases
            if said.phase in releasing
            for gate in decision["gates"]
        ),
        archive_rules=tuple(
            {"phase": said.phase, **rule} for said, decision in phases for rule in decision["archive_rules"]
        ),
        reasons=tuple(reasons),
        facts=facts,
    )
