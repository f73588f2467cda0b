"""All trials over all objectives at once, as parallel coordinates with a brush."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from search.reporting.charts.figure import MUTED, Figure, Panel, missing
from search.reporting.charts.points import front_last, search_points, state_colour
from search.reporting.records import RunRecord
from search.reporting.words import label, number, short_quantity
from spaces import Phase


def parallel(run: RunRecord) -> Figure:
    """All trials over all objectives; a brush keeps the trials that pass through it."""
    title = "All trials, all objectives"
    searched = search_points(run)
    names = [o.name for o in run.phase.objectives]
    searched = searched.dropna(subset=names) if len(searched) else searched
    if searched.empty:
        return missing("parallel", title, "No trial of the search has numbers for every objective yet.")
    rows = []
    finalist = run.finalist["trial_id"] if run.finalist is not None else None
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
                    "what": "finalist" if row["trial_id"] == finalist else row["what"],
                    "objective": _head(objective.name),
                    "value": value,
                    "place": height,
                }
            )
    table = front_last(pd.DataFrame(rows))
    order = [_head(o.name) for o in run.phase.objectives]
    chart = alt.layer(*_parallel_lines(table, order), _axis_ends(table, run.phase, order))
    panel = Panel(
        name="parallel",
        title=title,
        alt=f"Parallel coordinates of {len(searched)} trials over {len(order)} objectives, each axis from the worst to "
        "the best value of this run; the numbers are in the table named below.",
        chart=chart,
        height=300,
    )
    caption = (
        "One line a trial of the search (validation split, one seed), each axis from the worst value of this run at "
        "its foot to the best at its head. Drag a box over any axis to keep the trials that pass through it; click "
        "outside to clear. Hover for the numbers."
    )
    return Figure(name="parallel", title=title, caption=caption, table=table, panels=[panel])


def _parallel_lines(table: pd.DataFrame, order: list[str]) -> list[Any]:
    """Lines and dots that a brush over any axis fades, but for those that pass through it."""
    brush = alt.selection_interval(name="brush", encodings=["x", "y"])
    base = (
        alt.Chart(table)
        .transform_calculate(hit="length(data('brush_store')) ? (vlSelectionTest('brush_store', datum) ? 1 : 0) : 1")
        .transform_joinaggregate(kept="max(hit)", groupby=["trial_id"])
        .encode(
            x=alt.X("objective:N", sort=order, title=None, axis=alt.Axis(labelAngle=0, grid=True, labelLimit=90)),
            y=alt.Y(
                "place:Q",
                title="worst to best of this run",
                axis=alt.Axis(labels=False, ticks=False, grid=False),
                scale=alt.Scale(domain=[-0.08, 1.08], nice=False),
            ),
            detail="trial_id:N",
            color=state_colour(table["what"]),
            tooltip=["trial_id", "name", "what", "objective", alt.Tooltip("value:Q", format=".4f")],
        )
    )
    # Not `opacity`: drawing a PNG, resvg gives each mark that has it a layer as large as the picture.
    fading: Any = alt.condition("datum.kept > 0", alt.value(0.9), alt.value(0.06))
    lines = base.mark_line(strokeWidth=1.6, opacity=1).encode(strokeOpacity=fading)
    dots = base.mark_circle(size=38, opacity=1).encode(fillOpacity=fading)
    return [lines, dots.add_params(brush)]


def _axis_ends(table: pd.DataFrame, phase: Phase, order: list[str]) -> Any:
    """The worst and the best value at the foot and the head of each axis."""
    rows = []
    names = {_head(o.name): o.name for o in phase.objectives}
    for objective, group in table.groupby("objective", sort=False):
        name = names[str(objective)]
        ordered = group.sort_values("place")["value"].to_list()
        for value, place in ((ordered[0], -0.05), (ordered[-1], 1.05)):
            rows.append({"objective": objective, "place": place, "said": number(value, name)})
    return (
        alt.Chart(pd.DataFrame(rows))
        .mark_text(fontSize=11, color=MUTED)
        .encode(x=alt.X("objective:N", sort=order), y=alt.Y("place:Q"), text="said:N")
    )


def _head(objective: str) -> str:
    """An axis's name: short, so that four stand side by side on a telephone."""
    return label(short_quantity(objective))
