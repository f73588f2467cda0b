"""A finished run's search goes on: more trials in its study, a new short list and finalist, one more counted look."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping

import optuna
from rich.console import Console

from fusion_models.config import Flat
from search.execution.cluster import ray_session
from search.options import RunOptions
from search.pipeline.confirmation.verdict import confirm_and_decide
from search.pipeline.context import Run
from search.pipeline.continuation.further import (
    NothingNewError,
    give_up,
    mirrored_once_begun,
    nothing_new,
    taken_already,
)
from search.pipeline.continuation.kept import (
    ASKS,
    EXTEND,
    JUDGED_TRIALS,
    MACHINE,
    UNDER_WAY,
    begin_verdict,
    begun_before,
    end_verdict,
    require_unchanged,
)
from search.pipeline.continuation.reopen import facts_of, reopen, stays_on_front
from search.pipeline.continuation.resuming import require_no_more_trials
from search.pipeline.continuation.same_inputs import given_data
from search.pipeline.continuation.warm_start import warm_recipes
from search.pipeline.search_step import search, write_front
from search.pipeline.summary import print_verdict
from search.pipeline.trainer import TrainerOfEnded
from search.reporting import build_report, read_run
from search.run_store.folder import RunFolder, RunFolderError
from search.run_store.journal import open_journal
from search.run_store.looks import require_looks
from search.run_store.mirror import Mirror
from search.study.stages import SEARCH, TAKEN_OVER, refused

FLAG = EXTEND
OF_NOW = (*MACHINE, "trials", "confirm_seeds", "max_seeds", "ablation", "warm_from")
"""Options of the extension; every other one is the run's."""


def extend_phase(folder: RunFolder, options: RunOptions, console: Console, mirror: Mirror | None = None) -> RunFolder:
    """Search on in a finished run until its study has `options.trials` trials, and decide anew.

    Every training of before stands, and so does the verdict: it is kept in verdicts/NUMBER. The new short list is of
    the whole front, its finalist is chosen on validation again, and the look at the deciding split is counted, so its
    intervals are wider than the first's. Interrupted, the same command goes on. Where the finalist is the one of before
    and nothing that decides was trained, no look is taken, and the verdict that stands stays.

    Raises RunFolderError where there is no finished run, it is a phase of a roadmap, it has as many trials already, or
    an option that made it is another one now.
    """
    if not folder.finished():
        raise RunFolderError(f"{folder.path} holds no finished run to extend: end it first (--resume)")
    if (folder.read() or {}).get("roadmap"):
        raise RunFolderError(
            f"{folder.path} is a phase of a roadmap, whose later phases stand on its verdict: start a run of its own "
            f"with --warm-from {folder.path}"
        )
    require_unchanged(folder, options, (*OF_NOW, *ASKS))
    assert options.trials is not None  # RunOptions asks for it
    if taken_already(folder, FLAG, console, mirror):
        return folder
    there = _require_begun_or_more(folder, options)
    began = time.monotonic()
    warm = warm_recipes(options.warm_from) if options.warm_from is not None else {}
    require_looks(folder)
    run = _reopened(folder, options, console, mirror)
    with ray_session(run.options):  # a Ray that does not come up leaves no verdict that was begun
        return _extended(dataclasses.replace(run, began=began), warm, console, mirror, there)


def _extended(
    run: Run, warm: Mapping[str, Flat], console: Console, mirror: Mirror | None, there: int | None
) -> RunFolder:
    """`there`: trials that the search of the verdict before had, where that is known."""
    folder, trials = run.store.folder, run.options.trials
    begun = begin_verdict(folder, FLAG, trials=trials, there=there)
    run = dataclasses.replace(run, verdict=begun.number)
    console.print(f"{folder.path}: verdict {run.verdict}, after {trials} trials", highlight=False)
    tracking = run.trainer.tracking
    with mirrored_once_begun(folder, begun, mirror, console, trials=there), tracking.stopped_by_errors():
        try:
            with ray_session(run.options), run.trainer.tuning():
                confirmed = confirm_and_decide(run, *search(run, warm))
        except NothingNewError as error:
            run.trainer.write_tables()
            nothing_new(run, error)
            return folder
        except BaseException as error:  # Ctrl-C too: what has finished is in the tables
            run.trainer.write_what_finished()
            if isinstance(error, ValueError):  # in what was asked, which may be asked otherwise
                give_up(folder, trials=there)
            raise
        write_front(run)
        end_verdict(folder, trials=trials)
        build_report(folder, console)
        tracking.end()
        print_verdict(run, confirmed)
    return folder


def _require_begun_or_more(folder: RunFolder, options: RunOptions) -> int | None:
    """How many trials the search of the verdict before had; None where one that was begun before does not say.

    Raises RunFolderError where no more are asked for.
    """
    trials, described = int(options.trials or 0), folder.read() or {}
    if begun_before(folder, FLAG):
        begun = described[UNDER_WAY]
        planned, verdict = int(begun.get("trials", trials)), int(begun["number"])
        require_no_more_trials(folder, options, planned=planned, verdict=verdict)
        return int(begun["there"]) if begun.get("there") is not None else None
    return _require_more(folder, trials, described.get(JUDGED_TRIALS))


def _require_more(folder: RunFolder, trials: int, judged: int | None) -> int:
    study = optuna.load_study(study_name=SEARCH, storage=open_journal(folder.journal))
    handed_out = [t for t in study.get_trials(deepcopy=False) if "job" in t.user_attrs and not refused(t)]
    there = sum(TAKEN_OVER not in t.user_attrs for t in handed_out) if judged is None else judged
    if trials <= there:
        raise RunFolderError(
            f"{folder.path} has {there} trials already, and --trials says how many in all: give more than {there}"
        )
    return there


def _reopened(folder: RunFolder, options: RunOptions, console: Console, mirror: Mirror | None) -> Run:
    """The run as it was, with the trials, budget, seeds and machine of now."""
    record = read_run(folder.path)
    was = reopen(record, console, given_data(options))
    anew = {name: getattr(options, name) for name in OF_NOW}
    anew |= {"facts": facts_of(record, options), "resume": begun_before(folder, FLAG)}
    asked = dataclasses.replace(was.options, **anew)
    store = dataclasses.replace(was.store, mirror=mirror)
    trainer = TrainerOfEnded(store, was.phase, was.data, asked, console, p_on_front=stays_on_front(record))
    return dataclasses.replace(was, options=asked, store=store, trainer=trainer, chooses_anew=True)
