"""A figure: one Vega-Lite spec a panel, which becomes the inline chart and the PNG, and the table that it reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from fusion_models.files import write_whole
from search.reporting.words import modality_name
from search.run_store.csv_tables import write_csv
from search.run_store.folder import RunFolder

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Okabe and Ito's colours, told apart with every common colour blindness: one a modality, the same everywhere."""
INK, MUTED, FAINT = "#1c1c1c", "#5f6368", "#b8bcc2"
EMPHASIS = "#1f4e79"
FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
PNG_WIDTH, PNG_SCALE = 560, 2.0
EXPLAINED_BESIDE = ("what", "interval", "status")
"""Fields whose colours a figure's caption explains on the page."""

CONFIG: dict[str, Any] = {
    "font": FONT,
    "background": "#ffffff",
    "view": {"stroke": None},
    "axis": {
        "labelColor": MUTED,
        "titleColor": INK,
        "titleFontWeight": "normal",
        "titleFontSize": 12,
        "labelFontSize": 11,
        "gridColor": "#eceef0",
        "domainColor": FAINT,
        "tickColor": FAINT,
        "labelLimit": 170,
    },
    "legend": {
        "labelColor": INK,
        "titleColor": MUTED,
        "titleFontWeight": "normal",
        "orient": "top",
        "labelFontSize": 11,
    },
    "title": {"color": INK, "fontSize": 13, "fontWeight": "bold", "anchor": "start"},
    "header": {"labelColor": INK, "titleColor": MUTED},
}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One chart."""

    name: str
    """Of its PNG and its element."""
    title: str
    alt: str
    """What a reader who does not see it is told."""
    chart: Any
    height: int = 220

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The Vega-Lite spec, as wide as its container; not to be changed."""
        found: dict[str, Any] = self.chart.to_dict(validate=False)
        _few_ticks(found)
        found["config"] = CONFIG
        found["width"], found["height"] = "container", self.height
        found["autosize"] = {"type": "fit-x", "contains": "padding"}
        found["description"] = self.alt
        return found

    def png(self) -> bytes:
        """The same spec as a picture for slides, with its title."""
        spec = deepcopy(self.spec) | {"width": PNG_WIDTH, "title": {"text": self.title, "offset": 12}}
        spec.pop("autosize")
        _explain_colours(spec)
        drawn: bytes = vl_convert.vegalite_to_png(spec, vl_version=vegalite_version(), scale=PNG_SCALE)
        return drawn


def _explain_colours(spec: Any) -> None:
    """On a slide nothing stands beside a chart: colours that the page explains in words get their legend."""
    for encoding in _encodings(spec):
        colour = encoding.get("color", {})
        if colour.get("field") in EXPLAINED_BESIDE and colour.get("legend", ...) is None:
            del colour["legend"]


def _few_ticks(spec: Any) -> None:
    """Quantitative x axes get few enough labels for a telephone."""
    few = {"tickCount": 5, "labelFlush": False, "labelOverlap": "greedy", "labelSeparation": 8}
    for encoding in _encodings(spec):
        across = encoding.get("x", {})
        if across.get("type") == "quantitative":
            across["axis"] = few | (across.get("axis") or {})


def _encodings(spec: Any) -> Iterator[dict[str, Any]]:
    """The encoding of a chart and of every chart inside it, to be changed in place."""
    for part in spec if isinstance(spec, list) else [spec] if spec else []:
        yield part.get("encoding", {})
        for key in ("layer", "spec"):
            yield from _encodings(part.get(key))


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One or several panels that read one table."""

    name: str
    """Element id, and the name of `figures/NAME.csv`."""
    title: str
    caption: str
    table: pd.DataFrame
    panels: Sequence[Panel] = ()
    missing: str = ""
    """Why there is nothing to draw, in the words of the reader."""
    notes: Sequence[str] = field(default=())

    @property
    def source(self) -> str:
        """The table that the figure reads, from the run folder."""
        return f"figures/{self.name}.csv"

    @property
    def pictures(self) -> str:
        """Where its PNGs lie."""
        return f"figures/{self.name}-*.png" if len(self.panels) > 1 else f"figures/{self.panels[0].name}.png"


def missing(name: str, title: str, why: str) -> Figure:
    """A figure that says what is missing."""
    return Figure(name=name, title=title, caption="", table=pd.DataFrame(), missing=why)


def failed(name: str, title: str, error: Exception) -> Figure:
    """A figure that says why it could not be drawn."""
    return missing(name, title, f"It could not be drawn ({type(error).__name__}: {' '.join(str(error).split())}).")


def write_figures(figures: Sequence[Figure], folder: RunFolder) -> list[Figure]:
    """Write the figures' tables and the PNG of each panel, under `figures/`; pictures are drawn side by side.

    The figures as they are to be shown: one whose picture cannot be drawn says so. Tables and pictures that a figure
    had before and has no more are deleted.
    """
    place = folder.path / "figures"
    place.mkdir(exist_ok=True)
    for figure in figures:
        if len(figure.table.columns):
            write_csv(figure.table, RunFolder(place), f"{figure.name}.csv")
        else:
            (place / f"{figure.name}.csv").unlink(missing_ok=True)
    panels = [panel for figure in figures for panel in figure.panels]
    errors: dict[str, Exception] = {}
    with ThreadPoolExecutor() as pool:
        for panel, drawn in zip(panels, pool.map(_png, panels), strict=True):
            if isinstance(drawn, Exception):
                errors[panel.name] = drawn
            else:
                write_whole(place / f"{panel.name}.png", drawn)
    out = []
    for figure in figures:
        _delete_older(place, figure, {panel.name for panel in figure.panels if panel.name not in errors})
        error = next((errors[panel.name] for panel in figure.panels if panel.name in errors), None)
        out.append(figure if error is None else failed(figure.name, figure.title, error))
    return out


def _delete_older(place: Path, figure: Figure, drawn: set[str]) -> None:
    for path in (place / f"{figure.name}.png", *place.glob(f"{figure.name}-*.png")):
        if path.stem not in drawn:
            path.unlink(missing_ok=True)


def _png(panel: Panel) -> bytes | Exception:
    """One that fails must not cost the others."""
    try:
        return panel.png()
    except Exception as error:
        return error


def vegalite_version() -> str:
    """The version of Vega-Lite that Altair writes and vl-convert draws: `6.4`."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def modality_scale(modalities: Sequence[str], of_dataset: Sequence[str]) -> alt.Scale:
    """The one colour of each modality, which its place in the dataset decides, by the name that readers see."""
    colours = {m: PALETTE[i % len(PALETTE)] for i, m in enumerate(of_dataset)}
    return alt.Scale(domain=[modality_name(m) for m in modalities], range=[colours[m] for m in modalities])
