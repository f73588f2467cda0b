"""A comparison of two runs as one HTML file that opens offline, and in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import jinja2
import pandas as pd
import vl_convert
from markupsafe import Markup
from rich.console import Console

from search.reporting.charts.figure import CONFIG, EMPHASIS, vegalite_version
from search.reporting.charts.standing import VERDICT_COLOURS, VERDICT_WORDS
from search.reporting.comparison import Comparison, Pair
from search.reporting.terminal import Column, Row, print_table, say
from search.reporting.words import label, unbroken

COLOURS = (EMPHASIS, "#b3005e")
"""Of the first run and the second."""
SHORTEST = 24
"""Characters of a value in a narrow terminal; a wide one breaks it into lines, and a file has it whole."""


def comparison_page(runs: Pair, found: Comparison) -> str:
    """The page; every text in it that came from a dataset or a user is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("search.reporting"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    verdicts = [(r.decision or {}).get("verdict", "") for r in runs]
    text = environment.get_template("comparison.html.j2").render(
        runs=runs,
        found=found,
        names=short_names(found.names),
        verdicts=[(VERDICT_WORDS.get(v, "NO VERDICT YET"), VERDICT_COLOURS.get(v, "#5f6368")) for v in verdicts],
        colours=COLOURS,
        accent="#1c1c1c",
        settings=[part for part in found.settings if part.differing],
        same=[part.name for part in found.settings if not part.differing],
        drawings=[Markup(drawing) for drawing in front_drawings(runs, short_names(found.names))],  # our own SVG
    )
    return unbroken(text)


def short_names(names: tuple[str, str]) -> tuple[str, str]:
    """The last parts of two paths, as few as tell them apart."""
    one, two = (name.rstrip("/").split("/") for name in names)
    for count in range(1, max(len(one), len(two)) + 1):
        short = "/".join(one[-count:]), "/".join(two[-count:])
        if short[0] != short[1]:
            return short
    return f"{one[-1]} (first)", f"{two[-1]} (second)"


def front_drawings(runs: Pair, names: tuple[str, str]) -> list[str]:
    """Both fronts as SVG, nDCG gain against each other objective; none where neither run has one."""
    objectives = [o.name for o in runs[0].phase.objectives if o.name != "ndcg_gain"]
    tables = [
        r.pareto.reindex(columns=["trial_id", "ndcg_gain", *objectives]).assign(run=name)
        for r, name in zip(runs, names, strict=True)
        if len(r.pareto)
    ]
    if not tables:
        return []
    points = pd.concat(tables, ignore_index=True)
    return [_drawing(points, name, names) for name in objectives if points[name].notna().any()]


def _drawing(points: pd.DataFrame, across: str, names: tuple[str, str]) -> str:
    chart = (
        alt.Chart(points)
        .mark_point(filled=True, size=60, opacity=0.85)
        .encode(
            x=alt.X(across, type="quantitative", title=label(across), scale=alt.Scale(zero=False)),
            y=alt.Y("ndcg_gain", type="quantitative", title=label("ndcg_gain"), scale=alt.Scale(zero=False)),
            color=alt.Color("run:N", title=None, scale=alt.Scale(domain=list(names), range=list(COLOURS)), legend=None),
            shape=alt.Shape("run:N", title=None, scale=alt.Scale(domain=list(names)), legend=None),
        )
    )
    spec: dict[str, Any] = chart.to_dict(validate=False) | {"config": CONFIG, "width": 380, "height": 220}
    drawn: str = vl_convert.vegalite_to_svg(spec, vl_version=vegalite_version())
    return drawn[drawn.index("<svg") :]


def print_comparison(console: Console, found: Comparison) -> None:
    """What differs, settings apart from results; what is the same is in the page."""
    names = short_names(found.names)
    for warning in found.warnings:
        say(console, warning, style="yellow")
    for title, parts in (("settings that differ", found.settings), ("results that differ", found.results)):
        columns = [Column(name="what"), *(Column(name=name) for name in names)]
        lines = [(part.name, line) for part in parts for line in part.differing]
        rows = [
            Row(
                cells=(f"{name}: {line.what}", *line.values),
                short={column.name: _cut(v) for column, v in zip(columns[1:], line.values, strict=True)},
            )
            for name, line in lines
        ]
        if rows:
            print_table(
                console,
                title,
                columns,
                rows,
                ["values are cut to fit; the page has them whole"] if _is_cut(rows) else [],
            )
        else:
            say(console, f"{title}: none")


def _cut(value: str) -> str:
    return value if len(value) <= SHORTEST else f"{value[: SHORTEST - 1]}…"


def _is_cut(rows: Sequence[Row]) -> bool:
    return any(value not in row.cells for row in rows for value in (row.short or {}).values())
