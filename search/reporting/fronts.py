"""The front: each pair of objectives with the gates as lines, all trials at once, and the search over time."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import altair as alt
import pandas as pd

from search.decision import RESUME_GATES
from search.front import hypervolume
from search.reporting.figure import EMPHASIS, FAINT, MUTED, Figure, Panel, missing
from search.reporting.records import RunRecord
from search.reporting.words import LABELS, SHORT, label
from spaces import Phase

STATES = ("on the front", "finished", "stopped early")
STATE_COLOURS = (EMPHASIS, MUTED, FAINT)
CONFIRMED = ("finalist", "finalist (fragile)", "confirmed")
CONFIRMED_COLOURS = ("#b3005e", "#b3005e", "#7a5195")


def front(run: RunRecord) -> Figure:
    """Every pair of objectives: searched trials (validation), confirmed recipes with intervals, gates as lines."""
    title = "The Pareto front"
    searched = search_points(run)
    if searched.empty:
        return missing("front", title, "No trial of the search has ended yet.")
    names = [o.name for o in run.phase.objectives]
    confirmed = _confirmed_points(run, names)
    table = pd.concat([searched, confirmed], ignore_index=True)
    panels = [_pair(run.phase, searched, confirmed, x, y) for x, y in combinations(names, 2)]
    caption = (
        "One dot a trial of the search, measured on the validation split with one seed. Diamonds with bars are recipes "
        "retrained with fresh seeds (CI95). Dashed lines are gates, the conditions for resuming V2 among them. Trials "
        "stopped early are shown as they stood when they were stopped, and are never on the front."
    )
    notes = [] if len(confirmed) else ["No recipe has been confirmed with fresh seeds, so no point has an interval."]
    return Figure(name="front", title=title, caption=caption, table=table, panels=panels, notes=notes)


def search_points(run: RunRecord) -> pd.DataFrame:
    """trial_id, name, what (a state of the search) and every objective, raw."""
    if run.trials.empty:
        return pd.DataFrame()
    names = [o.name for o in run.phase.objectives]
    rows = run.trials[(run.trials["stage"] == "search") & run.trials["state"].isin(["finished", "stopped"])]
    on_front = set(run.pareto["trial_id"]) if len(run.pareto) else set()
    what = [
        "on the front" if t in on_front else "finished" if s == "finished" else "stopped early"
        for t, s in zip(rows["trial_id"], rows["state"], strict=True)
    ]
    found = pd.DataFrame({"trial_id": rows["trial_id"].to_list(), "name": rows["name"].to_list(), "what": what})
    for name in names:
        found[name] = rows[name].to_list() if name in rows else float("nan")
    return found.reset_index(drop=True)


def state_colour() -> alt.Color:
    """The colour of a searched trial's line or dot by what became of it, with its legend."""
    return alt.Color("what:N", title=None, scale=alt.Scale(domain=list(STATES), range=list(STATE_COLOURS)))


def _confirmed_points(run: RunRecord, names: list[str]) -> pd.DataFrame:
    if run.confirmed.empty:
        return pd.DataFrame()
    splits = list(dict.fromkeys(run.confirmed["split"]))
    opened = [split for split in splits if split != "validation"]
    rows = run.confirmed[run.confirmed["split"] == (opened[0] if opened else "validation")]
    fragile = bool((run.decision or {}).get("fragile"))
    out = []
    for row in rows.to_dict("records"):
        what = ("finalist (fragile)" if fragile else "finalist") if row["finalist"] else "confirmed"
        point: dict[str, Any] = {"trial_id": row["trial_id"], "name": f"{row['seeds']} seeds, {row['split']} split"}
        point["what"] = what
        for name in names:
            point |= {name: row.get(name), f"{name}_low": row.get(f"{name}_ci_low")}
            point[f"{name}_high"] = row.get(f"{name}_ci_high")
        out.append(point)
    return pd.DataFrame(out)


def _pair(phase: Phase, searched: pd.DataFrame, confirmed: pd.DataFrame, x: str, y: str) -> Panel:
    tips = ["trial_id", "name", "what", *(alt.Tooltip(n, format=".4f", title=LABELS.get(n, n)) for n in (x, y))]
    across = alt.X(x, type="quantitative", title=LABELS.get(x, x), scale=alt.Scale(zero=False))
    up = alt.Y(y, type="quantitative", title=LABELS.get(y, y), scale=alt.Scale(zero=False))
    colour = alt.Color(
        "what:N",
        title=None,
        scale=alt.Scale(domain=[*STATES, *CONFIRMED], range=[*STATE_COLOURS, *CONFIRMED_COLOURS]),
        legend=None,
    )
    dots = (
        alt.Chart(searched)
        .mark_circle(opacity=0.9)
        .encode(x=across, y=up, color=colour, tooltip=tips, size=_size("what", "on the front", 70, 34))
    )
    layers: list[Any] = [*_gate_lines(phase, x, y), dots]
    if len(confirmed):
        base = alt.Chart(confirmed)
        layers += [
            base.mark_rule(strokeWidth=1.3).encode(x=f"{x}_low:Q", x2=f"{x}_high", y=up, color=colour),
            base.mark_rule(strokeWidth=1.3).encode(x=across, y=f"{y}_low:Q", y2=f"{y}_high", color=colour),
            base.mark_point(filled=True, opacity=1, size=90).encode(
                x=across,
                y=up,
                color=colour,
                tooltip=tips,
                shape=alt.Shape(
                    "what:N",
                    scale=alt.Scale(domain=list(CONFIRMED), range=["diamond", "cross", "diamond"]),
                    legend=None,
                ),
            ),
        ]
    best = searched[searched["what"] == "on the front"]
    said = f"{len(best)} trials on the front" if len(best) else "no trial on the front"
    return Panel(
        name=f"front-{x}-{y}",
        title=f"{label(SHORT.get(y, y))} against {SHORT.get(x, x)}",
        alt=f"Scatter plot of {LABELS.get(y, y)} against {LABELS.get(x, x)}: {len(searched)} trials, {said}, "
        f"{len(confirmed)} confirmed recipes with intervals.",
        chart=alt.layer(*layers),
        height=230,
    )


def _size(field: str, value: str, large: int, small: int) -> Any:
    return alt.condition(alt.datum[field] == value, alt.value(large), alt.value(small))


def _gate_lines(phase: Phase, x: str, y: str) -> list[Any]:
    lines = []
    for name, channel in ((x, "x"), (y, "y")):
        for gate in (*phase.gates, *RESUME_GATES):
            if gate.quantity == name:
                data = pd.DataFrame({name: [gate.threshold], "gate": [gate.name]})
                encoding = {
                    channel: alt.X(name, type="quantitative") if channel == "x" else alt.Y(name, type="quantitative")
                }
                lines.append(alt.Chart(data).mark_rule(strokeDash=[5, 4], color="#8a5a00").encode(**encoding))
    return lines


def parallel(run: RunRecord) -> Figure:
    """All trials over all objectives; a brush keeps the trials that pass through it."""
    title = "All trials, all objectives"
    searched = search_points(run)
    names = [o.name for o in run.phase.objectives]
    searched = searched.dropna(subset=names) if len(searched) else searched
    if searched.empty:
        return missing("parallel", title, "No trial of the search has numbers for every objective yet.")
    rows = []
    for objective in run.phase.objectives:
        values = searched[objective.name].astype(float)
        span = float(values.max() - values.min()) or 1.0
        place = (values - values.min()) / span
        better = place if objective.direction == "maximize" else 1.0 - place
        for (_, row), value, height in zip(searched.iterrows(), values, better, strict=True):
            rows.append(
                {
                    "trial_id": row["trial_id"],
                    "name": row["name"],
                    "what": row["what"],
                    "objective": label(SHORT.get(objective.name, objective.name)),
                    "value": value,
                    "place": height,
                }
            )
    table = pd.DataFrame(rows)
    brush = alt.selection_interval(name="brush", encodings=["x", "y"])
    order = list(dict.fromkeys(table["objective"]))
    base = (
        alt.Chart(table)
        .transform_calculate(hit="length(data('brush_store')) ? (vlSelectionTest('brush_store', datum) ? 1 : 0) : 1")
        .transform_joinaggregate(kept="max(hit)", groupby=["trial_id"])
        .encode(
            x=alt.X("objective:N", sort=order, title=None, axis=alt.Axis(labelAngle=0, grid=True, labelLimit=90)),
            y=alt.Y("place:Q", title="worst to best of this run", axis=alt.Axis(labels=False, ticks=False, grid=False)),
            detail="trial_id:N",
            color=state_colour(),
            opacity=alt.condition("datum.kept > 0", alt.value(0.9), alt.value(0.06)),
            tooltip=["trial_id", "name", "what", "objective", alt.Tooltip("value:Q", format=".4f")],
        )
    )
    chart = alt.layer(base.mark_line(strokeWidth=1.6), base.mark_circle(size=38).add_params(brush))
    panel = Panel(
        name="parallel",
        title=title,
        alt=f"Parallel coordinates of {len(searched)} trials over {len(order)} objectives, each axis from the worst to "
        "the best value of this run; the numbers are in the table named below.",
        chart=chart,
        height=300,
    )
    caption = (
        "One line a trial; up is better on every axis. Drag a box over any axis to keep the trials that pass through "
        "it; click outside to clear. Hover for the numbers."
    )
    return Figure(name="parallel", title=title, caption=caption, table=table, panels=[panel])


def volume(run: RunRecord) -> Figure:
    """Hypervolume of the front after each trial, in the order in which they were asked."""
    title = "The search over time"
    searched = [r for r in run.records if r.stage == "search" and r.state != "running"]
    if not searched:
        return missing("hypervolume", title, "No trial of the search has ended yet.")
    rows = [
        {
            "trial": i + 1,
            "trial_id": r.trial_id,
            "state": r.state,
            "hypervolume": hypervolume(run.phase, searched[: i + 1]),
        }
        for i, r in enumerate(searched)
    ]
    table = pd.DataFrame(rows)
    tips: list[Any] = ["trial", "trial_id", "state", alt.Tooltip("hypervolume:Q", format=".4f")]
    base = alt.Chart(table).encode(
        x=alt.X("trial:Q", title="trials of the search, in the order asked", axis=alt.Axis(tickMinStep=1, format="d")),
        y=alt.Y("hypervolume:Q", title="hypervolume"),
        tooltip=tips,
    )
    chart = alt.layer(
        base.mark_line(interpolate="step-after", color=EMPHASIS),
        base.mark_circle(size=36, opacity=1).encode(
            color=alt.Color(
                "state:N",
                title=None,
                scale=alt.Scale(domain=["finished", "stopped", "failed"], range=[EMPHASIS, FAINT, "#9b1c31"]),
            )
        ),
    )
    last = table["hypervolume"].iloc[-1]
    panel = Panel(
        name="hypervolume",
        title="Hypervolume of the front",
        alt=f"Step line of the front's hypervolume over {len(rows)} trials, ending at {last:.3f}.",
        chart=chart,
        height=200,
    )
    caption = (
        "Share of the box between the phase's reference point and its best corner that the finished trials dominate. "
        "A curve that still climbs at its end asks for more trials."
    )
    return Figure(name="hypervolume", title=title, caption=caption, table=table, panels=[panel])
