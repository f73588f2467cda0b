"""A run that has ended, opened again to train something more in its folder."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from rich.console import Console

from fusion_models.data import open_dataset
from search.analysis.tables import write_tables
from search.execution.cluster import ray_session
from search.options import RunOptions
from search.pipeline.ablation import ablate
from search.pipeline.confirmation.short_list import FRESH_SEEDS, Candidate
from search.pipeline.context import Run
from search.run_store.job import Job
from search.run_store.journal import open_journal
from search.run_store.records import journal_records
from search.study.stages import FixedStage

if TYPE_CHECKING:
    from search.reporting import RunRecord

VALIDATION = "validation"
FEWEST_SEEDS = 2


def reopen(record: RunRecord, console: Console) -> Run:
    """The run behind a folder's tables, with its options, phase, data and journal.

    Raises ValueError where it has no journal, or its data have changed.
    """
    folder = record.folder
    if not folder.journal.exists():
        raise ValueError(f"{folder.path} has no study.journal, so nothing more can be trained in it")
    known = {field.name for field in dataclasses.fields(RunOptions)}
    said: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in record.run["options"].items() if k in known
    }
    options = RunOptions(**(said | {"resume": False, "fresh": False, "time_budget": None}))
    data = open_dataset(record.run["data"])
    if data.fingerprint != record.run["fingerprint"]:
        raise ValueError(f"{options.data} holds other data than when {folder.path} was run")
    run = Run(options, console, record.phase, data, folder, open_journal(folder.journal))
    run.deciding = (record.run.get("roadmap") or {}).get("decides_on", run.deciding)
    if len(record.pareto):
        run.p_on_front = {str(t): float(p) for t, p in record.pareto.set_index("trial_id")["p_on_front"].items()}
    return run


def ablate_trial(record: RunRecord, trial_id: str, console: Console) -> None:
    """Ablate any trial of a run: the finalist on the test split, which is open, any other on the validation split.

    The intact recipe is trained with the same fresh seeds where confirmation has not done so. Raises ValueError for an
    unknown trial (naming near ones), or a recipe that cannot be trained.
    """
    trial = record.trial(trial_id)
    run = reopen(record, console)
    finalist = record.finalist is not None and record.finalist["trial_id"] == trial_id and record.evidence is not None
    seeds = max(FEWEST_SEEDS, run.options.seeds(run.phase))
    with ray_session(run.options), run.tuning():
        kept = [r for r in journal_records(run.storage) if r.stage == "confirm" and r.name == trial_id and r.finished]
        if len(kept) < FEWEST_SEEDS:
            jobs = [
                Job(
                    trial_id=f"ablate-{trial_id}-intact-s{seed}",
                    name=f"{trial_id} intact",
                    recipe=trial.recipe,
                    seed=FRESH_SEEDS + seed,
                )
                for seed in range(seeds)
            ]
            stage = FixedStage(run.storage, "ablation", jobs)
            run.train([stage])
            wanted = {job.trial_id for job in jobs}
            kept = [r for r in stage.records() if r.trial_id in wanted and r.finished]
        if len(kept) < FEWEST_SEEDS:
            raise ValueError(f"{trial_id} could not be trained again with {FEWEST_SEEDS} seeds; trials.csv says why")
        trainings = tuple(r.trial_id for r in kept)
        candidate = Candidate(trial_id=trial_id, recipe=trial.recipe, trainings=trainings)
        table = ablate(run, candidate, split=run.deciding if finalist else VALIDATION)
    write_tables(record.folder, record.phase, journal_records(run.storage), run.p_on_front)
    said = f"{table['removed'].nunique()} variations" if len(table) else "no component that could be taken out"
    console.print(f"{trial_id}: {said}", highlight=False)
