"""Where the verdict stands: a few sentences, and the gates with their intervals drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from search.analysis.judged import is_judged
from search.reporting.charts.figure import INK
from search.reporting.records import RunRecord
from search.reporting.words import (
    ablated_at,
    bounds,
    interval,
    label,
    meaning,
    measured,
    metric_text,
    modality_name,
    number,
    wanted,
)
from search.run_store.looks import SPLIT_NAMES, read_look
from spaces import PHASE4

STATUS_COLOURS = {
    "pass": "#0b6b3a",
    "fail": "#9b1c31",
    "undecided": "#8a5a00",
    "not applicable": "#5f6368",
    "not measured": "#5f6368",
}
MARKS = {"pass": "✓", "fail": "✗", "undecided": "?", "not applicable": "–", "not measured": "–"}
VERDICT_COLOURS = {"GO": "#0b6b3a", "PAUSE_AND_FIX": "#8a5a00", "ARCHIVE": "#9b1c31"}
VERDICT_WORDS = {"GO": "GO", "PAUSE_AND_FIX": "PAUSE AND FIX", "ARCHIVE": "ARCHIVE"}
NO_ARCHIVE = "no ARCHIVE, for "
"""How a decision's reasons begin that say why nobody is archived where an archive rule holds."""
DROP = "masking_drop"
LATENCY = "latency_p95_ms"
WIDTH, HEIGHT, PAD = 220.0, 26.0, 6.0


@dataclass(frozen=True)
class GateRow:
    """One gate as the first screen shows it."""

    name: str
    value: str
    interval: str
    threshold: str
    status: str
    mark: str
    colour: str
    needed: str
    """What would settle it, where it is open."""
    note: str
    """What was read in place of what the name says, or where."""
    drawing: Drawing | None


@dataclass(frozen=True)
class Drawing:
    """An interval against its threshold, in the units of a small picture."""

    low: float
    mean: float
    high: float
    threshold: float
    good_from: float
    good_width: float
    open_low: bool
    open_high: bool
    said: str
    width: float = WIDTH
    height: float = HEIGHT


NOT_APPLICABLE = "not applicable"


def gate_rows(run: RunRecord) -> list[GateRow]:
    """Every gate of the decision that applies, in its order."""
    return [gate_row(gate) for gate in _gates(run) if gate["status"] != NOT_APPLICABLE]


def neutral_gates(run: RunRecord) -> list[str]:
    """The gates that do not apply, with why."""
    left: dict[str, list[str]] = {}
    for gate in _gates(run):
        if gate["status"] == NOT_APPLICABLE:
            left.setdefault(gate["note"], []).append(label(gate["name"]))
    return [f"{', '.join(names)}{f' ({note})' if note else ''}" for note, names in left.items()]


def _gates(run: RunRecord) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (run.decision or {}).get("gates", [])
    return found


def gate_row(gate: dict[str, Any]) -> GateRow:
    """One gate of a decision.json."""
    return GateRow(
        name=label(gate["name"]),
        value=measured(gate),
        interval=bounds(gate),
        threshold=wanted(gate),
        status=gate["status"],
        mark=MARKS.get(gate["status"], "–"),
        colour=STATUS_COLOURS.get(gate["status"], INK),
        needed=gate["needed"],
        note=gate["note"],
        drawing=None if gate["kind"] == "fact" else _draw(gate, gate["quantity"]),
    )


def _draw(gate: dict[str, Any], name: str) -> Drawing | None:
    value, threshold = gate["value"], gate["threshold"]
    if value is None or not math.isfinite(value):
        return None
    low, high = (v if v is not None and math.isfinite(v) else math.nan for v in (gate["ci_low"], gate["ci_high"]))
    known = [v for v in (value, low, high, threshold) if not math.isnan(v)]
    first, last = min(known), max(known)
    margin = 0.12 * (last - first) or abs(last) * 0.1 or 1.0
    first, last = first - margin, last + margin

    def place(v: float) -> float:
        return round(PAD + (v - first) / (last - first) * (WIDTH - 2 * PAD), 1)

    line = place(threshold)
    upward = gate["direction"] == "at least"
    said = f"{number(value, name)}, interval {interval(low, high, name) or 'not known'}, {gate['direction']} "
    return Drawing(
        low=PAD if math.isnan(low) else place(low),
        mean=place(value),
        high=WIDTH - PAD if math.isnan(high) else place(high),
        threshold=line,
        good_from=line if upward else 0.0,
        good_width=WIDTH - line if upward else line,
        open_low=math.isnan(low),
        open_high=math.isnan(high),
        said=said + number(threshold, name),
    )


def warnings(run: RunRecord) -> list[str]:
    """What stands above everything else, whatever the verdict."""
    return _capital((run.decision or {}).get("warnings", []))


def looked(run: RunRecord) -> str:
    """Which look at the deciding data this was, what follows for its intervals, and which verdict of the run it gave.

    Empty before one is taken.
    """
    look = read_look(run.decision or {}, run=run.run)
    if look is None:
        return ""
    said = f"L{look.said()[1:]}."
    further = run.run.get("verdicts", [])
    if further:
        before = len(further)
        kept = "verdicts/1" if before == 1 else f"verdicts/1 to {before}"
        said += f" Verdict {further[-1]['number']} of this run, by {further[-1]['by']}; earlier: {kept}."
    ablated = read_look(run.decision or {}, "ablation_look", run=run.run)
    return said + (f" {ablated_at(ablated)}" if ablated is not None else "")


def level(run: RunRecord) -> str:
    """Of the intervals that decide: `95 %`."""
    look = read_look(run.decision or {}, run=run.run)
    return f"{100 * (look.level if look is not None else 0.95):.4g} %"


def level_of_latency(run: RunRecord) -> str:
    """What a caption adds where phase 4's gate on latency has another level: looks spend nothing there."""
    read = any(g["quantity"] == LATENCY and g["value"] is not None for g in (run.decision or {}).get("gates", []))
    return " (latency: 95 %)" if read and not run.audited and level(run) != "95 %" else ""


def measured_by(run: RunRecord) -> str:
    """By what metric rankers are measured, and what each query counts."""
    return metric_text(run.phase, weighted=bool(run.run.get("weighted")))


def sentences(run: RunRecord) -> list[str]:
    """Why, in a few sentences: what the artefact gains, what the suspect is worth, its rivals, what the gates say."""
    decision, evidence = run.decision, run.evidence
    if decision is None:
        way_on = "the same command, given again, makes it whole"
        if not run.audited:
            way_on = "what had finished is below; the same command with --resume goes on from there"
        return [
            "This run has not come to a decision: it is still going on, was interrupted, or a stage of it failed.",
            f"{way_on[:1].upper()}{way_on[1:]}.",
        ]
    counted = _counted(decision, modality_name(run.phase.suspect))
    if evidence is None and decision["finalist"] is not None and is_judged(run.path):
        return ["What was measured of the finalist beyond its gates could not be written (evidence.json).", counted]
    if evidence is None or decision["finalist"] is None:
        return [_nothing_judged(run, decision), *_capital(decision["reasons"])]
    said = [*measurements(run), counted, meaning(decision["verdict"], run.phase.name, audited=run.audited)]
    return [sentence for sentence in said if sentence]


def measurements(run: RunRecord) -> list[str]:
    """Of `sentences`, those that tell what was measured; none where nothing was judged."""
    decision, evidence = run.decision, run.evidence
    if decision is None or evidence is None or decision["finalist"] is None:
        return []
    said = [_gain(run, decision, evidence), _suspect(run, evidence), _rivals(run, decision, evidence)]
    return [sentence for sentence in said if sentence]


def archived(decision: dict[str, Any]) -> str:
    """Which rule archives; empty where the verdict is another one."""
    rules = [rule["name"] for rule in decision["archive_rules"] if rule["holds"]]
    if decision["verdict"] != "ARCHIVE":
        return ""
    return f"An archive rule holds, and one is enough: {'; '.join(rules)}."


def _nothing_judged(run: RunRecord, decision: dict[str, Any]) -> str:
    """Why no gate was measured, as far as the tables tell."""
    if run.phase.name == PHASE4.name and not run.audited:
        return "Phase 3 left nothing to validate, so nothing here may decide."
    if decision["finalist"] is not None:
        return "The short list was retrained, but not its finalist, whose deciding trainings all failed."
    return "No recipe was retrained with fresh seeds, so nothing here may decide."


def _gain(run: RunRecord, decision: dict[str, Any], evidence: dict[str, Any]) -> str:
    gain = evidence["quantities"].get("ndcg_gain")
    members = evidence["members"]
    averaged = f", {members} trainings averaged," if members > 1 else ""
    who = _given(evidence.get("released") or []) if run.audited else f"The finalist {decision['finalist']}"
    p = (evidence.get("p") or {}).get("ndcg_gain")
    chance = "" if p is None else " (p < 0.0001)" if p < 1e-4 else f" (p = {p:.4f})"
    return (
        f"{who}{averaged} ranks {_told(gain, 'gain')} {run.phase.metric.name} above V1 on the "
        f"{SPLIT_NAMES[evidence['split']]}{chance}."
        if gain
        else ""
    )


def _given(released: list[str]) -> str:
    """An audit's subject; `released`: the names of its trainings, where a table holds several."""
    named = f" (training{'s' if len(released) > 1 else ''} {', '.join(released)})" if released else ""
    return f"The V2 that was given{named}"


def _suspect(run: RunRecord, evidence: dict[str, Any]) -> str:
    """What the suspect is worth: what blanking costs, and what retraining without it says."""
    suspect = run.phase.suspect
    drop, worth = evidence["quantities"].get(f"{suspect}_masking_drop"), evidence["refit_gain"].get(suspect)
    word, quality = modality_name(suspect), run.phase.metric.word
    if not worth:
        unknown = f"what the {word} is worth to a V2 retrained without it was not measured"
        cost = f"Blanking the {word} costs {_told(drop, DROP)} of its {quality}; {unknown}." if drop else ""
        return cost if run.audited else ""
    told = _needs(worth, run.phase.thresholds.nothing_to_give)
    cost = f"; blanking it costs {_told(drop, DROP)} of its {quality}" if drop else ""
    return (
        f"The {word} is worth {_told(worth, 'gain')} {quality} to it beside ensembles retrained without, {told}{cost}."
    )


def _needs(worth: dict[str, Any], least: float) -> str:
    """What a refit gain says of the need; `least` is what counts as something."""
    low, high = (math.nan if worth[end] is None else worth[end] for end in ("ci_low", "ci_high"))
    if high < 0.0:
        return "so it is better off without it"
    if not low > 0.0:
        return "which cannot be told from 0"
    return "so it has come to need it" if low > least else f"which is above 0, but not surely the {least:g} that count"


def _rivals(run: RunRecord, decision: dict[str, Any], evidence: dict[str, Any]) -> str:
    """Where the ranker that exists and the trees stand beside it: at 95 %, as the gates and warnings read rivals."""
    leads = dict(evidence.get("leads") or {})
    gates = {g["key"]: g for g in decision["gates"] if g["kind"] == "rival" and g["value"] is not None}
    read = [role for role in leads if f"rival: {role}" in gates]
    for role in read:
        gate = gates[f"rival: {role}"]
        leads[role] = {"mean": gate["value"], "ci_low": gate["ci_low"], "ci_high": gate["ci_high"]}
    names = {"base": "the base recipe (the V2 you have)", "trees": "LambdaMART on everything"}
    there = [f"{_told(leads[role], 'gain')} over {name}" for role, name in names.items() if role in leads]
    shown = level(run)
    at = "" if shown == "95 %" else " (intervals of 95 %, as at every look)" if read else f" (intervals of {shown})"
    return f"Its lead is {' and '.join(there)}{at}." if there else ""


def _told(found: dict[str, Any], name: str) -> str:
    """A number with its interval."""
    return f"{number(found['mean'], name)} {interval(found['ci_low'], found['ci_high'], name)}".strip()


def _counted(decision: dict[str, Any], word: str) -> str:
    """Which rule archives, or how the gates stand and what keeps the verdict from GO and from ARCHIVE."""
    rules = [rule["name"] for rule in decision["archive_rules"] if rule["holds"]]
    if decision["verdict"] == "ARCHIVE":
        return archived(decision)
    states = [gate["status"] for gate in decision["gates"]]
    counted = [s for s in states if s != "not applicable"]
    said = [f"{counted.count('pass')} of {len(counted)} gates passed"]
    said += [f"{counted.count(s)} {s}" for s in ("fail", "undecided", "not measured") if s in counted]
    told = f"; it is fragile, not fused: it breaks without the {word}, and is not surely worse when retrained without"
    fragile = told if decision["fragile"] else ""
    why = ": GO needs all of them, ARCHIVE one archive rule, and none holds"
    if rules:
        does = "One does" if len(rules) == 1 else f"{len(rules)} do"
        why = f": GO needs all of them, and no archive rule that holds. {does} ({'; '.join(rules)})"
        held = "; ".join(reason.removeprefix(NO_ARCHIVE) for reason in held_off(decision))
        why += f", but {NO_ARCHIVE}{held}" if held else ""
    why = "" if decision["verdict"] == "GO" else why
    return ", ".join(said).replace(" fail", " failed") + fragile + why + "."


def held_off(decision: dict[str, Any]) -> list[str]:
    """Why nobody is archived where an archive rule holds; empty where none does, or the verdict is ARCHIVE."""
    return [reason for reason in decision["reasons"] if reason.startswith(NO_ARCHIVE)]


def _capital(reasons: list[str]) -> list[str]:
    return [f"{reason[:1].upper()}{reason[1:]}." for reason in reasons]
