"""A run that has ended, opened again to train something more in its folder."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from fusion_models.config import Flat, Recipe
from search.execution.cluster import ray_session
from search.execution.interrupts import heard_interrupts
from search.options import RunOptions, can_track
from search.pipeline.ablation import STAGE as ABLATION
from search.pipeline.ablation import Intact, ablate
from search.pipeline.confirmation.arms import STAGE as DECIDING
from search.pipeline.confirmation.arms import ArmKey
from search.pipeline.confirmation.arms import trial_id as arm_trial
from search.pipeline.confirmation.finalist import Finalist, read_finalist
from search.pipeline.confirmation.judged_short_list import CONFIRM
from search.pipeline.context import Run
from search.pipeline.continuation.resuming import own_facts
from search.pipeline.continuation.same_inputs import described_model, open_again, require_same_model
from search.pipeline.store import RunStore
from search.pipeline.trainer import Trainer
from search.run_store.job import Job, Role
from search.run_store.journal import open_journal
from search.run_store.looks import DECIDING_SPLIT
from search.run_store.records import journal_records
from search.study.seeds import MOST_ON_SHORT_LIST, SHORT_LIST_SEEDS
from search.study.stages import FixedStage

if TYPE_CHECKING:
    from search.reporting import RunRecord

VALIDATION = "validation"
FEWEST_SEEDS = 2


NO_LONGER: dict[str, Any] = {"resume": False, "fresh": False, "time_budget": None, "phase_file": None, "facts": None}
"""Options that asked something of the run as it was made, or name a file that it has read."""


def reopen(record: RunRecord, console: Console, moved: str | None = None) -> Run:
    """The run behind a folder's tables, with its options, phase, data and journal; `moved`: where its data lie now.

    Its facts are left out (`facts_of`), and a tracker that this machine lacks: what is trained needs neither.

    Raises ValueError where it has no journal, or its data or the source of a module of one's own have changed.
    """
    folder = record.folder
    if not folder.journal.exists():
        raise ValueError(f"{folder.path} has no study.journal, so nothing more can be trained in it")
    known = {field.name for field in dataclasses.fields(RunOptions)}
    said: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in record.run["options"].items() if k in known
    }
    data = open_again(folder, moved).measured_by(record.phase.metric)
    said |= {"data": (folder.read() or {})["options"]["data"]}
    options = RunOptions(**(said | NO_LONGER | {"track": said.get("track") if can_track(said.get("track")) else None}))
    require_same_model(folder, record.run, described_model(record.phase.base.model.variant))
    store = RunStore(folder=folder, journal=open_journal(folder.journal))
    return Run(
        options=options,
        phase=record.phase,
        data=data,
        store=store,
        trainer=Trainer(store, record.phase, data, options, console, p_on_front=stays_on_front(record)),
        console=console,
        deciding=(record.run.get("roadmap") or {}).get("decides_on", DECIDING_SPLIT),
    )


def facts_of(record: RunRecord, options: RunOptions) -> str | None:
    """The file of facts of a further verdict: the one given now, else the run's own.

    Raises ValueError where that is gone.
    """
    return own_facts(record.folder, options)


def stays_on_front(record: RunRecord) -> dict[str, float] | None:
    """How surely each trial is on the front, as the run's pareto.csv says it."""
    if not len(record.pareto):
        return None
    return {str(t): float(p) for t, p in record.pareto.set_index("trial_id")["p_on_front"].items()}


def ablate_trial(record: RunRecord, trial_id: str, console: Console, moved: str | None = None) -> None:
    """Ablate any trial of a run: the finalist on the deciding split, which is open, any other on the validation split.

    The intact recipe is trained with the same fresh seeds where confirmation has not done so. Raises ValueError for an
    unknown trial (naming near ones), or a recipe that cannot be trained.
    """
    trial = record.trial(trial_id)
    run = reopen(record, console, moved)
    finalist = read_finalist(run.folder)
    if finalist is not None and (finalist.trial_id != trial_id or record.evidence is None):
        finalist = None
    with heard_interrupts(), ray_session(run.options), run.trainer.tuning():
        intact = _deciding(run, finalist) if finalist is not None else _retrained(run, trial_id, trial.recipe)
        table = ablate(run, intact, split=run.deciding if finalist is not None else VALIDATION)
    said = f"{table['removed'].nunique()} variations" if len(table) else "no component that could be taken out"
    console.print(f"{trial_id}: {said}", highlight=False)


def _deciding(run: Run, finalist: Finalist) -> Intact:
    """The finalist as it was judged: of its own arm, for the base recipe's has the same recipe and seeds where it is
    that one."""
    records = {r.trial_id: r for r in journal_records(run.store.journal) if r.stage == DECIDING}
    whole = ArmKey("finalist", Recipe.from_flat(finalist.recipe).model.modalities)
    ids = (arm_trial(whole, index, finalist.arms) for index in itertools.count())
    kept = [records[t] for t in itertools.takewhile(records.__contains__, ids) if records[t].finished]
    items: Literal["all", "without cold"] = "without cold" if any(r.items != "all" for r in kept) else "all"
    trainings = tuple(r.trial_id for r in kept)
    return Intact(trial_id=finalist.trial_id, recipe=finalist.recipe, trainings=trainings, items=items)


def _retrained(run: Run, trial_id: str, recipe: Flat) -> Intact:
    """Any other trial, as the short list trained it, or trained now."""
    kept = [r for r in journal_records(run.store.journal) if r.stage == CONFIRM and r.name == trial_id and r.finished]
    if len(kept) < FEWEST_SEEDS:
        jobs = [
            Job(
                trial_id=f"ablate-{trial_id}-intact-s{index}",
                name=f"{trial_id} intact",
                recipe=recipe,
                seed=SHORT_LIST_SEEDS + index,
                role=Role("ablation"),
            )
            for index in range(MOST_ON_SHORT_LIST)
        ]
        stage = FixedStage(run.store.journal, ABLATION, jobs, again=True)
        run.trainer.train([stage])
        wanted = {job.trial_id for job in jobs}
        kept = [r for r in stage.records() if r.trial_id in wanted and r.finished]
    if len(kept) < FEWEST_SEEDS:
        raise ValueError(f"{trial_id} could not be trained again with {FEWEST_SEEDS} seeds; trials.csv says why")
    return Intact(trial_id=trial_id, recipe=recipe, trainings=tuple(r.trial_id for r in kept))
