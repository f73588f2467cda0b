"""Where the verdict stands: three sentences, the gates with their intervals drawn, and what would flip it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from search.reporting.figure import INK, Figure, Panel, missing
from search.reporting.records import RunRecord
from search.reporting.words import brief, interval, label, number

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
    return GateRow(
        name=label(gate["name"]),
        value=number(gate["value"], name),
        interval=interval(gate["ci_low"], gate["ci_high"], name) if gate["ci_low"] != gate["ci_high"] else "",
        threshold=f"{direction} {number(gate['threshold'], name)}" if gate["threshold"] else f"{direction} 0",
        status=gate["status"],
        mark=MARKS.get(gate["status"], "–"),
        colour=STATUS_COLOURS.get(gate["status"], INK),
        needed=gate.get("needed") or "",
        drawing=_draw(gate, name),
    )


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
        out.append(f"Blanking the image costs it {lost}, and retrained without the image it loses {refit}, {told}.")
    return [*out, _counted(decision)]


def _counted(decision: dict[str, Any]) -> str:
    rules = [rule["name"] for rule in decision["archive_rules"] if rule["holds"]]
    if rules:
        return f"An archive rule holds: {'; '.join(rules)}."
    states = [gate["status"] for gate in decision["gates"]]
    counted = [s for s in states if s != "not applicable"]
    said = [f"{counted.count('pass')} of {len(counted)} gates passed"]
    said += [f"{counted.count(s)} {s}" for s in ("fail", "undecided", "not measured") if s in counted]
    fragile = (
        "; it is fragile, not fused: it breaks without the image, which it does not need" if decision["fragile"] else ""
    )
    return ", ".join(said).replace(" fail", " failed") + fragile + "."


def _capital(reasons: list[str]) -> list[str]:
    return [f"{reason[:1].upper()}{reason[1:]}." for reason in reasons]


def flip(run: RunRecord) -> Figure:
    """Each gate's and archive rule's distance to its threshold, in half-widths of its interval."""
    title = "What would flip the verdict"
    decision = run.decision
    if decision is None:
        return missing("flip", title, "The run has not come to a decision yet.")
    if decision["finalist"] is None:
        return missing(
            "flip", title, "Nothing was measured with fresh seeds, so no gate has a distance to its threshold."
        )
    rows = []
    for gate in decision["gates"]:
        if gate["value"] is None:
            continue
        sign = 1.0 if gate["direction"] == "at least" else -1.0
        rows.append(_margin(brief(gate["name"]), "gate", gate, sign, gate["status"], gate.get("needed") or ""))
    for rule in decision["archive_rules"]:
        if rule["measured"]:
            held = "holds: ends V2" if rule["holds"] else "does not hold"
            side = 1.0 if rule.get("direction") == "above" else -1.0
            rows.append(_margin(brief(rule["name"]), "archive rule", {"ci_low": None} | rule, side, held, ""))
    table = pd.DataFrame(rows)
    if table.empty:
        return missing("flip", title, "No gate was measured.")
    drawn = table[table["half_widths"].notna()].copy()
    drawn = drawn.assign(near=drawn["half_widths"].abs()).sort_values(["kind", "near"], ascending=[False, True])
    drawn["shown"] = drawn["half_widths"].clip(-5, 5)
    domain = [*STATUS_COLOURS, "holds: ends V2", "does not hold"]
    base = alt.Chart(drawn).encode(
        y=alt.Y("name:N", sort=list(drawn["name"]), title=None, axis=alt.Axis(labelLimit=230)),
        color=alt.Color(
            "status:N",
            title=None,
            scale=alt.Scale(domain=domain, range=[*STATUS_COLOURS.values(), "#9b1c31", "#5f6368"]),
            legend=None,
        ),
    )
    band = (
        alt.Chart(pd.DataFrame({"from": [-1.0], "to": [1.0]})).mark_rect(color="#f3eee2").encode(x="from:Q", x2="to:Q")
    )
    chart = alt.layer(
        band,
        alt.Chart(pd.DataFrame({"zero": [0.0]})).mark_rule(color=INK).encode(x="zero:Q"),
        base.mark_rule(strokeWidth=2).encode(
            x=alt.X("shown:Q", title="half-widths beyond the threshold (cut at ±5)"),
            x2=alt.datum(0.0),
        ),
        base.mark_point(filled=True, size=70, opacity=1).encode(
            x="shown:Q", tooltip=["name", "kind", "status", "value", "threshold", "margin", "half_widths", "needed"]
        ),
    )
    panel = Panel(
        name="flip",
        title="Distance of every gate and archive rule to its threshold",
        alt="Distances in half-widths: "
        + "; ".join(f"{r['name']} {r['half_widths']:+.1f} ({r['status']})" for _, r in drawn.iterrows()),
        chart=chart,
        height=26 * len(drawn) + 30,
    )
    caption = (
        "A gate passes to the right of the shaded band and fails to its left; within it the interval reaches over the "
        "threshold and more seeds or queries could settle it. An archive rule holds to the right of the band."
    )
    return Figure(name="flip", title=title, caption=caption, table=table, panels=[panel], notes=_flips(decision))


def _margin(name: str, kind: str, row: dict[str, Any], sign: float, status: str, needed: str) -> dict[str, Any]:
    high, low, value = row["ci_high"], row["ci_low"], row["value"]
    half = (high - value) if high is not None and math.isfinite(high) else math.nan
    margin = sign * (value - row["threshold"])
    return {
        "name": name,
        "kind": kind,
        "status": status,
        "value": value,
        "ci_low": low,
        "ci_high": high,
        "threshold": row["threshold"],
        "margin": margin,
        "half_widths": margin / half if half and half > 0 else math.nan,
        "needed": needed,
    }


def _flips(decision: dict[str, Any]) -> list[str]:
    """In words: what stands between this verdict and another one."""
    out = []
    open_gates = [g for g in decision["gates"] if g["status"] == "undecided"]
    failed = [label(g["name"]) for g in decision["gates"] if g["status"] == "fail"]
    blank = [label(g["name"]) for g in decision["gates"] if g["status"] == "not measured"]
    if failed:
        out.append(f"GO needs another recipe for what failed on its whole interval: {', '.join(failed)}.")
    out += [f"{label(g['name'])} would be settled by {g['needed']}." for g in open_gates if g.get("needed")]
    if blank:
        out.append(f"Not measured, and never a pass: {', '.join(blank)}.")
    for rule in decision["archive_rules"]:
        side = rule.get("direction", "below")
        bound = number(rule["ci_low" if side == "above" else "ci_high"], "gain")
        limit = f"{side} {number(rule['threshold'])}"
        if rule["holds"]:
            out.append(f"ARCHIVE falls where “{rule['name']}” is no longer sure: its bound {bound} is {limit} now.")
        elif rule["measured"]:
            out.append(f"ARCHIVE needs “{rule['name']}”: its bound, now {bound}, {limit}.")
    if decision["verdict"] == "GO":
        out.insert(0, "GO falls with any one gate: the nearest to its threshold stand first below.")
    return out
