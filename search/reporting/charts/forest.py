"""Means with their intervals, one row a name, against a line at zero."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from search.reporting.charts.figure import EMPHASIS, INK, MUTED

LINE = 24
"""Letters of a row's name in one line: two lines leave a chart its room on a telephone."""


def row_axis() -> alt.Axis:
    """An axis of names, those of two lines centred on their row."""
    two = {"test": "length(split(datum.value, '\\n')) > 1", "value": -6}
    return alt.Axis(labelLimit=200, labelExpr="split(datum.label, '\\n')", labelOffset={"condition": two, "value": 0})


@dataclass(frozen=True)
class MeanAxis:
    """What a forest plot shows along its axis."""

    column: str
    """Of the means."""
    title: str
    form: str = ""
    """The numbers' format, of D3."""


def forest(
    table: pd.DataFrame,
    *,
    row: str,
    axis: MeanAxis,
    tips: Sequence[Any],
    colour: alt.Color | None = None,
    size: int = 70,
) -> Any:
    """A forest plot of the axis's column, `ci_low` and `ci_high`, rows in the table's order.

    `colour` is the encoding of dots and bars (default: one colour for all), `size` that of dots.
    """
    drawn = table.assign(row=[wrapped(str(name)) for name in table[row]])
    order = list(dict.fromkeys(drawn["row"]))
    base = alt.Chart(drawn).encode(y=alt.Y("row:N", sort=order, title=None, axis=row_axis()))
    if colour is not None:
        base = base.encode(color=colour)
    along = alt.Axis(titleAnchor="end", format=axis.form) if axis.form else alt.Axis(titleAnchor="end")
    bar: dict[str, Any] = {} if colour is not None else {"color": EMPHASIS}
    dot: dict[str, Any] = {} if colour is not None else {"color": INK}
    return alt.layer(
        zero_line(),
        base.mark_rule(strokeWidth=2, **bar).encode(x=alt.X("ci_low:Q", title=axis.title, axis=along), x2="ci_high:Q"),
        base.mark_point(filled=True, size=size, opacity=1, **dot).encode(x=f"{axis.column}:Q", tooltip=list(tips)),
    )


def wrapped(name: str) -> str:
    """A row's name in lines of about `LINE` letters; of two things the second on a line of its own."""
    parts = name.replace(" + ", " +\n").split("\n") if " + " in name else textwrap.wrap(name, LINE)
    return "\n".join(parts) or name


def zero_line(colour: str = MUTED) -> Any:
    """The vertical line at 0."""
    return alt.Chart(pd.DataFrame({"zero": [0.0]})).mark_rule(color=colour).encode(x="zero:Q")


def signed_tips(*columns: str, form: str = "+.4f") -> list[alt.Tooltip]:
    """Tooltips of numbers that have a sign."""
    return [alt.Tooltip(column, type="quantitative", format=form) for column in columns]
