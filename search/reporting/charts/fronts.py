"""The front: each pair of objectives with the gates as lines, and the search over time."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import altair as alt
import pandas as pd

from search.analysis.front import hypervolume
from search.reporting.charts.figure import EMPHASIS, FAINT, Figure, Panel, missing
from search.reporting.charts.points import (
    CONFIRMED,
    CONFIRMED_COLOURS,
    STATE_COLOURS,
    STATES,
    front_last,
    search_points,
)
from search.reporting.records import RunRecord
from search.reporting.words import BASE, FRACTIONS, label, short_quantity
from spaces import Phase


def front(run: RunRecord) -> Figure:
    """Every pair of objectives: searched trials (validation), confirmed recipes with intervals, gates as lines."""
    title = "The Pareto front"
    searched = search_points(run)
    if searched.empty:
        return missing("front", title, "No trial of the search has ended yet.")
    names = [o.name for o in run.phase.objectives]
    if len(names) == 1:
        return missing("front", title, f"The search has one objective, {label(names[0])}: no trade-off.")
    confirmed = _confirmed_points(run, names)
    table = pd.concat([searched, confirmed], ignore_index=True)
    frames = {name: _frame(run.phase, searched, confirmed, name) for name in names}
    panels = [_pair(run.phase, searched, confirmed, (x, frames[x]), (y, frames[y])) for x, y in combinations(names, 2)]
    caption = (
        "One dot a trial of the search, measured on the validation split with one seed; on the front are those that no "
        "other trial beats on every objective. Marks with bars are recipes retrained with fresh seeds and averaged. "
        "Dashed lines are gates, the conditions for resuming V2 among them. Trials stopped early are shown as they "
        "stood when they were stopped, and are never on the front."
    )
    notes = [] if len(confirmed) else ["No recipe has been confirmed with fresh seeds, so no point has an interval."]
    outside = [r["trial_id"] for r in searched.to_dict("records") if any(_is_outside(r[n], frames[n]) for n in names)]
    if outside:
        notes.append(
            f"{len(outside)} trials that did badly lie outside the frames of these charts ({', '.join(outside)}); "
            "the table has them."
        )
    return Figure(name="front", title=title, caption=caption, table=table, panels=panels, notes=notes)


Frame = tuple[float, float]


def _frame(phase: Phase, searched: pd.DataFrame, confirmed: pd.DataFrame, name: str) -> Frame:
    """What an axis shows: front, confirmed intervals, gates, and the better three quarters of all trials.

    One trial that failed to learn would else press all others into a corner.
    """
    objective = next(o for o in phase.objectives if o.name == name)
    values = searched[name].dropna()
    better = values.quantile(0.25) if objective.direction == "maximize" else values.quantile(0.75)
    upward = objective.direction == "maximize"
    kept = [*values[values >= better if upward else values <= better]]
    kept += [*searched.loc[searched["what"] == "on the front", name].dropna(), *_thresholds(phase, name)]
    if len(confirmed):
        kept += [v for c in (name, f"{name}_low", f"{name}_high") for v in confirmed[c].dropna()]
    if not kept:
        return 0.0, 1.0
    margin = 0.06 * (max(kept) - min(kept)) or 0.01
    return min(kept) - margin, max(kept) + margin


def _is_outside(value: float, frame: Frame) -> bool:
    return value < frame[0] or value > frame[1]


def _confirmed_points(run: RunRecord, names: list[str]) -> pd.DataFrame:
    if run.confirmed.empty:
        return pd.DataFrame()
    splits = list(dict.fromkeys(run.confirmed["split"]))
    opened = [split for split in splits if split != "validation"]
    rows = run.confirmed[run.confirmed["split"] == (opened[0] if opened else "validation")]
    fragile = bool((run.decision or {}).get("fragile"))
    out = []
    for row in rows.to_dict("records"):
        other = "base recipe" if row["name"] == BASE else "confirmed"
        what = ("finalist (fragile)" if fragile else "finalist") if row["finalist"] else other
        point: dict[str, Any] = {"trial_id": row["trial_id"], "name": f"{row['seeds']} seeds, {row['split']} split"}
        point["what"] = what
        for name in names:
            point |= {name: row.get(name), f"{name}_low": row.get(f"{name}_ci_low")}
            point[f"{name}_high"] = row.get(f"{name}_ci_high")
        out.append(point)
    return pd.DataFrame(out)


def _pair(
    phase: Phase, searched: pd.DataFrame, confirmed: pd.DataFrame, across: tuple[str, Frame], up: tuple[str, Frame]
) -> Panel:
    (x, wide), (y, high) = across, up
    tips = ["trial_id", "name", "what", *(alt.Tooltip(n, format=".4f", title=label(n)) for n in (x, y))]
    horizontal = alt.X(x, type="quantitative", title=label(x), scale=_within(wide), axis=_percent_axis(x))
    vertical = alt.Y(y, type="quantitative", title=label(y), scale=_within(high), axis=_percent_axis(y))
    shown = [
        w for w in (*STATES, *CONFIRMED) if w in {*searched["what"], *(confirmed["what"] if len(confirmed) else ())}
    ]
    colours = dict(zip((*STATES, *CONFIRMED), (*STATE_COLOURS, *CONFIRMED_COLOURS), strict=True))
    colour = alt.Color(
        "what:N", title=None, scale=alt.Scale(domain=shown, range=[colours[w] for w in shown]), legend=None
    )
    inside = searched[
        [not (_is_outside(a, wide) or _is_outside(b, high)) for a, b in zip(searched[x], searched[y], strict=True)]
    ]
    dots = (
        alt.Chart(front_last(inside))
        .mark_circle(opacity=0.9)
        .encode(x=horizontal, y=vertical, color=colour, tooltip=tips, size=_size("what", "on the front", 70, 34))
    )
    layers: list[Any] = [*_gate_lines(phase, x, y), dots]
    if len(confirmed):
        base = alt.Chart(front_last(confirmed))
        layers += [
            base.mark_rule(strokeWidth=1.3).encode(x=f"{x}_low:Q", x2=f"{x}_high", y=vertical, color=colour),
            base.mark_rule(strokeWidth=1.3).encode(x=horizontal, y=f"{y}_low:Q", y2=f"{y}_high", color=colour),
            base.mark_point(filled=True, opacity=1, size=90).encode(
                x=horizontal,
                y=vertical,
                color=colour,
                tooltip=tips,
                shape=alt.Shape(
                    "what:N",
                    scale=alt.Scale(domain=list(CONFIRMED), range=["diamond", "cross", "square", "diamond"]),
                    legend=None,
                ),
            ),
        ]
    best = searched[searched["what"] == "on the front"]
    said = f"{len(best)} trials on the front" if len(best) else "no trial on the front"
    return Panel(
        name=f"front-{x}-{y}",
        title=f"{label(short_quantity(y))} against {short_quantity(x)}",
        alt=f"Scatter plot of {label(y)} against {label(x)}: {len(searched)} trials, {said}, "
        f"{len(confirmed)} confirmed recipes with intervals.",
        chart=alt.layer(*layers),
        height=230,
    )


def _size(field: str, value: str, large: int, small: int) -> Any:
    return alt.condition(alt.datum[field] == value, alt.value(large), alt.value(small))


def _gate_lines(phase: Phase, x: str, y: str) -> list[Any]:
    lines = []
    for name, channel in ((x, alt.X), (y, alt.Y)):
        for threshold in _thresholds(phase, name):
            data = pd.DataFrame({name: [threshold]})
            encoding = {channel.__name__.lower(): channel(name, type="quantitative")}
            lines.append(alt.Chart(data).mark_rule(strokeDash=[5, 4], color="#8a5a00").encode(**encoding))
    return lines


def _thresholds(phase: Phase, name: str) -> list[float]:
    return [gate.threshold for gate in (*phase.gates, *phase.resume_gates) if gate.quantity == name]


def _within(frame: Frame) -> alt.Scale:
    return alt.Scale(domain=list(frame), nice=False, zero=False)


def _percent_axis(name: str) -> alt.Axis:
    """Quantities that are written as per cent everywhere else are so on an axis."""
    return alt.Axis(format="~%") if name.endswith(FRACTIONS) else alt.Axis()


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
