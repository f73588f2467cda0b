"""The roadmap's page: its verdict, the phases in a row, and what links them. One file that opens offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from search.folder import RunFolder, write_whole

COLOURS = {"GO": "#0b6b3a", "PAUSE_AND_FIX": "#8a5300", "ARCHIVE": "#9b1c1c"}
NOT_RUN = "#5f6368"


def write_roadmap_report(folder: RunFolder) -> Path:
    """Write report.html of a roadmap from its folder's tables and its phases'. Raises ValueError where it has none."""
    source = folder.path / "decision.json"
    if not source.exists():
        raise ValueError(f"{folder.path} has no decision.json yet: end the roadmap with --resume first")
    decision = json.loads(source.read_text())
    done = [_phase(folder, said) for said in decision["phases"]]
    left = [{"phase": name, "title": name, "verdict": "not run", "colour": NOT_RUN} for name in decision["not_run"]]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("search.reporting"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["plain"] = _plain
    text = environment.get_template("roadmap.html.j2").render(
        name=folder.path.name,
        description=folder.read() or {},
        decision=decision,
        sentences=_sentences(decision),
        phases=[{"fragile": False, "facts": None, **phase} for phase in (*done, *left)],
        accent=COLOURS[decision["verdict"]],
    )
    path = folder.path / "report.html"
    write_whole(path, text)
    return path


def _phase(folder: RunFolder, said: dict[str, Any]) -> dict[str, Any]:
    run = RunFolder(folder.path / said["phase"])
    facts = {"decided on": said["decided_on"], "finalist": said["finalist"] or "none"}
    if (run.path / "pareto.csv").exists():
        trials = pd.read_csv(run.path / "trials.csv", usecols=["stage", "state", "state_reason"])
        searched = trials[trials["stage"] == "search"]
        taken = int(searched["state_reason"].fillna("").str.startswith("taken over").sum())
        facts["search"] = f"{len(searched) - taken} trials trained, {taken} taken over"
        front = pd.read_csv(run.path / "pareto.csv")
        if len(front):
            facts["front"] = f"{len(front)} trials, best gain {front['ndcg_gain'].max():+.4f} on validation"
    page = "report.html" if (run.path / "report.html").exists() else "decision.md"
    return said | {"facts": facts, "colour": COLOURS[said["verdict"]], "page": page}


def _sentences(decision: dict[str, Any]) -> list[str]:
    """Why, for the first screen: one sentence a phase, and what stopped or holds it."""
    own = [f"{said['phase']} said {said['verdict']}" for said in decision["phases"]]
    return [f"{', '.join(own)}." if own else "No phase has ended.", *decision["reasons"][len(decision["phases"]) :]]


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
