"""decision.md: the verdict, why, and every gate, for a ticket."""

from __future__ import annotations

import numpy as np

from search.analysis.decision import Decision
from search.run_store.looks import Look
from spaces import Phase


def decision_text(phase: Phase, decision: Decision, decided_on: str, look: Look | None = None) -> str:
    """The verdict as Markdown; `decided_on` names the split."""
    lines = [f"# {decision.verdict}{' (fragile)' if decision.fragile else ''}", ""]
    finalist = f"`{decision.finalist}`" if decision.finalist else "none"
    said = f", {look.said()}" if look is not None else ""
    lines.append(f"{phase.title}. Decided on the {decided_on}{said}. Finalist: {finalist}.")
    lines += ["", *(f"- **{warning}**" for warning in decision.warnings)]
    lines += [*(f"- {reason}" for reason in decision.reasons), ""]
    lines += ["| gate | measured | interval | threshold | status | would settle it |", "|---|---|---|---|---|---|"]
    for gate in decision.gates:
        known = np.isfinite(gate.value)
        value = f"{gate.value:.4f}" if known else "–"
        interval = f"[{gate.ci_low:.4f}, {gate.ci_high:.4f}]" if known else "–"
        note = "; ".join(part for part in (gate.needed, gate.note) if part) or "–"
        lines.append(
            f"| {gate.name} | {value} | {interval} | {gate.direction} {gate.threshold:g} | {gate.status} | {note} |"
        )
    if decision.archive_rules:
        lines += ["", "| archive rule | measured | interval | holds | says so |", "|---|---|---|---|---|"]
        for rule in decision.archive_rules:
            holds = "yes" if rule.holds else "no" if rule.measured else "not measured"
            where = f"{rule.direction} {rule.threshold:g}"
            form = "+.4f" if rule.direction == "below" else ".4g"  # a gain has a sign, milliseconds have none
            interval = f"[{rule.ci_low:{form}}, {rule.ci_high:{form}}]"
            note = f" ({rule.note})" if rule.note else ""
            lines.append(f"| {rule.name} | {rule.value:{form}} | {interval} | {where} | {holds}{note} |")
    if decision.facts:
        lines += ["", "Business facts (counted by the release decision of phase 4 alone):", ""]
        lines += [f"- {name.replace('_', ' ')}: {status}" for name, status in decision.facts.items()]
    return "\n".join(lines) + "\n"
