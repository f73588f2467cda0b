"""The tables of a run folder, made anew from the journal: trials.parquet, trials.csv and pareto.csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from fusion_models.files import whole
from search.analysis.front import gates_passed, pareto_front
from search.run_store.csv_tables import write_csv
from search.run_store.folder import RunFolder
from search.run_store.job import TrialRecord
from spaces import Phase


def pareto_numbers(modalities: Sequence[str]) -> tuple[str, ...]:
    """The columns of pareto.csv that are measured, of a dataset of these modalities."""
    return (
        "ndcg",
        "ndcg_gain",
        "ndcg_gain_ci_low",
        "ndcg_gain_ci_high",
        *(f"{m}_masking_drop" for m in modalities),
        *(f"attention_{m}" for m in modalities),
        "attention_max_share",
        "attention_balance",
        "v1_correlation",
        "v1_kendall",
        "top1_stability",
        "latency_p95_ms",
        "parameters",
    )


def trials_table(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """One row a trial of every stage: what it was, how it ended, what it measured, what it was made of."""
    rows = []
    for record in records:
        row: dict[str, Any] = {
            "trial_id": record.trial_id,
            "stage": record.stage,
            "name": record.name,
            "state": record.state,
            "state_reason": record.state_reason,
            "failure": record.failure or "",
            "taken_over": record.taken_over or "",
            "role": record.role.kind,
            "modalities": "+".join(record.role.modalities),
            "epochs": record.epochs,
            "seed": record.seed,
            "seconds": record.seconds,
        }
        rows.append(row | record.numbers | {f"config.{key}": value for key, value in record.recipe.items()})
    table = pd.DataFrame(rows)
    return table[sorted(table.columns, key=lambda c: str(c).startswith("config."))] if rows else table


def pareto_table(
    phase: Phase, records: Sequence[TrialRecord], stays: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """The front, best first, in the column order that results/README.md promises; `stays` is p_on_front by trial.

    Objectives that are not among its numbers follow them.
    """
    known = pareto_numbers(phase.base.model.of_dataset)
    rows, numbers = [], tuple(dict.fromkeys((*known, *(o.name for o in phase.objectives))))
    for rank, record in enumerate(pareto_front(phase, records), start=1):
        passed, total = gates_passed(phase, record)
        row: dict[str, Any] = {
            "trial_id": record.trial_id,
            "rank": rank,
            "p_on_front": (stays or {}).get(record.trial_id),
        }
        row |= {name: record.numbers.get(name) for name in numbers}
        row["parameters"] = int(record.numbers["parameters"])
        row |= {"epochs": record.epochs, "gates_passed": passed, "gates_total": total}
        row["checkpoint"] = f"checkpoints/{record.trial_id}"
        rows.append(row | {f"config.{key}": record.recipe[key] for key in phase.ranges})
    names = ["trial_id", "rank", "p_on_front", *numbers, "epochs", "gates_passed", "gates_total", "checkpoint"]
    return pd.DataFrame(rows, columns=[*names, *(f"config.{key}" for key in phase.ranges)])


def write_tables(
    folder: RunFolder, phase: Phase, records: Sequence[TrialRecord], stays: Mapping[str, float] | None = None
) -> None:
    """Write the three tables, each whole or not at all; no front where a phase searches nothing."""
    trials = trials_table(records)
    with whole(folder.path / "trials.parquet") as staging:
        trials.to_parquet(staging, index=False)
    write_csv(trials, folder, "trials.csv")
    if not phase.trials:
        return
    searched = [record for record in records if record.stage == "search"]
    write_csv(pareto_table(phase, searched, stays), folder, "pareto.csv")
