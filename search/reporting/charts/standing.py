"""Where the verdict stands: three sentences, and the gates with their intervals drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from search.reporting.charts.figure import INK
from search.reporting.records import RunRecord
from search.reporting.words import interval, label, number

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
DROP = "visual_masking_drop"
BY_RECIPE = "passes because the recipe rewards reliance on the image; the interval alone would not pass"
TOO_CLOSE = "too close to its threshold: neither more seeds nor more queries alone would settle it"
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


def gate_rows(run: RunRecord) -> list[GateRow]:
    """Every gate of the decision, in its order."""
    return [gate_row(gate) for gate in (run.decision or {}).get("gates", [])]


def gate_row(gate: dict[str, Any]) -> GateRow:
    """One gate of a decision.json."""
    name = quantity(gate["name"])
    direction = "≥" if gate["direction"] == "at least" else "≤"
    value, threshold = number(gate["value"], name), number(gate["threshold"], name) if gate["threshold"] else "0"
    asked = _yes_or_no(gate)
    if asked:
        value, direction, threshold = {1.0: "yes", None: "–"}.get(gate["value"], "no"), "", "yes"
    return GateRow(
        name=label(gate["name"]),
        value=value,
        interval=interval(gate["ci_low"], gate["ci_high"], name) if gate["ci_low"] != gate["ci_high"] else "",
        threshold=f"{direction} {threshold}".strip(),
        status=gate["status"],
        mark=MARKS.get(gate["status"], "–"),
        colour=STATUS_COLOURS.get(gate["status"], INK),
        needed=BY_RECIPE if passed_by_recipe(gate) else settled_by(gate),
        drawing=None if asked else _draw(gate, name),
    )


def _yes_or_no(gate: dict[str, Any]) -> bool:
    """Whether a gate asks for a fact, not for a quantity with an interval."""
    return bool(gate["threshold"] == 1.0 and gate["direction"] == "at least" and gate["ci_low"] == gate["ci_high"])


def passed_by_recipe(gate: dict[str, Any]) -> bool:
    """Whether a gate passed by what the recipe holds, whatever its interval says: importance regularisation is in."""
    inside = gate["ci_low"] is not None and gate["ci_low"] <= gate["threshold"]
    return bool("importance regularised" in gate["name"] and gate["status"] == "pass" and inside)


def settled_by(gate: dict[str, Any]) -> str:
    """What would settle an undecided gate, as the first screen says it."""
    needed: str = gate.get("needed") or ""
    return TOO_CLOSE if needed.startswith("no number") else f"to settle it: {needed}" if needed else ""


def quantity(gate_name: str) -> str:
    """The quantity behind a gate's name, for the way its numbers are written."""
    if "masking drop" in gate_name:
        return "visual_masking_drop"
    return "ndcg_gain" if "refit gain" in gate_name or gate_name == "ndcg_gain" else gate_name


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


def sentences(run: RunRecord) -> list[str]:
    """Why, in three sentences: what the finalist gains, whether it sees the image, what the gates say."""
    decision, evidence = run.decision, run.evidence
    if decision is None:
        return [
            "This run has not come to a decision: it is still going on, was interrupted, or a stage of it failed.",
            "What had finished is below; the same command with --resume goes on from there.",
        ]
    if evidence is None or decision["finalist"] is None:
        first = "No recipe was retrained with fresh seeds, so nothing here may decide."
        return [first, *_capital(decision["reasons"])]
    found = evidence["quantities"]
    gain, drop, worth = found.get("ndcg_gain"), found.get("visual_masking_drop"), evidence["refit_gain"].get("visual")
    out = []
    if gain:
        out.append(
            f"The finalist {decision['finalist']} ranks {number(gain['mean'], 'gain')} nDCG@10 "
            f"{interval(gain['ci_low'], gain['ci_high'], 'gain')} above V1 on the {evidence['split']} split."
        )
    if drop and worth:
        told = (
            "so it has come to need what the image tells"
            if worth["ci_low"] is not None and worth["ci_low"] > 0
            else "so the image is worth nothing to it that can be told from 0"
        )
        lost = f"{number(drop['mean'], DROP)} of its nDCG {interval(drop['ci_low'], drop['ci_high'], DROP)}"
        refit = f"{number(worth['mean'], 'gain')} {interval(worth['ci_low'], worth['ci_high'], 'gain')}"
        out.append(
            f"Blanking the image costs it {lost}; beside the same recipe retrained without the image its lead is "
            f"{refit} nDCG, {told}."
        )
    return [*out, _counted(decision)]


def _counted(decision: dict[str, Any]) -> str:
    rules = [rule["name"] for rule in decision["archive_rules"] if rule["holds"]]
    if rules:
        return f"An archive rule holds, and one is enough: {'; '.join(rules)}."
    states = [gate["status"] for gate in decision["gates"]]
    counted = [s for s in states if s != "not applicable"]
    said = [f"{counted.count('pass')} of {len(counted)} gates passed"]
    said += [f"{counted.count(s)} {s}" for s in ("fail", "undecided", "not measured") if s in counted]
    fragile = (
        "; it is fragile, not fused: it breaks without the image, which it does not need" if decision["fragile"] else ""
    )
    why = "" if decision["verdict"] == "GO" else ": GO needs all of them, ARCHIVE one archive rule, and none holds"
    return ", ".join(said).replace(" fail", " failed") + fragile + why + "."


def _capital(reasons: list[str]) -> list[str]:
    return [f"{reason[:1].upper()}{reason[1:]}." for reason in reasons]
