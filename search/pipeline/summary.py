"""What a run prints at its end: where everybody stands, the verdict, and the files."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from search.analysis.decision import Decision
from search.analysis.front import gates_passed, hypervolume, pareto_front
from search.analysis.measure import mean_ndcg
from search.monitoring.progress import clock
from search.pipeline.confirmation.verdict import Confirmed
from search.pipeline.context import Run
from search.reporting.terminal import Column, Row, print_table, say
from search.reporting.words import (
    SHORT_RANKERS,
    bounds,
    is_yes_or_no,
    meaning,
    measured,
    modality_name,
    short_gate,
    short_ranker,
    wanted,
)
from search.run_store.job import TrialRecord
from search.run_store.looks import SPLIT_NAMES
from spaces import Phase

SHOWN = 5
"""Front trials in the printed table; all of them are in pareto.csv."""
FILES = ("report.html", "decision.md", "confirmed.csv", "pareto.csv", "trials.csv", "baselines.csv", "tensorboard")
STYLES = {"GO": "bold green", "PAUSE_AND_FIX": "bold yellow", "ARCHIVE": "bold red"}
GATES = (
    Column(name="gate"),
    Column(name="measured", right=True, short="is"),
    Column(name="interval", right=True),
    Column(name="threshold", right=True, short="wanted"),
    Column(name="status"),
    Column(name="what would settle it, what was read", short=None),
)


def ranker_columns(phase: Phase) -> tuple[Column, ...]:
    """Columns of the table of rankers."""
    return (
        Column(name="ranker"),
        Column(name=phase.metric.name, right=True, short=phase.metric.word),
        Column(name="gain over V1", right=True, short="gain"),
        Column(name="CI95", right=True),
        Column(name=f"{phase.suspect} drop", right=True, short="drop"),
        Column(name="max share", right=True, short=None),
        Column(name="V1 corr.", right=True, short=None),
        Column(name="gates", right=True),
    )


def print_validation(run: Run, references: pd.DataFrame) -> None:
    """Where V1, the baselines, the base recipe and the best fusions stand on the validation split."""
    print_rankers(run.console, run.phase, run.trainer.records("search"), references)


def print_rankers(console: Console, phase: Phase, searched: list[TrialRecord], references: pd.DataFrame) -> None:
    """References (rows of baselines.csv), the base recipe and the first trials of the front; how the trials ended."""
    front = pareto_front(phase, searched)
    rows = [_reference_row(row, phase.metric.name) for row in references.to_dict("records")]
    base = [r for r in searched if r.name == "base" and r.finished and r not in front[:SHOWN]]
    best = front[0] if front else None
    rows += [_trial_row(phase, record, best=record is best) for record in [*base, *front[:SHOWN]]]
    title = f"{phase.name}: {phase.title} (validation split)"
    word = modality_name(phase.suspect)
    legend = [f"drop: {phase.metric.word} lost when the {word} is blanked; gates: met, of those that steer the search"]
    print_table(console, title, ranker_columns(phase), rows, legend)
    states = pd.Series(["out of memory" if r.out_of_memory else r.state for r in searched], dtype="str").value_counts()
    counted = ", ".join(f"{count} {state}" for state, count in states.items())
    say(console, f"{counted}; front of {len(front)}, hypervolume {hypervolume(phase, searched):.3f}")


def print_verdict(run: Run, confirmed: Confirmed) -> None:
    """The verdict with every gate, and the paths of the files."""
    decision = confirmed.decision
    if confirmed.references and confirmed.evidence is not None:
        ndcg = confirmed.evidence.quantities["ndcg"]
        others = [r for r in confirmed.references if r.measured]
        told = [f"{short_ranker(r.role, r.name)} {mean_ndcg(r.outputs):.4f}" for r in others]
        base = confirmed.base_ndcg
        said = ", ".join([*told, *([f"{SHORT_RANKERS['base']} {base:.4f}"] if base is not None else [])])
        ranker = f"finalist {decision.finalist} ({confirmed.evidence.members} trainings averaged)"
        say(run.console, f"{run.phase.metric.name}, {SPLIT_NAMES[run.deciding]}: {ranker} {ndcg.mean:.4f}; {said}")
    print_decision(run, decision, FILES, looked=confirmed.look.said() if confirmed.look else "")


def print_decision(run: Run, decision: Decision, files: Sequence[str], *, looked: str = "") -> None:
    """Every gate, the verdict and why, and the paths of those files that are there."""
    where = ", ".join(filter(None, [SPLIT_NAMES[run.deciding], looked]))
    print_gates(run.console, decision, where, meaning(decision.verdict, run.phase.name))
    say(run.console, f"{clock(time.monotonic() - run.began)}; files:")
    for path in (run.folder.path / name for name in files):
        if path.exists():
            run.console.print(f"  {path}", highlight=False, markup=False, emoji=False, soft_wrap=True)


def print_gates(console: Console, decision: Decision, where: str, meant: str = "") -> None:
    """Every gate that applies, the verdict, warnings and reasons.

    `where`: on which split, at which look; `meant`: what the verdict means there.
    """
    found = [asdict(gate) for gate in decision.gates]
    counted = [gate for gate in found if gate["status"] != "not applicable"]
    legend = ["what an open gate needs, and what was read: decision.md"]
    print_table(console, f"gates ({where})", GATES, [_gate_row(gate) for gate in counted], legend)
    left = [short_gate(gate) for gate in found if gate["status"] == "not applicable"]
    if left:
        say(console, f"not applicable here: {', '.join(left)}")
    verdict = decision.verdict + (" (fragile, not fused)" if decision.fragile else "")
    say(console, verdict, style=STYLES[decision.verdict])
    if meant:
        say(console, f"  {meant}")
    for warning in decision.warnings:
        say(console, f"  {warning}", style="bold")
    for reason in decision.reasons:
        say(console, f"  {reason}")


def _reference_row(row: Mapping[Any, Any], metric: str) -> Row:
    name = str(row["name"])
    if row["ndcg"] != row["ndcg"]:
        return Row(cells=(name, "not measured", "", "", "", "", "", ""), short={metric: "–"})
    cells = (name, f"{row['ndcg']:.4f}", f"{row['ndcg_gain']:+.4f}", _interval(row), "", "", "", "")
    return Row(cells=cells, short={"ranker": short_ranker(row["role"], name), "CI95": _interval(row, digits=3)})


def _trial_row(phase: Phase, record: TrialRecord, *, best: bool) -> Row:
    n = record.numbers
    passed, total = gates_passed(phase, record)
    cells = (
        f"{record.trial_id} {record.name} ({record.recipe['model.variant']})",
        _number(n, "ndcg", ".4f"),
        _number(n, "ndcg_gain", "+.4f"),
        _interval(n),
        _number(n, f"{phase.suspect}_masking_drop", ".3f"),
        _number(n, "attention_max_share", ".2f"),
        _number(n, "v1_correlation", ".3f"),
        f"{passed}/{total}",
    )
    name = SHORT_RANKERS["base"] if record.name == "base" else record.name
    short = {"ranker": f"{record.trial_id} {name}", "CI95": _interval(n, digits=3)}
    return Row(cells=cells, short=short, style="bold" if best else "")


def _gate_row(gate: Mapping[str, Any]) -> Row:
    said = "; ".join(filter(None, (gate["needed"], gate["note"])))
    known = np.isfinite(gate["value"])
    between = bounds(gate) if known or is_yes_or_no(gate) else "–"
    cells = (gate["name"], measured(gate), between, wanted(gate), gate["status"], said)
    return Row(cells=cells, short={"gate": short_gate(gate)})


def _number(numbers: Mapping[str, float], name: str, form: str) -> str:
    """A trial's number; one that is not finite is not among them."""
    return format(numbers[name], form) if name in numbers else "–"


def _interval(row: Any, digits: int = 4) -> str:
    low, high = row.get("ndcg_gain_ci_low", np.nan), row.get("ndcg_gain_ci_high", np.nan)
    return f"[{low:+.{digits}f}, {high:+.{digits}f}]" if np.isfinite(low + high) else "unbounded"
