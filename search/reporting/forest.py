"""Means with their intervals, one row a name, against a line at zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from search.reporting.figure import EMPHASIS, INK, MUTED

MARGIN = 210
"""Pixels that a row's name may take."""


def forest(
    table: pd.DataFrame,
    *,
    row: str,
    mean: str,
    title: str,
    tips: Sequence[Any],
    colour: alt.Color | None = None,
    size: int = 70,
) -> alt.LayerChart:
    """A forest plot of columns `mean`, `ci_low` and `ci_high`, rows in the table's order.

    `title` names the axis, `colour` is the encoding of dots and bars (default: one colour for all).
    """
    order = list(dict.fromkeys(table[row]))
    base = alt.Chart(table).encode(
        y=alt.Y(row, type="nominal", sort=order, title=None, axis=alt.Axis(labelLimit=MARGIN))
    )
    if colour is not None:
        base = base.encode(color=colour)
    bar, dot = ({}, {}) if colour is not None else ({"color": EMPHASIS}, {"color": INK})
    return alt.layer(
        zero_line(),
        base.mark_rule(strokeWidth=2, **bar).encode(x=alt.X("ci_low:Q", title=title), x2="ci_high:Q"),
        base.mark_point(filled=True, size=size, opacity=1, **dot).encode(x=f"{mean}:Q", tooltip=list(tips)),
    )


def zero_line(colour: str = MUTED) -> alt.Chart:
    """The vertical line at 0."""
    return alt.Chart(pd.DataFrame({"zero": [0.0]})).mark_rule(color=colour).encode(x="zero:Q")


def signed_tips(*columns: str, form: str = "+.4f") -> list[alt.Tooltip]:
    """Tooltips of numbers that have a sign."""
    return [alt.Tooltip(column, type="quantitative", format=form) for column in columns]
