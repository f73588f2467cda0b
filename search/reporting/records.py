"""Everything that a run folder holds, read back: each table or None where the run did not come that far."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from fusion_models.config import Recipe
from search.reporting.events import read_curves
from search.run_store.folder import RunFolder, RunFolderError, phase_of, read_json
from search.run_store.job import Role, TrialRecord
from spaces import Phase

PLAIN = ("trial_id", "stage", "name", "state", "state_reason", "epochs", "seed", "seconds")
AUDIT = "audit"
"""What run.json calls the phase of an audit."""
OF_A_TRIAL = ("failure", "taken_over", "role", "modalities")
"""Columns of the trials table that are read as what they mean."""


@dataclass(frozen=True)
class RunRecord:
    """One run folder, as its tables tell it. Nothing here opens data or the journal."""

    folder: RunFolder
    run: dict[str, Any]
    trials: pd.DataFrame
    """Empty where nothing has ended yet."""
    pareto: pd.DataFrame
    confirmed: pd.DataFrame
    baselines: pd.DataFrame
    importances: pd.DataFrame
    agreement: pd.DataFrame
    examples: pd.DataFrame
    curves: pd.DataFrame
    """trial_id, epoch, name, value of every scalar that was written while it trained."""
    integrity: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Of phase 4, as `latency` and `rollout`."""
    latency: pd.DataFrame = field(default_factory=pd.DataFrame)
    rollout: dict[str, Any] | None = None
    ablations: dict[str, pd.DataFrame] = field(default_factory=dict)
    """File name -> table; the finalist's `ablation.csv` first."""
    decision: dict[str, Any] | None = None
    evidence: dict[str, Any] | None = None
    finalist: dict[str, Any] | None = None

    @property
    def path(self) -> Path:
        return self.folder.path

    @cached_property
    def phase(self) -> Phase:
        """The phase that was run, as run.json has it in full."""
        return phase_of(self.run)

    @cached_property
    def records(self) -> list[TrialRecord]:
        """The trials table as records."""
        rows = self.trials.to_dict("records")
        return [_record({str(k): v for k, v in row.items()}) for row in rows]

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.run.get("end") is not None

    @property
    def audited(self) -> bool:
        """Whether the ranker was given, and nothing was searched."""
        return self.run.get("phase") == AUDIT

    @property
    def subject(self) -> str:
        """What a caption calls the ranker that is judged."""
        return "V2" if self.audited else "the finalist"

    @property
    def modalities(self) -> tuple[str, ...]:
        """Of the finalist, in the order of its attention shares."""
        if self.finalist is None:
            return self.phase.base.model.modalities
        return Recipe.from_flat(self.finalist["recipe"]).model.modalities

    def trial(self, trial_id: str) -> TrialRecord:
        """One trial by its id; ValueError names near ones and how many there are."""
        import difflib

        known = {record.trial_id: record for record in self.records}
        if trial_id in known:
            return known[trial_id]
        near = difflib.get_close_matches(trial_id, list(known), n=4, cutoff=0.4) or list(known)[:4]
        said = f"it has {len(known)} trials, such as {', '.join(near)}" if known else "no trial has ended in it yet"
        raise ValueError(f"{self.path} has no trial {trial_id!r}: {said} (all of them are in trials.csv)")


def read_run(path: Path) -> RunRecord:
    """Read a run folder. Raises RunFolderError, naming the runs that are there, where `path` is none."""
    folder = RunFolder(path)
    run = folder.read()
    if run is None:
        raise RunFolderError(f"{path} holds no run (no run.json): {_what_is_there(path)}")
    ablations = sorted(path.glob("ablation*.csv"), key=lambda p: (len(p.name), p.name))
    return RunRecord(
        folder=folder,
        run=run,
        trials=read_parquet(path / "trials.parquet"),
        pareto=read_csv(path / "pareto.csv"),
        confirmed=read_csv(path / "confirmed.csv"),
        baselines=read_csv(path / "baselines.csv"),
        importances=read_csv(path / "importances.csv"),
        agreement=read_csv(path / "agreement.csv"),
        examples=read_parquet(path / "examples.parquet"),
        curves=read_curves(folder.tensorboard),
        integrity=read_csv(path / "integrity.csv"),
        latency=read_csv(path / "latency.csv"),
        rollout=_json(path / "rollout.json"),
        ablations={p.name: read_csv(p) for p in ablations},
        decision=_json(path / "decision.json"),
        evidence=_json(path / "evidence.json"),
        finalist=_json(path / "finalist.json"),
    )


def _record(row: dict[str, Any]) -> TrialRecord:
    numbers = {
        k: float(v)
        for k, v in row.items()
        if k not in (*PLAIN, *OF_A_TRIAL) and not k.startswith("config.") and isinstance(v, int | float) and v == v
    }
    recipe = {k.removeprefix("config."): v for k, v in row.items() if k.startswith("config.")}
    return TrialRecord(
        **{k: row[k] for k in PLAIN},
        numbers=numbers,
        recipe=recipe,
        role=Role(row["role"], tuple(filter(None, row["modalities"].split("+")))),
        failure=row["failure"] or None,
        taken_over=row["taken_over"] or None,
    )


def read_csv(path: Path) -> pd.DataFrame:
    """A CSV of a run; empty where there is none. Raises RunFolderError, naming it."""
    if not path.exists():
        return pd.DataFrame()
    try:
        with _whole(path):
            return pd.read_csv(path)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()


def read_parquet(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """A parquet of a run, or some columns of it; empty where there is none. Raises RunFolderError, naming it."""
    with _whole(path):
        return pd.read_parquet(path, columns=columns) if path.exists() else pd.DataFrame(columns=columns)


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[None]:
    """What a reader says against a table that is cut, damaged or no text, as a RunFolderError that names it."""
    try:
        yield
    except pd.errors.EmptyDataError:
        raise
    except (ValueError, OSError) as error:  # Arrow's too: of a damaged page it raises an OSError
        if isinstance(error, OSError) and error.filename is not None:
            raise
        said = " ".join(str(error).split())
        raise RunFolderError(f"{path} cannot be read ({said}): put back a whole copy of the run") from error


def _json(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    return read_json(path)


def _what_is_there(path: Path) -> str:
    for place in (path, path.parent):
        runs = sorted(p.parent.name for p in place.glob("*/run.json")) if place.is_dir() else []
        if runs:
            return f"{place} holds the runs {', '.join(runs)}"
    return f"give the folder of a run, such as results/phase3 ({path.parent} holds none)"
