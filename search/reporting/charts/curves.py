"""Learning curves."""

from __future__ import annotations

import altair as alt
import pandas as pd

from search.reporting.charts.figure import Figure, Panel, missing
from search.reporting.charts.points import front_last, search_points, state_colour
from search.reporting.records import RunRecord


def curves(run: RunRecord) -> Figure:
    """Gain by epoch of every searched trial, and the loss parts of the finalist."""
    title = "Learning curves"
    table = run.curves
    searched = search_points(run)
    if table.empty or searched.empty:
        return missing("curves", title, "No training has left a curve under tensorboard/.")
    gains = table[table["name"] == "ndcg_gain"].merge(
        searched[["trial_id", "name", "what"]], on="trial_id", suffixes=("", "_of")
    )
    if run.finalist is not None:
        gains.loc[gains["trial_id"] == run.finalist["trial_id"], "what"] = "finalist"
    gains = front_last(gains)
    panels = []
    if len(gains):
        chart = (
            alt.Chart(gains)
            .mark_line(strokeWidth=1.5, point=alt.OverlayMarkDef(size=16))
            .encode(
                x=alt.X("epoch:Q", axis=alt.Axis(tickMinStep=1, format="d")),
                y=alt.Y("value:Q", title="nDCG gain over V1"),
                detail="trial_id:N",
                color=state_colour(gains["what"]),
                tooltip=["trial_id", "name_of", "what", "epoch", alt.Tooltip("value:Q", format="+.4f")],
            )
        )
        panels.append(
            Panel(
                name="curves-gain",
                title="Gain of the best weights so far, by epoch",
                alt=f"Curves of nDCG gain on validation of {gains['trial_id'].nunique()} trials by epoch.",
                chart=chart,
            )
        )
    parts = _finalist_parts(run, table)
    if len(parts):
        legend = alt.Legend(columns=3, symbolType="stroke")  # one for colour and dashes: they name the same parts
        chart = (
            alt.Chart(parts)
            .mark_line(strokeWidth=1.5, point=alt.OverlayMarkDef(size=16))
            .encode(
                x=alt.X("epoch:Q", axis=alt.Axis(tickMinStep=1, format="d")),
                y=alt.Y("share:Q", title="value / value after its first epoch"),
                color=alt.Color("part:N", title=None, scale=alt.Scale(scheme="tableau10"), legend=legend),
                strokeDash=alt.StrokeDash("part:N", title=None, legend=legend),
                tooltip=["part", "epoch", alt.Tooltip("value:Q", format=".4g")],
            )
        )
        panels.append(
            Panel(
                name="curves-loss",
                title="Loss parts of the finalist, mean of its seeds",
                alt="Curves of the finalist's loss parts by epoch, relative to their first epoch: "
                + ", ".join(dict.fromkeys(parts["part"])),
                chart=chart,
            )
        )
    caption = "Validation split; one line a trial. Every scalar of every training is in the table named below."
    return Figure(name="curves", title=title, caption=caption, table=gains, panels=panels)


def _finalist_parts(run: RunRecord, table: pd.DataFrame) -> pd.DataFrame:
    if run.finalist is None:
        return pd.DataFrame()
    its = [r.trial_id for r in run.records if r.role.kind == "confirm" and r.name == run.finalist["trial_id"]]
    mine = table["trial_id"].isin(its) & table["name"].str.startswith("loss/")
    rows: pd.DataFrame = table[mine].groupby(["name", "epoch"])["value"].mean().reset_index()
    first = rows.sort_values("epoch").groupby("name")["value"].transform("first")
    rows["share"] = rows["value"] / first.where(first.abs() > 1e-9)
    rows["part"] = rows["name"].str.removeprefix("loss/").str.replace("_", " ")
    return rows.dropna(subset=["share"])
