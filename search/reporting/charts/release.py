"""What phase 4 adds to the page: the integrity table, latency by runtime variant, and the rollout in numbers."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from search.reporting.charts.figure import EMPHASIS, FAINT, MUTED, Figure, Panel, missing
from search.reporting.charts.standing import MARKS, STATUS_COLOURS, level
from search.reporting.records import RunRecord
from search.reporting.words import AS_GIVEN, interval, number

JUDGED = "as judged"
WARNING_COLOUR = "#8a5a00"


def latency(run: RunRecord) -> Figure:
    """Every runtime variant on the judged lists, and how time grows with the candidates."""
    title = "How fast it answers"
    if run.latency.empty:
        why = "the run had no finalist, or did not come that far"
        why = "give a model, or the column latency_ms in the table of scores" if run.audited else why
        return missing("latency", title, f"No latency was measured: {why}.")
    table = run.latency.copy()
    table["rung"] = table["ranker"].astype(str) + ", " + table["runtime"].astype(str)
    judged = table[(table["candidates"].astype(str) == JUDGED) & table["p95_ms"].notna()].sort_values("p95_ms")
    if judged.empty:
        return missing("latency", title, "No runtime variant could be timed (latency.csv says why).")
    panels = [_rungs(run, judged)]
    grid = table[(table["candidates"].astype(str) != JUDGED) & table["p95_ms"].notna()].copy()
    if len(grid):
        panels.append(_growth(grid))
    lost = table[table["p95_ms"].isna() & (table["candidates"].astype(str) == JUDGED)]
    notes = [f"{r['rung']}: {r['note']}" for r in lost.fillna("").to_dict("records")]
    return Figure(name="latency", title=title, caption=_timed(run), table=table, panels=panels, notes=notes)


def _timed(run: RunRecord) -> str:
    """How the times came about, and what is drawn of them."""
    asked = "One query at a time, features in and order out, from its scheduled arrival (Poisson"
    if not run.audited:
        return (
            f"{asked}, the same for all rungs): dot P50, bar the CI95 of P95, tick P99. The dark rung is the one that "
            "the gate reads: of those that score as the finalist does (to 1e-5), the one with the smallest P50."
        )
    given = bool((run.latency["runtime"] == AS_GIVEN).all())
    how = "Milliseconds of each query, as the table of scores says them" if given else f"{asked})"
    return f"{how}: dot P50, bar the {level(run)} interval of P95, tick P99."


def _rungs(run: RunRecord, judged: pd.DataFrame) -> Panel:
    gate = next((g for g in (run.decision or {}).get("gates", []) if g["quantity"] == "latency_p95_ms"), None)
    read = gate["value"] if gate else None
    drawn = judged.assign(
        read=["the gate's" if read is not None and abs(v - read) < 1e-9 else "other" for v in judged["p95_ms"]],
        cost=[number(v, "gain") if v == v else "–" for v in judged["ndcg_cost"]],
    )
    colour = alt.Color(
        "read:N", legend=None, scale=alt.Scale(domain=["the gate's", "other"], range=[EMPHASIS, "#8d99a6"])
    )
    order = list(drawn["rung"])
    base = alt.Chart(drawn).encode(
        y=alt.Y("rung:N", sort=order, title=None, axis=alt.Axis(labelLimit=230)), color=colour
    )
    scale = alt.Scale(type="log", nice=False, padding=12)
    tips = ["rung", *(alt.Tooltip(f"{q}_ms:Q", format=".2f") for q in ("p50", "p95", "p99")), "cost", "parameters"]
    asked = [gate["threshold"]] if gate else []
    limits = pd.DataFrame({"ms": [*asked, run.phase.thresholds.slowest_ms]}, dtype=float)
    limits = limits[limits["ms"] < 20 * float(drawn["p99_ms"].max())]
    layers = [
        base.mark_rule(strokeWidth=4, opacity=0.55).encode(
            x=alt.X("p95_ms_ci_low:Q", title="milliseconds, log scale", scale=scale), x2="p95_ms_ci_high:Q"
        ),
        base.mark_tick(thickness=2, size=14).encode(x=alt.X("p99_ms:Q", scale=scale)),
        base.mark_point(filled=True, size=60, opacity=1).encode(x=alt.X("p50_ms:Q", scale=scale), tooltip=tips),
    ]
    if len(limits):
        layers.append(alt.Chart(limits).mark_rule(strokeDash=[4, 3], color=MUTED).encode(x="ms:Q"))
    said = "; ".join(f"{r['rung']} P50 {r['p50_ms']:.1f}, P95 {r['p95_ms']:.1f} ms" for r in drawn.to_dict("records"))
    return Panel(
        name="latency-rungs",
        title="Every rung, lists as they were judged",
        alt=f"Latency of each rung: {said}",
        chart=alt.layer(*layers),
        height=26 * len(order) + 20,
    )


def _growth(grid: pd.DataFrame) -> Panel:
    grid = grid.assign(candidates=grid["candidates"].astype(float), batch=grid["batch"].astype(str) + " at once")
    chart = (
        alt.Chart(grid)
        .mark_line(point=True)
        .encode(
            x=alt.X("candidates:Q", title="candidates a query", scale=alt.Scale(type="log")),
            y=alt.Y("p95_ms:Q", title="P95, milliseconds", scale=alt.Scale(type="log")),
            color=alt.Color("runtime:N", title=None, scale=alt.Scale(range=[EMPHASIS, "#b3005e", FAINT])),
            strokeDash=alt.StrokeDash("batch:N", title=None),
            detail="rung:N",
            tooltip=["rung", "candidates", "batch", alt.Tooltip("p95_ms:Q", format=".2f")],
        )
    )
    worst = grid.sort_values("p95_ms").iloc[-1]
    return Panel(
        name="latency-growth",
        title="P95 by candidates and queries asked together",
        alt=f"Lines of P95 by candidates; the slowest cell is {worst['rung']} with {worst['candidates']:.0f} "
        f"candidates, {worst['batch']}: {worst['p95_ms']:.1f} ms",
        chart=chart,
    )


def integrity_rows(run: RunRecord) -> list[dict[str, Any]]:
    """integrity.csv as the page shows it."""
    out = []
    for row in run.integrity.to_dict("records"):
        exact = row["ci_low"] == row["ci_high"]
        direction = "≥" if row["direction"] == "at least" else "≤"
        status = str(row["status"])
        out.append(
            {
                "name": row["name"],
                "value": number(row["value"]),
                "interval": "" if exact else interval(row["ci_low"], row["ci_high"]),
                "wanted": f"{direction} {row['threshold']:g}" if row["threshold"] == row["threshold"] else "–",
                "status": status,
                "mark": "!" if status == "warning" else MARKS.get(status, "–"),
                "colour": WARNING_COLOUR if status == "warning" else STATUS_COLOURS.get(status, MUTED),
                "detail": row["detail"] if isinstance(row["detail"], str) else "",
            }
        )
    return out
