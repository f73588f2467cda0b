"""One phase from its options to its verdict: reference rankers, search, front, confirmation, decision."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console

from fusion_models.config import Flat
from fusion_models.data import RankingDataset, open_dataset
from fusion_models.data.clusters import query_clusters
from fusion_models.data.readiness import require_rankable
from fusion_models.evaluation import split_lists
from fusion_models.metrics import WeightedSum
from search.analysis.front import pareto_front
from search.analysis.importances import write_importances
from search.analysis.replicates import p_on_front
from search.analysis.tables import write_tables
from search.execution.capacity import concurrency
from search.execution.cluster import ray_session
from search.options import RunOptions
from search.pipeline.baselines import STAGE as BASELINES
from search.pipeline.baselines import (
    Reference,
    ReferenceRole,
    reference_rankers,
    reference_table,
    single_modality_jobs,
    tune_sums,
)
from search.pipeline.confirmation.verdict import confirm_and_decide
from search.pipeline.context import Run
from search.pipeline.plan import print_plan
from search.pipeline.resuming import plain_options, require_same_options, require_same_phase, require_same_question
from search.pipeline.roadmap_step import RoadmapStep
from search.pipeline.settle import settle_phase
from search.pipeline.store import RunStore
from search.pipeline.summary import print_validation, print_verdict
from search.pipeline.trainer import Trainer
from search.reporting import build_report
from search.run_store.artifacts import WEIGHTS
from search.run_store.csv_tables import write_csv
from search.run_store.folder import RunFolder, RunFolderError, environment, now
from search.run_store.journal import open_journal
from search.run_store.looks import DECIDING_SPLIT
from search.run_store.mirror import Mirror, is_uri, local_results, mirror_of, mirrored
from search.run_store.records import journal_records
from search.study.stages import FixedStage, SearchStage
from search.study.taken_over import EarlierRuns
from spaces import Phase, phase_to_plain


def run_phase(
    options: RunOptions,
    console: Console,
    *,
    phase: Phase | None = None,
    link: RoadmapStep | None = None,
    mirror: Mirror | None = None,
) -> RunFolder:
    """Run one phase to its end, or go on with it; `phase` stands in for the one that the options name.

    `link` makes it a part of a roadmap, whose folder `mirror` keeps at a URI where it has one.

    Raises ValueError for options or data that cannot be used.
    """
    name = options.name or options.phase
    folder = RunFolder(local_results(options.results) / name)
    if is_uri(options.results):
        mirror = mirror_of(options.results, name)
        if not options.fresh:
            mirror.fetch()
    if options.settle:
        return settle_phase(folder, options, console, mirror)
    if not options.fresh and folder.finished():
        if mirror is not None:
            mirror.sync(whole=True)  # a last mirroring that failed is made up for
        require_same_question(folder, options)
        console.print(f"{folder.path} holds a finished run; nothing was changed. --fresh starts over.")
        return folder
    phase = phase.with_base(options.changes) if phase is not None else options.to_phase()
    _require_image_and_another(phase)
    began = time.monotonic()
    data = open_dataset(options.data)
    require_rankable(data)
    previous = None if options.fresh else folder.read()
    if mirror is not None and options.fresh:
        mirror.erase()
    folder.prepare(resume=options.resume, fresh=options.fresh)
    describe(folder, options, phase, data, previous, link)
    store = RunStore(folder=folder, journal=open_journal(folder.journal), mirror=mirror)
    known = {"source": data.source, "fingerprint": data.fingerprint}
    run = Run(
        options=options,
        phase=phase,
        data=data,
        store=store,
        trainer=Trainer(store, phase, data, options, console),
        console=console,
        deciding=link.deciding if link is not None else DECIDING_SPLIT,
        earlier=EarlierRuns(link.earlier, into=folder, **known) if link is not None else None,
        began=began,
    )
    with mirrored(mirror, console):
        try:
            with ray_session(options), run.trainer.tuning():
                references = _search(run, (link.warm if link is not None else None) or {})
                confirmed = confirm_and_decide(run, *references)
        except BaseException:  # Ctrl-C too, wherever it comes: what has finished is in the tables
            write_tables(folder, phase, journal_records(store.journal))
            raise
        lists, clusters = split_lists(data, "validation"), query_clusters(data, "validation")
        searched = run.trainer.records("search")
        stays = p_on_front(folder, phase, searched, lists, clusters=clusters, seed=options.seed)
        write_tables(folder, phase, run.trainer.records(), stays)
        folder.write((folder.read() or {}) | {"end": now(), "seconds": round(time.monotonic() - began, 1)})
        build_report(folder, console)
        print_verdict(run, confirmed)
    return folder


def _require_image_and_another(phase: Phase) -> None:
    kept = phase.base.model.modalities
    if "visual" not in kept or len(kept) < 2:
        raise ValueError(
            f"model.modalities is {'+'.join(kept)}: a phase asks what the image is worth beside others, so it needs "
            "visual and at least one more"
        )


def _search(run: Run, warm: Mapping[str, Flat]) -> tuple[dict[ReferenceRole, WeightedSum], list[Reference]]:
    """The reference rankers and the search, side by side, and what they gave on the validation split."""
    options, phase, journal = run.options, run.phase, run.store.journal
    reference = phase.reference_recipe()
    jobs = single_modality_jobs(reference, options.seed)
    baselines = FixedStage(journal, BASELINES, jobs, earlier=run.earlier)
    search = SearchStage(
        journal,
        phase,
        sampler=options.sampler,
        trials=options.trials or phase.trials,
        seed=options.seed,
        warm=warm,
        earlier=run.earlier,
    )
    for note in search.notes:
        run.console.print(f"earlier front: {note}", highlight=False)
    later = print_plan(run, [baselines, search], concurrency(options))
    run.trainer.train([baselines, search], deadline=_search_deadline(run, later))
    _require_references(run)
    tuned = tune_sums(run)
    references = reference_rankers(run, "validation", tuned)
    clusters = query_clusters(run.data, "validation")
    table = reference_table(references, clusters=clusters)
    write_csv(table, run.folder, "baselines.csv")
    print_validation(run, table)
    write_importances(run.folder, phase, journal, seed=options.seed)
    _keep_front_weights(run)
    return tuned, references


def _search_deadline(run: Run, later: float) -> float | None:
    """When the search must end for the time budget to leave `later` seconds; half of the budget is its own anyhow."""
    budget = run.options.budget_seconds
    return None if budget is None else run.began + max(budget / 2, budget - later)


def describe(
    folder: RunFolder,
    options: RunOptions,
    phase: Phase,
    data: RankingDataset,
    previous: dict[str, object] | None,
    link: RoadmapStep | None = None,
) -> None:
    """Write run.json; on a resumed run, check first that it is the same run."""
    if previous is not None and options.resume:
        require_same_options(folder, previous, options)
        require_same_phase(folder, previous, phase)
        if previous["fingerprint"] != data.fingerprint:
            raise RunFolderError(f"{folder.path} was started on other data than {options.data} holds now: use --fresh")
    description = {
        "phase": phase.name,
        "definition": phase_to_plain(phase),
        "options": plain_options(options),
        "roadmap": link.described() if link is not None else None,
        "seed": options.seed,
        "data": data.source,
        "fingerprint": data.fingerprint,
        "counts": data.counts,
        "resumed": (int(str(previous.get("resumed", 0))) + 1) if previous is not None and options.resume else 0,
    } | environment()
    if previous is not None and options.resume:
        description["start"] = previous["start"]
    folder.write(description)


def _require_references(run: Run) -> None:
    """Nothing can be compared where no reference ranker was trained. Raises ValueError with the reason."""
    records = run.trainer.records(BASELINES)
    if not any(record.finished for record in records):
        reason = next((r.state_reason for r in records if r.state_reason), "the time budget ended before one had")
        raise ValueError(
            f"no reference ranker could be trained, so there is nothing to compare with: {reason} "
            f"(every training and its reason: {run.folder.path / 'trials.csv'}; mend it, then --fresh)"
        )


def _keep_front_weights(run: Run) -> None:
    """Weights stay for the front's trials alone; the values per query stay for all."""
    searched = run.trainer.records("search")
    front = {record.trial_id for record in pareto_front(run.phase, searched)}
    for record in searched:
        if record.trial_id not in front:
            (run.folder.checkpoints / record.trial_id / WEIGHTS).unlink(missing_ok=True)
