"""The search of a phase: reference rankers and trials side by side, and what validation says of them."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence

from fusion_models.config import Flat
from fusion_models.data.clusters import query_clusters
from fusion_models.evaluation import split_lists
from fusion_models.metrics import WeightedSum
from search.analysis.front import pareto_front
from search.analysis.importances import write_importances
from search.analysis.replicates import p_on_front
from search.analysis.tables import write_tables
from search.execution.capacity import concurrency
from search.execution.file_transfer import TRAINING
from search.execution.searcher import Deadline
from search.options import RunOptions
from search.pipeline.baselines import STAGE as BASELINES
from search.pipeline.baselines import (
    Reference,
    ReferenceRole,
    reference_rankers,
    reference_table,
    replace_failed_singles,
    single_modality_jobs,
    tune_sums,
)
from search.pipeline.confirmation.finalist import standing_finalist
from search.pipeline.confirmation.unconfirmed import budget_for, seconds_to_search
from search.pipeline.context import Run
from search.pipeline.continuation.kept import kept_front
from search.pipeline.late import costs_itself
from search.pipeline.plan import print_plan
from search.pipeline.summary import print_validation
from search.run_store.artifacts import WEIGHTS
from search.run_store.csv_tables import write_csv
from search.study.search_stage import LAG, SearchStage, lag_of
from search.study.stages import FixedStage

LOOK_SECONDS = 5.0
"""Between two looks at how long trainings take."""


def _places(options: RunOptions) -> int | None:
    """How many trainings run at once; None on a cluster where nobody fixed it."""
    return concurrency(options) if options.address is None else options.max_concurrent


def search_lag(options: RunOptions, trials: int) -> int | None:
    """How many trials back a trial looks; None where none sees another and nobody fixed the trainings at once."""
    at_once = _places(options)
    if options.sampler == "random" and options.scheduler == "none":
        return LAG * at_once if at_once else None
    return lag_of(trials, at_once)


def search(run: Run, warm: Mapping[str, Flat]) -> tuple[dict[ReferenceRole, WeightedSum], list[Reference]]:
    """The reference rankers and the search, side by side, and what they gave on the validation split."""
    options, phase, journal = run.options, run.phase, run.store.journal
    baselines = FixedStage(journal, BASELINES, single_modality_jobs(phase, options.seed), earlier=run.earlier)
    count = options.trials or phase.trials
    trials = SearchStage(journal, phase, sampler=options.sampler, trials=count, seed=options.seed, earlier=run.earlier)
    trials.enqueue_warm(warm)
    trials.lag = search_lag(options, count)
    closed = standing_finalist(run.folder, run.verdict, chooses_anew=run.chooses_anew) is not None
    if closed:
        _close(run, trials)
    for note in trials.notes:
        run.console.print(f"earlier front: {note}", highlight=False)
    later = print_plan(run, [baselines, trials], concurrency(options), lag=trials.lag)
    run.trainer.train([baselines, trials], deadline=_search_deadline(run, later))
    replace_failed_singles(run)
    if not closed:
        _describe(run, trials)
        _sweep(run, trials.close("interrupted, and the time budget ended the search before it went on"))
    _require_references(run)
    tuned = tune_sums(run)
    references = reference_rankers(run, "validation", tuned)
    clusters = query_clusters(run.data, "validation")
    table = reference_table(references, clusters=clusters)
    write_csv(table, run.folder, "baselines.csv")
    print_validation(run, table)
    with costs_itself(run.console, "importances.csv", files=[run.folder.path / "importances.csv"]):
        write_importances(run.folder, phase, journal, seed=options.seed)
    _keep_front_weights(run)
    return tuned, references


def _close(run: Run, trials: SearchStage) -> None:
    """The finalist is fixed: what a search finds now could not be chosen, nor change its rivals."""
    planned = trials.total
    _sweep(run, trials.close("interrupted, and the finalist was fixed without it"))
    if trials.total < planned:
        said = f"the finalist is fixed, so the search stays at {trials.total} of {planned} trials"
        run.console.print(said, highlight=False)


def _sweep(run: Run, ended: Sequence[str]) -> None:
    """Delete the checkpoints from which these interrupted trainings would have gone on."""
    for trial_id in ended:
        shutil.rmtree(run.folder.checkpoints / trial_id / TRAINING, ignore_errors=True)
    if ended:
        run.trainer.write_tables()


def _describe(run: Run, trials: SearchStage) -> None:
    """Write into run.json how far the search came, and what its proposals hung on; say where the budget cut it."""
    begun, at_once = trials.total - trials.left, _places(run.options)
    fewest = None if trials.lag is None else -(-trials.lag // LAG)
    capped = fewest is not None and (at_once is None or at_once > fewest)
    at_once = fewest if at_once is not None and capped else at_once
    found = {"begun": begun, "planned": trials.total, "at_once": at_once, "or_more": capped}
    run.folder.write((run.folder.read() or {}) | {"search": found})
    if begun < trials.total:
        run.console.print(
            f"the time budget ended the search after {begun} of {trials.total} trials: the same command may end it "
            "elsewhere, and find another finalist"
        )


def _search_deadline(run: Run, later: float) -> Deadline | None:
    """When the search must end for the time budget to leave what follows it; half of the budget is its own anyhow.

    `later` seconds as planned, and as the search's own trainings have it once a few have finished.
    """
    budget, planned = run.options.budget_seconds, run.trainer.training_seconds
    if budget is None:
        return None
    known, looked = planned, -math.inf

    def deadline() -> float:
        nonlocal known, looked
        if time.monotonic() > looked + LOOK_SECONDS:
            known, looked = run.trainer.seconds_found("search"), time.monotonic()
        return run.began + max(budget / 2, budget - later * known / planned)

    return deadline


def write_front(run: Run) -> None:
    """The tables at the end of a run, with how surely each trial is on the front."""
    searched, stays = run.trainer.records("search"), None
    with costs_itself(run.console, "p_on_front of pareto.csv"):
        lists, clusters = split_lists(run.data, "validation"), query_clusters(run.data, "validation")
        stays = p_on_front(run.folder, run.phase, searched, lists, clusters=clusters, seed=run.options.seed)
    write_tables(run.folder, run.phase, run.trainer.records(), stays)


def _require_references(run: Run) -> None:
    """Nothing can be compared where no reference ranker was trained. Raises ValueError with the reason."""
    records = run.trainer.records(BASELINES)
    if not any(record.finished for record in records):
        training, at_once = run.trainer.training_seconds, concurrency(run.options)
        needed = seconds_to_search(run.phase, training_seconds=training, at_once=at_once)
        ended = f"--time-budget {run.options.time_budget} ended before one had; give at least {budget_for(needed)}"
        reason = next((r.state_reason for r in records if r.state_reason), ended)
        raise ValueError(
            f"no reference ranker could be trained, so there is nothing to compare with: {reason} "
            f"(every training and its reason: {run.folder.path / 'trials.csv'}; mend it, then --fresh)"
        )


def _keep_front_weights(run: Run) -> None:
    """Weights stay for the front's trials alone (of earlier verdicts too); the values per query stay for all."""
    searched = run.trainer.records("search")
    front = {record.trial_id for record in pareto_front(run.phase, searched)} | kept_front(run.folder)
    for record in searched:
        if record.trial_id not in front:
            (run.folder.checkpoints / record.trial_id / WEIGHTS).unlink(missing_ok=True)
