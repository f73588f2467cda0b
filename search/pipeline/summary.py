"""What a run prints at its end: where everybody stands, the verdict, and the files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

from search.analysis.decision import Decision
from search.analysis.front import gates_passed, hypervolume, pareto_front
from search.monitoring.progress import clock
from search.pipeline.confirmation.verdict import Confirmed
from search.pipeline.context import Run
from search.run_store.looks import SPLIT_NAMES

SHOWN = 5
"""Front trials in the printed table; all of them are in pareto.csv."""
FILES = ("report.html", "decision.md", "confirmed.csv", "pareto.csv", "trials.csv", "baselines.csv", "tensorboard")
STYLES = {"GO": "bold green", "PAUSE_AND_FIX": "bold yellow", "ARCHIVE": "bold red"}


def print_validation(run: Run, references: pd.DataFrame) -> None:
    """Where V1, the baselines, the base recipe and the best fusions stand on the validation split."""
    searched = run.records("search")
    front = pareto_front(run.phase, searched)
    title = f"{run.phase.name}: {run.phase.title} (validation split)"
    table = Table(title=title, title_justify="left")
    for name in ("ranker", "nDCG@10", "gain over V1", "CI95", "visual drop", "max share", "V1 corr.", "gates"):
        table.add_column(name, justify="left" if name == "ranker" else "right")
    for row in references.to_dict("records"):
        table.add_row(row["name"], f"{row['ndcg']:.4f}", f"{row['ndcg_gain']:+.4f}", _interval(row), "", "", "", "")
    base = [r for r in searched if r.name == "base" and r.finished and r not in front[:SHOWN]]
    for record in [*base, *front[:SHOWN]]:
        n = record.numbers
        passed, total = gates_passed(run.phase, record)
        table.add_row(
            f"{record.trial_id} {record.name} ({record.recipe['model.variant']})",
            f"{n['ndcg']:.4f}",
            f"{n['ndcg_gain']:+.4f}",
            _interval(n),
            f"{n['visual_masking_drop']:.3f}",
            f"{n['attention_max_share']:.2f}",
            f"{n['v1_correlation']:.3f}",
            f"{passed}/{total}",
            style="bold" if record is front[0] else None,
        )
    run.console.print(table)
    states = pd.Series(["out of memory" if r.out_of_memory else r.state for r in searched], dtype="str").value_counts()
    run.console.print(
        f"{', '.join(f'{count} {state}' for state, count in states.items())}; front of {len(front)}, "
        f"hypervolume {hypervolume(run.phase, searched):.3f}",
        highlight=False,
    )


def print_verdict(run: Run, confirmed: Confirmed) -> None:
    """The verdict with every gate, and the paths of the files."""
    decision = confirmed.decision
    where = SPLIT_NAMES[run.deciding]
    if confirmed.baselines and confirmed.evidence is not None:
        ndcg = confirmed.evidence.quantities["ndcg"]
        said = ", ".join(f"{b.name} {np.nanmean(b.ndcg):.4f}" for b in confirmed.baselines)
        run.console.print(f"{where}: finalist {decision.finalist} {ndcg.mean:.4f}; {said}", highlight=False)
    print_decision(run, decision, FILES)


def print_decision(run: Run, decision: Decision, files: Sequence[str]) -> None:
    """Every gate, the verdict and why, and the paths of the files."""
    table = Table(title=f"gates ({SPLIT_NAMES[run.deciding]}, fresh seeds)", title_justify="left")
    for name in ("gate", "measured", "CI95", "threshold", "status"):
        table.add_column(name, justify="right" if name in ("measured", "CI95") else "left")
    for gate in decision.gates:
        known = np.isfinite(gate.value)
        table.add_row(
            gate.name,
            f"{gate.value:.4f}" if known else "–",
            f"[{gate.ci_low:.4f}, {gate.ci_high:.4f}]".replace("[", r"\[") if known else "–",
            f"{gate.direction} {gate.threshold:g}",
            gate.status + (f" ({gate.needed})" if gate.needed else ""),
        )
    run.console.print(table)
    verdict = decision.verdict + (" (fragile, not fused)" if decision.fragile else "")
    run.console.print(f"[{STYLES[decision.verdict]}]{verdict}[/]")
    for reason in decision.reasons:
        run.console.print(f"  {reason}", highlight=False, markup=False)
    run.console.print(f"{clock(time.monotonic() - run.began)}; files:", highlight=False)
    for name in files:
        run.console.print(f"  {run.folder.path / name}", highlight=False, soft_wrap=True)


def _interval(row: Any) -> str:
    low, high = row.get("ndcg_gain_ci_low", np.nan), row.get("ndcg_gain_ci_high", np.nan)
    return rf"\[{low:+.4f}, {high:+.4f}]" if np.isfinite(low + high) else "unbounded"
