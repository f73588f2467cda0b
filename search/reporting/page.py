"""report.html: one file that holds everything it shows and asks nothing of any network."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import vl_convert
from filelock import FileLock
from markupsafe import Markup
from rich.console import Console

from fusion_models.data.arrays.cache import cache_root
from fusion_models.files import write_whole
from search.reporting.charts import curves, effects, flip, fronts, leads, modalities, parallel, release, standing
from search.reporting.charts.figure import Figure, failed, vegalite_version, write_figures
from search.reporting.model_card import write_card
from search.reporting.records import RunRecord, read_run
from search.reporting.terminal import make_console
from search.reporting.words import BASE, interval, label, modality_name, number, of_the_team, source_name, unbroken
from search.run_store.csv_tables import write_csv
from search.run_store.folder import RunFolder
from search.run_store.looks import SPLIT_NAMES
from spaces import PHASE4, departures

SECTIONS = (
    leads.leads,
    fronts.front,
    parallel.parallel,
    modalities.agreement,
    modalities.contribution,
    modalities.attention,
    effects.ablation,
    modalities.rivals,
    modalities.subdomains,
    curves.curves,
    fronts.volume,
    effects.importances,
    flip.flip,
)
"""The figures, in the order of the page (what would flip the verdict stands right after the gates)."""
RELEASE_SECTIONS = (
    release.latency,
    leads.leads,
    effects.ablation,
    modalities.agreement,
    modalities.contribution,
    modalities.attention,
    modalities.rivals,
    modalities.subdomains,
    flip.flip,
)
"""Of phase 4, which searches nothing; what phase 3 measured on the test split stands again."""
AUDIT_SECTIONS = (
    leads.leads,
    modalities.agreement,
    modalities.contribution,
    modalities.attention,
    modalities.rivals,
    modalities.subdomains,
    release.latency,
    flip.flip,
)
"""Of an audit, which trains nothing."""
FIRST_ROWS = 12
WITHOUT_COLD = "without cold"
"""What confirmed.csv says of trainings that saw no item of the lists of new items."""


def confirmed_columns(run: RunRecord) -> tuple[str, ...]:
    """Of the tables of the short list and of the front."""
    return ("ndcg_gain", f"{run.phase.suspect}_masking_drop", "attention_max_share", "v1_correlation")


def write_report(folder: RunFolder) -> None:
    """Write `report.html`, `figures/*` and the artefact's model card of a run from its tables, whatever it came to.

    Raises RunFolderError where the folder holds no run.
    """
    run = read_run(folder.path)
    try:
        figures = write_figures([drawn(draw, run) for draw in sections(run)], folder)
        if len(run.curves):
            write_csv(run.curves, folder, "curves.csv")
        write_whole(folder.path / "report.html", page(run, figures))
    finally:
        write_card(run)
    folder.note_report()


def drawn(draw: Callable[[RunRecord], Figure], run: RunRecord) -> Figure:
    """A figure of the run; one that cannot be drawn says why, and costs no other."""
    try:
        figure = draw(run)
        for panel in figure.panels:
            panel.spec  # noqa: B018  # a chart that is no spec fails here, not on the page
    except Exception as error:
        name = {"volume": "hypervolume"}.get(draw.__name__, draw.__name__)
        return failed(name, label(name), error)
    return figure


def sections(run: RunRecord) -> Sequence[Callable[[RunRecord], Figure]]:
    """What draws the figures of a run's phase, in the order of its page."""
    if run.audited:
        return AUDIT_SECTIONS
    return RELEASE_SECTIONS if run.phase.name == PHASE4.name else SECTIONS


def build_report(folder: RunFolder, console: Console) -> None:
    """`write_report` at the end of a run, whose results must not be lost where drawing them fails.

    A page that lies there tells of an earlier verdict, so it goes first. A console that is quiet has this said on
    stderr.
    """
    (folder.path / "report.html").unlink(missing_ok=True)
    try:
        write_report(folder)
    except Exception as error:
        loud = make_console(stderr=True) if console.quiet else console
        said = f"the report could not be built ({type(error).__name__}: {error}); the tables are whole"
        loud.print(said, style="yellow", highlight=False, markup=False, emoji=False, soft_wrap=True)
        said = f"python -m search.report {shlex.quote(str(folder.path))} tries again"
        loud.print(said, highlight=False, markup=False, emoji=False, soft_wrap=True)


def page(run: RunRecord, figures: Sequence[Figure]) -> str:
    """The whole page; every text in it that came from a dataset or a user is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("search.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "label": label}
    by_name = {figure.name: figure for figure in figures}
    verdict = (run.decision or {}).get("verdict", "")
    text = environment.get_template("report.html.j2").render(
        run=run,
        description=run.run,
        data=source_name(str(run.run.get("data") or "")),
        of_the_team=of_the_team(run.run),
        decision=run.decision,
        verdict=standing.VERDICT_WORDS.get(verdict, "NO VERDICT YET"),
        accent=standing.VERDICT_COLOURS.get(verdict, "#5f6368"),
        sentences=standing.sentences(run),
        warnings=standing.warnings(run),
        looked=standing.looked(run),
        level=standing.level(run) + standing.level_of_latency(run),
        gates=standing.gate_rows(run),
        neutral=standing.neutral_gates(run),
        departures=departures(run.phase),
        measured_by=standing.measured_by(run),
        metric=run.phase.metric,
        flip=by_name["flip"],
        figures=[figure for figure in figures if figure.name != "flip"],
        recipe=_recipe(run),
        command=_command(run.run.get("command") or []),
        confirmed=_confirmed(run),
        unlike="items" in run.confirmed and bool((run.confirmed["items"] == WITHOUT_COLD).any()),
        confirmed_columns=[run.phase.metric.name if c == "ndcg" else label(c) for c in confirmed_columns(run)],
        suspect=modality_name(run.phase.suspect),
        front=_front(run),
        states=_states(run),
        search=_search_said(run.run.get("search")),
        failures=[r for r in run.records if r.state == "failed"],
        examples=_examples(run.examples),
        integrity=release.integrity_rows(run),
        rollout=run.rollout,
        split=SPLIT_NAMES[(run.evidence or {}).get("split", "test")],
        other_ablations=[name for name in run.ablations if name != "ablation.csv"],
        javascript=Markup(javascript()),  # our own bundle, not text of anybody
    )
    return unbroken(text)


@lru_cache(maxsize=1)
def javascript() -> str:
    """Vega, Vega-Lite and vega-embed as one script, safe inside a `script` element; bundled once a user and version."""
    name = f"vega-{vegalite_version()}-{version('vl-convert-python')}.js"
    place = cache_root() / "report"
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / f"{name}.lock"):
        if not (place / name).exists():
            bundle = vl_convert.javascript_bundle(vl_version=vegalite_version())  # type: ignore[call-arg]  # no snippet
            write_whole(place / name, bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--"))
        return (place / name).read_text(encoding="utf-8")


def _recipe(run: RunRecord) -> list[tuple[str, str, str]]:
    """Key, value of the base recipe and of the finalist, where they differ."""
    if run.finalist is None:
        return []
    base = run.phase.base.flat()
    changed = {k: v for k, v in run.finalist["recipe"].items() if v != base.get(k)}
    return [(key, _short(base.get(key)), _short(value)) for key, value in changed.items()]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)


def _command(words: Sequence[str]) -> str:
    """The command line as a user types it: Python replaces `-m search.run` by the module's path."""
    if not words:
        return ""
    path = Path(words[0])
    first = f"python -m search.{path.stem}" if path.suffix == ".py" and path.parent.name == "search" else words[0]
    return shlex.join([*first.split(" "), *words[1:]])


def _confirmed(run: RunRecord) -> list[dict[str, Any]]:
    rows = []
    for row in run.confirmed.to_dict("records"):
        cells = [
            (number(row.get(c), c), interval(row.get(f"{c}_ci_low"), row.get(f"{c}_ci_high"), c))
            for c in confirmed_columns(run)
        ]
        rows.append(
            {"trial": row["trial_id"], "split": row["split"], "seeds": row["seeds"], "cells": cells} | _gates(row)
        )
        rows[-1]["trained"] = _trained(row)
        rows[-1] |= {"finalist": bool(row["finalist"]), "name": "base recipe" if row["name"] == BASE else ""}
    return rows


def _trained(row: dict[Any, Any]) -> str:
    """Which trainings a row of confirmed.csv is of, and on which items; older tables do not say."""
    trainings, items = row.get("trainings"), row.get("items")
    if not isinstance(trainings, str):
        return ""
    return trainings + (", without new items" if items == WITHOUT_COLD else "")


def _front(run: RunRecord) -> list[dict[str, Any]]:
    names = {r.trial_id: r.name for r in run.records}
    out = []
    for row in run.pareto.head(FIRST_ROWS).to_dict("records"):
        cells = [(number(row.get(c), c), "") for c in confirmed_columns(run)]
        share = row.get("p_on_front")
        stays = f"{100 * share:.0f} %" if isinstance(share, float) and share == share else "–"
        trial = row["trial_id"]
        out.append({"trial": trial, "name": names.get(trial, ""), "stays": stays, "cells": cells} | _gates(row))
    return out


def _gates(row: dict[Any, Any]) -> dict[str, str]:
    return {"gates": f"{int(row['gates_passed'])}/{int(row['gates_total'])}"}


def _search_said(search: dict[str, Any] | None) -> str:
    """How far the search came and whether the same command finds the same trials; empty where nobody noted it."""
    if search is None:
        return ""
    begun, planned, at_once = search["begun"], search["planned"], search["at_once"]
    if begun < planned:
        return (
            f"The time budget ended the search after {begun} of {planned} trials. The same command may end it "
            "elsewhere, and find another finalist."
        )
    or_more = bool(search.get("or_more"))
    if at_once is None and or_more:
        return "However many trainings run at once, the same command proposes the same trials."
    if at_once is None:
        return "How many trials ran at once was not fixed, so the same command may propose others."
    said = f"{at_once} trainings at once{' or more' if or_more else ''}"
    return f"With {said} (--max-concurrent) the same command proposes the same trials."


def _states(run: RunRecord) -> list[tuple[str, int, dict[str, int]]]:
    """Stage, trainings, and how many are in each state."""
    if run.trials.empty:
        return []
    return [
        (str(stage), len(rows), {str(k): int(v) for k, v in rows["state"].value_counts().items()})
        for stage, rows in run.trials.groupby("stage", sort=False)
    ]


def _examples(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Query by query: its text and gain, and both orders with titles and pictures as data URIs."""
    out = []
    for (kind, query_id), rows in table.groupby(["kind", "query_id"], sort=False) if len(table) else ():
        first = rows.iloc[0]
        orders = {
            order: [
                {
                    "title": r["title"],
                    "item": r["item_id"],
                    "label": f"{r['label']:g}",
                    "picture": _data_uri(r["picture"]),
                }
                for r in places.sort_values("place").to_dict("records")
            ]
            for order, places in rows.groupby("order", sort=False)
        }
        said = {"kind": kind, "query_id": query_id, "query": first["query"], "subdomain": first["subdomain"]}
        out.append(said | {"gain": number(float(first["gain"]), "gain"), "orders": orders})
    return out


def _data_uri(picture: Any) -> str | None:
    if not isinstance(picture, bytes):
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(picture).decode('ascii')}"
