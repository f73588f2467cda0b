"""One phase from its options to its verdict: reference rankers, search, front, confirmation, decision."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping

from rich.console import Console

from fusion_models.config import Flat
from fusion_models.data import RankingDataset, open_dataset
from fusion_models.data.groups import query_groups
from fusion_models.data.readiness import require_rankable
from search.analysis.front import pareto_front
from search.analysis.importances import write_importances
from search.analysis.replicates import p_on_front
from search.analysis.tables import write_tables
from search.execution.capacity import concurrency
from search.execution.cluster import ray_session
from search.options import RunOptions
from search.pipeline.baselines import reference_rankers, reference_table, single_modality_jobs
from search.pipeline.confirmation.verdict import confirm_and_decide
from search.pipeline.context import Run
from search.pipeline.plan import print_plan
from search.pipeline.roadmap_step import RoadmapStep
from search.pipeline.summary import print_validation, print_verdict
from search.reporting import build_report
from search.run_store.artifacts import WEIGHTS
from search.run_store.csv_tables import write_csv
from search.run_store.folder import RunFolder, RunFolderError, environment, now
from search.run_store.journal import open_journal
from search.run_store.mirror import Mirror, is_uri, local_results, mirror_of, mirrored
from search.run_store.records import journal_records
from search.study.stages import FixedStage, SearchStage
from search.study.taken_over import EarlierRuns
from spaces import PHASES, Phase

RESUMABLE_CHANGES = (
    "trials",
    "time_budget",
    "ablation",
    "max_concurrent",
    "address",
    "resume",
    "workers_per_trial",
    "cpus_per_worker",
    "stack",
    "epoch_limit",
    "results",
    "facts",
)
"""Options that may differ when a run is resumed: they change how much is done, not what."""


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
    if folder.finished() and not options.fresh:
        if mirror is not None:
            mirror.sync(whole=True)  # a last mirroring that failed is made up for
        require_same_data(folder, options)
        console.print(f"{folder.path} holds a finished run; nothing was changed. --fresh starts over.")
        return folder
    phase = (phase or PHASES[options.phase]).with_base(options.changes)
    _require_image_and_another(phase)
    began = time.monotonic()
    data = open_dataset(options.data)
    require_rankable(data)
    previous = None if options.fresh else folder.read()
    if mirror is not None and options.fresh:
        mirror.erase()
    folder.prepare(resume=options.resume, fresh=options.fresh)
    describe(folder, options, phase, data, previous, link)
    run = Run(options, console, phase, data, folder, open_journal(folder.journal), began, mirror=mirror)
    if link is not None:
        run.deciding = link.deciding
        run.earlier = EarlierRuns(link.earlier, into=folder, source=data.source, fingerprint=data.fingerprint)
    with mirrored(mirror, console):
        try:
            with ray_session(options), run.tuning():
                _search(run, (link.warm if link is not None else None) or {})
                confirmed = confirm_and_decide(run)
        except BaseException:  # Ctrl-C too, wherever it comes: what has finished is in the tables
            write_tables(folder, phase, journal_records(run.storage))
            raise
        groups = query_groups(data, "validation")
        stays = p_on_front(folder, phase, run.records("search"), groups=groups, seed=options.seed)
        write_tables(folder, phase, run.records(), stays)
        folder.write((folder.read() or {}) | {"end": now(), "seconds": round(time.monotonic() - began, 1)})
        build_report(folder, console)
        print_verdict(run, confirmed)
    return folder


def require_same_data(folder: RunFolder, options: RunOptions) -> None:
    """A finished run of one dataset must not be read as that of another. Raises RunFolderError."""
    said = (folder.read() or {}).get("options")
    asked = said.get("data") if isinstance(said, dict) else None
    if asked != options.data:
        raise RunFolderError(
            f"{folder.path} holds a finished run on --data {asked}, not on {options.data}: give another --name or "
            "--results, or --fresh to start over there"
        )


def _require_image_and_another(phase: Phase) -> None:
    kept = phase.base.model.modalities
    if "visual" not in kept or len(kept) < 2:
        raise ValueError(
            f"model.modalities is {'+'.join(kept)}: a phase asks what the image is worth beside others, so it needs "
            "visual and at least one more"
        )


def _search(run: Run, warm: Mapping[str, Flat]) -> None:
    """The reference rankers and the search, side by side, and what they gave on the validation split."""
    options, phase = run.options, run.phase
    reference = phase.known_recipes()["balanced"]
    jobs = single_modality_jobs(reference, options.seed)
    baselines = FixedStage(run.storage, "baselines", jobs, earlier=run.earlier)
    search = SearchStage(
        run.storage,
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
    run.train([baselines, search], deadline=_search_deadline(run, later))
    _require_references(run)
    groups = query_groups(run.data, "validation")
    table = reference_table(reference_rankers(run, "validation"), groups=groups, seed=options.seed)
    write_csv(table, run.folder, "baselines.csv")
    print_validation(run, table)
    write_importances(run.folder, run.phase, run.storage, seed=run.options.seed)
    _keep_front_weights(run)


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
    asked = dataclasses.asdict(options)
    if previous is not None and options.resume:
        before = previous["options"]
        assert isinstance(before, dict)
        changed = [k for k in asked if k not in RESUMABLE_CHANGES and before.get(k) != _plain(asked[k])]
        if changed:
            said = ", ".join(f"{k} was {before.get(k)!r} and is now {asked[k]!r}" for k in changed)
            raise RunFolderError(f"{folder.path} was started with other options ({said}): give the same, or --fresh")
        if previous["base"] != phase.base.flat():
            raise RunFolderError(f"{folder.path} was started with another base recipe (another version?): use --fresh")
        if previous["fingerprint"] != data.fingerprint:
            raise RunFolderError(f"{folder.path} was started on other data than {options.data} holds now: use --fresh")
    description = {
        "phase": phase.name,
        "options": {k: _plain(v) for k, v in asked.items()},
        "base": phase.base.flat(),
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


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _require_references(run: Run) -> None:
    """Nothing can be compared where no reference ranker was trained. Raises ValueError with the reason."""
    records = run.records("baselines")
    if not any(record.finished for record in records):
        reason = next((r.state_reason for r in records if r.state_reason), "the time budget ended before one had")
        raise ValueError(
            f"no reference ranker could be trained, so there is nothing to compare with: {reason} "
            f"(every training and its reason: {run.folder.path / 'trials.csv'}; mend it, then --fresh)"
        )


def _keep_front_weights(run: Run) -> None:
    """Weights stay for the front's trials alone; the values per query stay for all."""
    searched = run.records("search")
    front = {record.trial_id for record in pareto_front(run.phase, searched)}
    for record in searched:
        if record.trial_id not in front:
            (run.folder.checkpoints / record.trial_id / WEIGHTS).unlink(missing_ok=True)
