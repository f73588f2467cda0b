"""The trials of the search as points and lines: what became of each, and the colour that says so."""

from __future__ import annotations

from collections.abc import Iterable

import altair as alt
import pandas as pd

from search.reporting.charts.figure import EMPHASIS, FAINT, MUTED
from search.reporting.records import RunRecord

STATES = ("on the front", "finished", "stopped early")
STATE_COLOURS = (EMPHASIS, MUTED, FAINT)
CONFIRMED = ("finalist", "finalist (fragile)", "base recipe", "confirmed")
CONFIRMED_COLOURS = ("#b3005e", "#b3005e", "#00796b", "#7a5195")


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


def state_colour(what: Iterable[str]) -> alt.Color:
    """The colour of a searched trial's line or dot by what became of it, with a legend of what there is."""
    there = set(what)
    known = {"finalist": CONFIRMED_COLOURS[0]} | dict(zip(STATES, STATE_COLOURS, strict=True))
    shown = [name for name in known if name in there]
    return alt.Color("what:N", title=None, scale=alt.Scale(domain=shown, range=[known[name] for name in shown]))


def front_last(points: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order in which they are to be drawn: what matters most over what matters least."""
    order = {what: place for place, what in enumerate(reversed((*CONFIRMED, *STATES)))}
    return points.assign(_z=points["what"].map(order)).sort_values("_z", kind="stable").drop(columns="_z")
