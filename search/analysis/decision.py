"""GO, PAUSE_AND_FIX or ARCHIVE: a pure function of what was measured.

ARCHIVE comes first and needs an archive rule with its interval; GO needs every applicable gate passed and nothing
fragile; all else is PAUSE_AND_FIX.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fusion_models.probes import TREES
from search.analysis.archive import ArchiveRule, archive_rules, earning, nominal
from search.analysis.gates import GateResult, Status, blank_gates, read_gates
from search.analysis.judged import Evidence, Lead, Probe
from search.analysis.measure import NOMINAL_LEVEL, at_level
from spaces import Phase

Verdict = Literal["GO", "PAUSE_AND_FIX", "ARCHIVE"]

__all__ = ["ArchiveRule", "Decision", "Evidence", "GateResult", "Status", "Verdict", "decide", "is_fragile"]


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
    warnings: tuple[str, ...] = ()
    """What the first screen says whatever the verdict, such as a search that bought nothing."""
    closed_catalogue: bool = False
    """A business fact: no new item ever comes, so nothing here speaks of new items."""

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
        return Decision(
            verdict="PAUSE_AND_FIX",
            fragile=False,
            finalist=finalist,
            gates=(*blank_gates(phase), *more_gates),
            archive_rules=(),
            reasons=("nothing was confirmed with fresh seeds, so no gate has been measured",),
            facts=facts or {},
        )
    gates = (*read_gates(phase, evidence), *more_gates)
    rules = (*archive_rules(phase, evidence), *more_rules)
    fragile = is_fragile(phase, evidence)
    holding = [rule for rule in rules if rule.holds]
    seen = [*_lead_said(sees_more(phase, evidence)), *_probe_said(phase, earns_more(phase, evidence))]
    passed = all(gate.status in ("pass", "not applicable") for gate in gates)
    archived = bool(holding) and not seen
    verdict: Verdict = "ARCHIVE" if archived else "GO" if passed and not holding and not fragile else "PAUSE_AND_FIX"
    return Decision(
        verdict=verdict,
        fragile=fragile,
        finalist=finalist,
        gates=gates,
        archive_rules=rules,
        reasons=tuple(_reasons(phase, gates, holding, seen, fragile, evidence)),
        facts=facts or {},
        warnings=tuple(_warnings(evidence)),
        closed_catalogue=evidence.closed_catalogue,
    )


def is_fragile(phase: Phase, evidence: Evidence) -> bool:
    """Blanking the suspect costs what the gate wants, and yet its refit gain is not surely something: not fused.

    Where no refit was measured nothing is known of that, and a gate of every phase keeps the verdict from GO.
    """
    gain = evidence.refit_gain.get(phase.suspect)
    return breaks(phase, evidence) and gain is not None and gain.low <= 0.0


def breaks(phase: Phase, evidence: Evidence) -> bool:
    """Whether blanking the suspect costs what the gate wants."""
    drop = evidence.quantities.get(f"{phase.suspect}_masking_drop")
    return drop is not None and drop.mean >= phase.wanted_drop


def sees_more(phase: Phase, evidence: Evidence) -> Lead | None:
    """A rival that reads the suspect and surely beats the finalist: V2 is to be mended, not archived.

    Not one that leads by something else than the suspect. Trees do where they surely earn nothing from it, whether or
    not they would find a planted signal: their own lead is asked for its reason, not the suspect for its worth. Any
    rival does where trees would find a signal, and surely earn nothing.
    """
    trees = [probe for probe in evidence.archive.probes if probe.name == TREES]
    earning_nothing = [probe for probe in trees if probe.gain.high < phase.thresholds.nothing_to_give]
    if any(probe.counts for probe in earning_nothing):
        return None
    ahead = [
        lead
        for role, lead in evidence.rivals.items()
        if lead and lead.with_suspect and leads(lead) and not (role == "trees" and earning_nothing)
    ]
    return min(ahead, key=lambda lead: lead.interval.mean, default=None)


def leads(lead: Lead) -> bool:
    """Whether the rival surely leads, at 95 %: a further look must not end V2 by hearing less of its rivals."""
    return at_level(lead.interval, NOMINAL_LEVEL).high < 0.0


def earns_more(phase: Phase, evidence: Evidence) -> Probe | None:
    """A probe that surely earns from the suspect, in the mean as much as is something, and more than the ranker.

    A ranker that does not see its image gains what a tuned V1 gains, whatever the image is worth. So this holds off
    every archive rule, not the one on refit gains alone. What a probe surely earns counts, whether or not it finds a
    planted signal. More than the ranker: its whole interval lies above what the ranker's refit gain is in the mean.
    Neither that the two differ surely is asked, nor that the probe surely earns `nothing_to_give`: an image worth 0.008
    was found as 0.006 [0.001, 0.011] by two probes and as 0.001 [-0.005, 0.006] by the ranker, and V2 would have ended
    by a rule that held for want of seeing it. So this errs to PAUSE_AND_FIX.
    """
    own = evidence.archive.refit_gain
    seen = 0.0 if own is None else max(0.0, own.mean)
    sure = [probe for probe in earning(phase, evidence.archive) if nominal(phase, probe.gain).low > seen]
    return max(sure, key=lambda probe: probe.gain.low, default=None)


def _lead_said(seen: Lead | None) -> list[str]:
    if seen is None:
        return []
    found = at_level(seen.interval, NOMINAL_LEVEL)
    low, high = -found.high, -found.low
    return [f"what {seen.rival} sees: it leads by {-seen.interval.mean:.4f} [{low:.4f}, {high:.4f}]"]


def _probe_said(phase: Phase, seen: Probe | None) -> list[str]:
    if seen is None:
        return []
    found = nominal(phase, seen.gain)
    return [f"what the probe {seen.name} sees: it gains {found.mean:.4f} [{found.low:.4f}, {found.high:.4f}] by it"]


def _warnings(evidence: Evidence) -> list[str]:
    out = []
    base = evidence.rivals.get("base")
    if base is not None and leads(base):
        found = at_level(base.interval, NOMINAL_LEVEL)
        said = f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
        out.append(f"the search bought nothing over the V2 you have: {said}")
    if evidence.closed_catalogue:
        out.append("judged for a closed catalogue (a business fact): nothing here speaks of items that are new")
    return out


def _reasons(
    phase: Phase,
    gates: Sequence[GateResult],
    holding: Sequence[ArchiveRule],
    seen: Sequence[str],
    fragile: bool,
    evidence: Evidence,
) -> list[str]:
    said = [f"{rule.name}: {_bound(rule)}" for rule in holding]
    if holding:
        said += [f"no ARCHIVE, for the ranker does not see {what}" for what in seen]
    gain = evidence.refit_gain.get(phase.suspect)
    if fragile and gain is not None:
        found = f"[{gain.low:+.4f}, {gain.high:+.4f}]"
        said.append(f"fragile, not fused: blanking {phase.suspect} costs enough, but its refit gain is {found}")
    elif gain is None and breaks(phase, evidence):
        said.append(f"blanking {phase.suspect} costs enough; whether the ranker needs it no refit has measured")
    for status in ("fail", "undecided", "not measured"):
        names = [gate.name for gate in gates if gate.status == status]
        if names:
            said.append(f"{status}: {', '.join(names)}")
    return said or ["every applicable gate passed on its whole interval"]


def _bound(rule: ArchiveRule) -> str:
    if rule.direction == "above":
        return f"at least {rule.ci_low:.4g}, above {rule.threshold:g}"
    return f"at most {rule.ci_high:+.4f}, below {rule.threshold}"
