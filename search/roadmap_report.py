"""The roadmap's page: its verdict, the phases in a row, and what links them. One file that opens offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from search.chain import STEPS
from search.folder import RunFolder, write_whole
from search.reporting.standing import VERDICT_COLOURS, VERDICT_WORDS, gate_row
from search.reporting.words import label, number, unbroken
from search.roadmap_decision import bound, side

NOT_RUN = "#5f6368"


def write_roadmap_report(folder: RunFolder) -> Path:
    """Write report.html of a roadmap from its folder's tables and its phases'. Raises ValueError where it has none."""
    source = folder.path / "decision.json"
    if not source.exists():
        raise ValueError(f"{folder.path} has no decision.json yet: end the roadmap with --resume first")
    decision = json.loads(source.read_text())
    done = [_phase(folder, said) for said in decision["phases"]]
    left = [{"phase": n, "title": STEPS[n].title, "verdict": "not run", "colour": NOT_RUN} for n in decision["not_run"]]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("search.reporting"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"label": label, "number": number, "side": side, "bound": bound}
    text = environment.get_template("roadmap.html.j2").render(
        name=folder.path.name,
        description=folder.read() or {},
        decision=decision,
        sentences=_sentences(decision),
        words=VERDICT_WORDS,
        phases=[{"fragile": False, "facts": None, **phase} for phase in (*done, *left)],
        gates=[(gate["phase"], gate_row(gate)) for gate in decision["gates"]],
        accent=VERDICT_COLOURS[decision["verdict"]],
    )
    path = folder.path / "report.html"
    write_whole(path, unbroken(text))
    return path


def _phase(folder: RunFolder, said: dict[str, Any]) -> dict[str, Any]:
    run = RunFolder(folder.path / said["phase"])
    facts = {"decided on": said["decided_on"], "finalist": said["finalist"] or "none"}
    if (run.path / "pareto.csv").exists():
        trials = pd.read_csv(run.path / "trials.csv", usecols=["stage", "state", "state_reason"])
        searched = trials[trials["stage"] == "search"]
        taken = int(searched["state_reason"].astype(str).str.startswith("taken over").sum())
        facts["search"] = f"{len(searched) - taken} trials trained, {taken} taken over"
        front = pd.read_csv(run.path / "pareto.csv")
        if len(front):
            best = number(front["ndcg_gain"].max(), "ndcg_gain")
            facts["front"] = f"{len(front)} trials, best gain {best} on validation"
    states = [gate["status"] for gate in json.loads((run.path / "decision.json").read_text())["gates"]]
    counted = [state for state in states if state != "not applicable"]
    facts["gates"] = f"{counted.count('pass')} of {len(counted)} passed"
    page = "report.html" if (run.path / "report.html").exists() else "decision.md"
    return said | {"facts": facts, "colour": VERDICT_COLOURS[said["verdict"]], "page": page}


def _sentences(decision: dict[str, Any]) -> list[str]:
    """Why, for the first screen: one sentence a phase, and what stopped or holds it."""
    own = [f"{said['phase']} said {VERDICT_WORDS[said['verdict']]}" for said in decision["phases"]]
    more = [f"{reason[:1].upper()}{reason[1:]}." for reason in decision["reasons"][len(decision["phases"]) :]]
    first = ", ".join(own)
    return [f"{first[:1].upper()}{first[1:]}." if own else "No phase has ended.", *more]
