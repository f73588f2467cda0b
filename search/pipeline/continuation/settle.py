"""A further verdict of a finished run: its fixed finalist, more trainings of the arms that are open, one more look."""

from __future__ import annotations

import dataclasses
import time

from rich.console import Console

from fusion_models.config import Recipe
from search.execution.cluster import ray_session
from search.options import RunOptions
from search.pipeline.baselines import STAGE as BASELINES
from search.pipeline.baselines import reference_rankers, replace_failed_singles, single_modality_jobs, tune_sums
from search.pipeline.confirmation.arms import STAGE as DECIDING
from search.pipeline.confirmation.arms import plan_arms
from search.pipeline.confirmation.deciding import planned_before
from search.pipeline.confirmation.finalist import read_finalist
from search.pipeline.confirmation.verdict import confirm_and_decide
from search.pipeline.context import Run
from search.pipeline.continuation.further import (
    NothingNewError,
    give_up,
    mirrored_once_begun,
    nothing_new,
    taken_already,
)
from search.pipeline.continuation.kept import ASKS, MACHINE, begin_verdict, begun_before, end_verdict, require_unchanged
from search.pipeline.continuation.reopen import facts_of, reopen, stays_on_front
from search.pipeline.continuation.same_inputs import given_data
from search.pipeline.summary import print_verdict
from search.pipeline.trainer import TrainerOfEnded
from search.reporting import build_report, read_run
from search.run_store.folder import RunFolder, RunFolderError
from search.run_store.looks import require_looks
from search.run_store.mirror import Mirror
from search.study.stages import FixedStage, planned_jobs

FLAG = "--settle"
HOW_FAR = ("max_seeds", "ablation")
"""Options that the settling has of its own."""
MOST = 20
"""Trainings of an arm at the most, unless --max-seeds says otherwise."""


def settle_phase(folder: RunFolder, options: RunOptions, console: Console, mirror: Mirror | None = None) -> RunFolder:
    """Give a finished run more trainings where its verdict hangs, and look at its deciding split once more.

    The finalist, its members and every training of before stand. The look is counted, so its intervals are wider than
    the first's at the same number of trainings. Interrupted, the same command goes on.

    Without a training more than the verdict that stands had, no look is taken, and that one stays.

    Raises RunFolderError where the run has not ended, is a phase of a roadmap, has no finalist, or no arm may get more
    trainings.
    """
    if not folder.finished():
        raise RunFolderError(f"{folder.path} holds no finished run to settle: end it first (--resume)")
    if (folder.read() or {}).get("roadmap"):
        raise RunFolderError(
            f"{folder.path} is a phase of a roadmap, whose later phases stand on its verdict: run {options.phase} by "
            "itself into another --results, and settle that"
        )
    if read_finalist(folder) is None:
        raise RunFolderError(f"{folder.path} has no finalist, so there is nothing to settle (--confirm-seeds 0?)")
    require_unchanged(folder, options, (*MACHINE, *ASKS, *HOW_FAR))
    if taken_already(folder, FLAG, console, mirror):
        return folder
    began, begun = time.monotonic(), begun_before(folder, FLAG)
    require_looks(folder)
    run = _reopened(folder, options, console, mirror, began)
    if not begun:
        _require_room(run)
    with ray_session(run.options):  # a Ray that does not come up leaves no verdict that was begun
        return _settled(run, folder, console, mirror)


def _settled(run: Run, folder: RunFolder, console: Console, mirror: Mirror | None) -> RunFolder:
    begun = begin_verdict(folder, FLAG)
    run = dataclasses.replace(run, verdict=begun.number)
    console.print(f"{folder.path}: verdict {begun.number}, of the same finalist", highlight=False)
    with mirrored_once_begun(folder, begun, mirror, console), run.trainer.tracking.stopped_by_errors():
        try:
            with ray_session(run.options), run.trainer.tuning():
                jobs = single_modality_jobs(run.phase, run.options.seed)  # all of them done, but for runs of before
                run.trainer.train([FixedStage(run.store.journal, BASELINES, jobs)])
                replace_failed_singles(run)
                tuned = tune_sums(run)
                confirmed = confirm_and_decide(run, tuned, reference_rankers(run, "validation", tuned))
        except NothingNewError as error:
            run.trainer.write_tables()
            nothing_new(run, error)
            return folder
        except BaseException as error:  # Ctrl-C too: what has finished is in the tables
            run.trainer.write_what_finished()
            if isinstance(error, ValueError):  # in what was asked, which may be asked otherwise
                give_up(folder)
            raise
        end_verdict(folder)
        build_report(folder, console)
        run.trainer.tracking.end()
        print_verdict(run, confirmed)
    return folder


def _require_room(run: Run) -> None:
    """Raises RunFolderError where no arm may get more trainings than it has."""
    finalist, most = read_finalist(run.folder), run.options.max_seeds
    assert finalist is not None
    assert most is not None
    recipe = Recipe.from_flat(finalist.recipe)
    plan = plan_arms(run.phase, recipe, is_base=finalist.is_base, arms=finalist.arms)
    known = {job.trial_id for job in planned_jobs(run.store.journal, DECIDING)}
    fewest = min((n for key in plan.recipes if (n := planned_before(plan, key, known))), default=0)
    if 0 < most <= fewest:
        raise RunFolderError(
            f"{run.folder.path}: every arm has {fewest} trainings or more: give --max-seeds above {fewest}"
        )


def _reopened(folder: RunFolder, options: RunOptions, console: Console, mirror: Mirror | None, began: float) -> Run:
    """The run as it was, with the budget, seeds and machine of now."""
    record = read_run(folder.path)
    was = reopen(record, console, given_data(options))
    anew = {name: getattr(options, name) for name in MACHINE}
    most = options.max_seeds or MOST
    anew |= {"facts": facts_of(record, options), "max_seeds": most}
    asked = dataclasses.replace(was.options, **anew, confirm_seeds=None, ablation=False)
    store = dataclasses.replace(was.store, mirror=mirror)
    trainer = TrainerOfEnded(store, was.phase, was.data, asked, console, p_on_front=stays_on_front(record))
    return dataclasses.replace(was, options=asked, store=store, trainer=trainer, began=began)
