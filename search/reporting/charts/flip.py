"""What would flip the verdict: how far each gate and archive rule is from its threshold."""

from __future__ import annotations

import math
from typing import Any

import altair as alt
import pandas as pd

from search.reporting.charts.figure import INK, MUTED, Figure, Panel, missing
from search.reporting.charts.forest import row_axis, wrapped
from search.reporting.charts.standing import STATUS_COLOURS
from search.reporting.records import RunRecord
from search.reporting.words import label, number, short_gate, short_rule

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
            held = "holds: ends V2" if rule["holds"] else "does not hold"
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
    caption = (
        "How far each measured value lies beyond its threshold, in half-widths of its interval. To the right of the "
        "shaded band a gate passes, to its left it fails; within the band its interval reaches over the threshold, and "
        "it is undecided. An archive rule holds, and ends V2, to the right of the band."
    )
    return Figure(name="flip", title=title, caption=caption, table=table, panels=[panel], notes=_flips(decision))


def _distances(drawn: pd.DataFrame) -> Any:
    """Lollipops from the threshold, the band of the undecided behind them."""
    drawn = drawn.assign(row=[wrapped(name) for name in drawn["name"]])
    reach = [min(-1.5, drawn["shown"].min()), max(1.5, drawn["shown"].max())]
    colours = STATUS_COLOURS | {"holds: ends V2": STATUS_COLOURS["fail"], "does not hold": MUTED}
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
    failed = [label(g["name"]) for g in decision["gates"] if g["status"] == "fail" and g["kind"] != "fact"]
    facts = [label(g["name"]) for g in decision["gates"] if g["status"] == "fail" and g["kind"] == "fact"]
    blank = [label(g["name"]) for g in decision["gates"] if g["status"] == "not measured"]
    if failed:
        out.append(f"GO needs another recipe for what failed on its whole interval: {', '.join(failed)}.")
    if facts:
        out.append(f"GO needs these to hold: {', '.join(facts)}.")
    out += [f"{label(gate['name'])} is undecided: {gate['needed']}." for gate in open_gates if gate["needed"]]
    blank += [
        f"the archive rule “{rule['name']}”{f' ({why})' if (why := rule['note']) else ''}"
        for rule in decision["archive_rules"]
        if not rule["measured"]
    ]
    if blank:
        out.append(f"Not measured, and never a pass: {', '.join(blank)}.")
    for rule in decision["archive_rules"]:
        side = rule["direction"]
        bound = number(rule["ci_low" if side == "above" else "ci_high"], "gain" if side == "below" else "")
        limit = f"{side} {number(rule['threshold'])}"
        if rule["holds"]:
            out.append(f"ARCHIVE falls where “{rule['name']}” is no longer sure: its bound {bound} is {limit} now.")
        elif rule["measured"]:
            out.append(f"ARCHIVE needs “{rule['name']}”: its bound, now {bound}, {limit}.")
    if decision["verdict"] == "GO":
        out.insert(0, "GO falls with any one gate: the nearest to its threshold stand first below.")
    return out
