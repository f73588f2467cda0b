"""The roadmap's page: its verdict, the phases in a row, and what links them. One file that opens offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from fusion_models.files import write_whole
from search.analysis.roadmap_decision import bound, side
from search.reporting.charts.standing import (
    NOT_APPLICABLE,
    VERDICT_COLOURS,
    VERDICT_WORDS,
    archived,
    gate_row,
    measurements,
    warnings,
)
from search.reporting.records import read_csv, read_parquet, read_run
from search.reporting.words import label, meaning, number, reading, unbroken
from search.run_store.folder import RunFolder, phase_of, read_json
from spaces import PHASE4, ROADMAP_STEPS, departures

NOT_RUN = "#5f6368"


def write_roadmap_report(folder: RunFolder) -> Path:
    """Write report.html of a roadmap from its folder's tables and its phases'. Raises ValueError where it has none."""
    source = folder.path / "decision.json"
    if not source.exists():
        raise ValueError(f"{folder.path} has no decision.json yet: end the roadmap with --resume first")
    decision = read_json(source)
    done = [_phase(folder, said) for said in decision["phases"]]
    left = [
        {"phase": n, "title": ROADMAP_STEPS[n].title, "verdict": "not run", "colour": NOT_RUN}
        for n in decision["not_run"]
    ]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("search.reporting"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"label": label, "number": number, "side": side, "bound": bound, "reading": reading}
    text = environment.get_template("roadmap.html.j2").render(
        name=folder.path.name,
        description=folder.read() or {},
        decision=decision,
        sentences=_sentences(folder, decision),
        warnings=_warnings(folder, decision),
        words=VERDICT_WORDS,
        phases=[{"fragile": False, "facts": None, **phase} for phase in (*done, *left)],
        look=next((said["look"] for said in reversed(decision["phases"]) if said.get("look")), ""),
        gates=[(gate["phase"], gate_row(gate)) for gate in decision["gates"] if gate["status"] != NOT_APPLICABLE],
        accent=VERDICT_COLOURS[decision["verdict"]],
    )
    path = folder.path / "report.html"
    write_whole(path, unbroken(text))
    folder.note_report()
    return path


def _phase(folder: RunFolder, said: dict[str, Any]) -> dict[str, Any]:
    run = RunFolder(folder.path / said["phase"])
    decided = ", ".join(filter(None, (said["decided_on"], said.get("look"))))
    facts = {"decided on": decided, "finalist": said["finalist"] or "none"}
    if (run.path / "pareto.csv").exists():
        trials = read_parquet(run.path / "trials.parquet", ["stage", "taken_over"])
        searched = trials[trials["stage"] == "search"]
        taken = int((searched["taken_over"] != "").sum())
        facts["search"] = f"{len(searched) - taken} trials trained, {taken} taken over"
        front = read_csv(run.path / "pareto.csv")
        if len(front):
            best = number(front["ndcg_gain"].max(), "ndcg_gain")
            count = f"{len(front)} trial{'s' if len(front) > 1 else ''}"
            facts["front"] = f"{count}, best gain {best} on validation"
    own = departures(phase_of(run.read() or {}))
    if own:
        facts["thresholds that are not the roadmap's"] = "; ".join(own)
    states = [gate["status"] for gate in read_json(run.path / "decision.json")["gates"]]
    counted = [state for state in states if state != "not applicable"]
    facts["gates"] = f"{counted.count('pass')} of {len(counted)} passed"
    page = "report.html" if (run.path / "report.html").exists() else "decision.md"
    return said | {"facts": facts, "colour": VERDICT_COLOURS[said["verdict"]], "page": page}


def _warnings(folder: RunFolder, decision: dict[str, Any]) -> list[str]:
    """What the last phase's first screen says whatever the verdict."""
    phases = decision["phases"]
    return warnings(read_run(folder.path / phases[-1]["phase"])) if phases else []


def _sentences(folder: RunFolder, decision: dict[str, Any]) -> list[str]:
    """Why, for the first screen: what the phases said, what the last finalist is worth, and what else holds it."""
    phases = decision["phases"]
    if not phases:
        return ["No phase has ended."]
    verdicts = dict.fromkeys(said["verdict"] for said in phases)
    parts = [
        f"{_listed([said['phase'] for said in phases if said['verdict'] == verdict])} said {VERDICT_WORDS[verdict]}"
        for verdict in verdicts
    ]
    out = [f"{', '.join(parts)}."]
    last = read_run(folder.path / phases[-1]["phase"])
    out += measurements(last)  # without the count of gates, which stand below
    if decision["verdict"] == "ARCHIVE":
        out.append(archived(last.decision or decision))
    out.append(meaning(decision["verdict"], PHASE4.name))
    reasons = [reading(reason) for reason in decision["reasons"][len(phases) :]]
    return [*filter(None, out), *(f"{reason[:1].upper()}{reason[1:]}." for reason in reasons)]


def _listed(names: Sequence[str]) -> str:
    """`Phase 3`, `Phases 1, 2 and 4`."""
    numbers = [name.removeprefix("phase") for name in names]
    if len(numbers) == 1:
        return f"Phase {numbers[0]}"
    return f"Phases {', '.join(numbers[:-1])} and {numbers[-1]}"
