"""What would flip the verdict: how far each gate and archive rule is from its threshold."""

from __future__ import annotations

import math
from typing import Any

import altair as alt
import pandas as pd

from search.reporting.charts.figure import INK, MUTED, Figure, Panel, missing
from search.reporting.charts.forest import row_axis, wrapped
from search.reporting.charts.standing import NO_ARCHIVE, STATUS_COLOURS, held_off
from search.reporting.records import RunRecord
from search.reporting.words import label, number, short_gate, short_rule

ENDS, HELD_OFF, DOES_NOT_HOLD = "holds: ends V2", "holds, held off", "does not hold"
NO_RECIPE = {
    "queries": "more judged test queries",
    "integrity_open": "data and splits in which every check passes",
    "ablation_open": "every component measured (more time)",
    "latency_p95_ms": "a faster way to run it, or a smaller {ranker}",
}
"""Quantities of gates that a search for another recipe does not mend -> what does."""
FURTHEST = 5.0
"""Half-widths at which a distance is cut in the figure."""


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
        if gate["value"] is None or gate["kind"] != "quantity":  # a rival's gate passes inside its interval, too
            continue
        sign = 1.0 if gate["direction"] == "at least" else -1.0
        rows.append(_margin(short_gate(gate), "gate", gate, sign, gate["status"], gate["needed"]))
    for rule in decision["archive_rules"]:
        if rule["measured"]:
            held = DOES_NOT_HOLD if not rule["holds"] else ENDS if decision["verdict"] == "ARCHIVE" else HELD_OFF
            side = 1.0 if rule["direction"] == "above" else -1.0
            rows.append(_margin(f"Archive: {short_rule(rule)}", "archive rule", rule, side, held, rule["note"]))
    table = pd.DataFrame(rows)
    if table.empty:
        return missing("flip", title, "No gate was measured.")
    drawn = table[table["half_widths"].notna()].copy()
    if drawn.empty:
        return missing("flip", title, "No gate has an interval, so none has a distance to its threshold.")
    drawn = drawn.assign(near=drawn["half_widths"].abs()).sort_values(["kind", "near"], ascending=[False, True])
    drawn["shown"] = drawn["half_widths"].clip(-FURTHEST, FURTHEST)
    chart = _distances(drawn)
    panel = Panel(
        name="flip",
        title="Distance of every gate and archive rule to its threshold",
        alt="Distances in half-widths: "
        + "; ".join(f"{r['name']} {r['half_widths']:+.1f} ({r['status']})" for _, r in drawn.iterrows()),
        chart=chart,
        height=30 * len(drawn) + 30,
    )
    notes = _flips(decision, audited=run.audited)
    caption = (
        "How far each measured value lies beyond its threshold, in half-widths of its interval on the side that faces "
        "the threshold. To the right of the shaded band a gate passes, to its left it fails; within the band its "
        "interval reaches over the threshold, and it is undecided. An archive rule can hold to the right of the band "
        "alone; it ends V2 unless what another ranker sees holds it off."
    )
    return Figure(name="flip", title=title, caption=caption, table=table, panels=[panel], notes=notes)


def _distances(drawn: pd.DataFrame) -> Any:
    """Lollipops from the threshold, the band of the undecided behind them."""
    drawn = drawn.assign(row=[wrapped(name) for name in drawn["name"]])
    reach = [min(-1.5, drawn["shown"].min()), max(1.5, drawn["shown"].max())]
    colours = STATUS_COLOURS | {
        ENDS: STATUS_COLOURS["fail"],
        HELD_OFF: STATUS_COLOURS["undecided"],
        DOES_NOT_HOLD: MUTED,
    }
    shown = [status for status in colours if status in set(drawn["status"])]
    base = alt.Chart(drawn).encode(
        y=alt.Y(
            "row:N",
            sort=list(drawn["row"]),
            title=None,
            axis=row_axis(),
        ),
        color=alt.Color(
            "status:N",
            title=None,
            scale=alt.Scale(domain=shown, range=[colours[status] for status in shown]),
            legend=None,
        ),
    )
    across = alt.X(
        "shown:Q",
        title=f"half-widths beyond the threshold (cut at ±{FURTHEST:g})",
        axis=alt.Axis(titleAnchor="end"),
        scale=alt.Scale(domain=reach, nice=False),
    )
    band = (
        alt.Chart(pd.DataFrame({"from": [-1.0], "to": [1.0]})).mark_rect(color="#f3eee2").encode(x="from:Q", x2="to:Q")
    )
    tips = ["name", "kind", "status", "value", "threshold", "margin", "half_widths", "needed"]
    return alt.layer(
        band,
        alt.Chart(pd.DataFrame({"zero": [0.0]})).mark_rule(color=INK).encode(x="zero:Q"),
        base.mark_rule(strokeWidth=2).encode(x=across, x2=alt.datum(0.0)),
        base.mark_point(filled=True, size=70, opacity=1).encode(x=across, tooltip=tips),
    )


def _margin(name: str, kind: str, row: dict[str, Any], sign: float, status: str, needed: str) -> dict[str, Any]:
    high, low, value = row["ci_high"], row["ci_low"], row["value"]
    facing = low if value > row["threshold"] else high  # limits need not lie alike on both sides
    half = abs(facing - value) if facing is not None and math.isfinite(facing) else math.nan
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


def _flips(decision: dict[str, Any], *, audited: bool) -> list[str]:
    """In words: what stands between this verdict and another one."""
    out = []
    open_gates = [g for g in decision["gates"] if g["status"] == "undecided"]
    failing = [g for g in decision["gates"] if g["status"] == "fail" and g["kind"] != "fact"]
    failed = [label(g["name"]) for g in failing if g["quantity"] not in NO_RECIPE]
    facts = [label(g["name"]) for g in decision["gates"] if g["status"] == "fail" and g["kind"] == "fact"]
    blank = [label(g["name"]) for g in decision["gates"] if g["status"] == "not measured"]
    ranker = "V2" if audited else "recipe"
    if failed:
        out.append(f"GO needs another {ranker} for what failed on its whole interval: {', '.join(failed)}.")
    out += [
        f"{label(g['name'])}: GO needs {NO_RECIPE[g['quantity']].format(ranker=ranker)}"
        f"{f' ({told})' if (told := g['needed']) else ''}."
        for g in failing
        if g["quantity"] in NO_RECIPE
    ]
    if facts:
        out.append(f"GO needs these to hold: {', '.join(facts)}.")
    out += [f"{label(gate['name'])} is undecided: {gate['needed']}." for gate in open_gates if gate["needed"]]
    unread = [
        f"“{rule['name']}”{f' ({why})' if (why := rule['note']) else ''}"
        for rule in decision["archive_rules"]
        if not rule["measured"]
    ]
    if blank:
        out.append(f"Not measured, and never a pass: {', '.join(blank)}.")
    if unread:
        out.append(f"Archive rules that were not measured, so none of them holds: {', '.join(unread)}.")
    out += _rules(decision)
    if decision["verdict"] == "GO":
        out.insert(0, "GO falls with any one gate: the nearest to its threshold stand first below.")
    return out


def _rules(decision: dict[str, Any]) -> list[str]:
    """What ARCHIVE would fall with, what holds it off, or what it would need."""
    rules = [rule for rule in decision["archive_rules"] if rule["measured"]]
    holding = [
        f"“{rule['name']}” holds (its bound {_bound(rule)} is {_limit(rule)})" for rule in rules if rule["holds"]
    ]
    if decision["verdict"] == "ARCHIVE":
        sure = "this is no longer sure" if len(holding) == 1 else "none of these is sure any longer"
        return [f"ARCHIVE falls where {sure}: {'; '.join(holding)}."]
    why = "; ".join(reason.removeprefix(NO_ARCHIVE) for reason in held_off(decision))
    return [
        *(f"ARCHIVE is held off although {held}: {why}." for held in holding),
        *(_open(rule) for rule in rules if not rule["holds"]),
    ]


def _open(rule: dict[str, Any]) -> str:
    """What a rule that does not hold would need: its bound beyond the threshold, or what else keeps it from holding."""
    end = _end(rule)
    beyond = end is not None and (end > rule["threshold"] if rule["direction"] == "above" else end < rule["threshold"])
    if beyond:
        return f"“{rule['name']}” does not hold, though its bound {_bound(rule)} is {_limit(rule)}: {rule['note']}."
    return f"ARCHIVE needs “{rule['name']}”: its bound, now {_bound(rule)}, {_limit(rule)}."


def _end(rule: dict[str, Any]) -> float | None:
    """The end of its interval that decides a rule."""
    end: float | None = rule["ci_low" if rule["direction"] == "above" else "ci_high"]
    return end


def _bound(rule: dict[str, Any]) -> str:
    return number(_end(rule), "gain" if rule["direction"] == "below" else "")


def _limit(rule: dict[str, Any]) -> str:
    return f"{rule['direction']} {number(rule['threshold'])}"
