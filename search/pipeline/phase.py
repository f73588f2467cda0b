"""One phase from its options to its verdict: reference rankers, search, front, confirmation, decision."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping

from rich.console import Console

from fusion_models.config import Flat
from fusion_models.data import RankingDataset
from search.execution.cluster import ray_session
from search.options import RunOptions
from search.pipeline.confirmation.verdict import confirm_and_decide
from search.pipeline.context import Run
from search.pipeline.continuation.extend import extend_phase
from search.pipeline.continuation.kept import require_no_verdict_under_way
from search.pipeline.continuation.resuming import (
    plain_options,
    require_no_more_trials,
    require_run_of,
    require_same_options,
    require_same_phase,
    require_same_question,
    require_same_verdict,
    with_own_facts,
)
from search.pipeline.continuation.same_inputs import (
    described_model,
    require_of_roadmap,
    require_same_data,
    require_same_model,
)
from search.pipeline.continuation.settle import settle_phase
from search.pipeline.continuation.warm_start import warm_recipes
from search.pipeline.feasible import open_feasible
from search.pipeline.roadmap_step import RoadmapStep
from search.pipeline.search_step import search, write_front
from search.pipeline.store import RunStore
from search.pipeline.summary import print_verdict
from search.pipeline.trainer import Trainer
from search.reporting import build_report
from search.run_store.driver_lock import driving
from search.run_store.folder import REPORT_DUE, RunFolder, environment, now
from search.run_store.journal import open_journal
from search.run_store.looks import DECIDING_SPLIT
from search.run_store.mirror import Mirror, is_uri, local_results, mirror_of, mirrored
from search.run_store.start_weights import described_start, keep_start_weights, kept_start
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

    Raises ValueError for options or data that cannot be used, and where another process drives a run in that folder.
    """
    name = options.name or options.phase
    folder = RunFolder(local_results(options.results) / name)
    with driving(folder.path):
        if is_uri(options.results):
            mirror = mirror_of(options.results, name)
            if not options.fresh:
                mirror.fetch(to_drive=True)
        return _run(folder, options, console, phase, link, mirror)


def _run(
    folder: RunFolder,
    options: RunOptions,
    console: Console,
    phase: Phase | None,
    link: RoadmapStep | None,
    mirror: Mirror | None,
) -> RunFolder:
    if not options.fresh:
        require_run_of(folder, options.phase)
    if (options.settle or options.extend) and (phase is not None or options.phase_file is not None):
        require_same_verdict(folder, options, phase)
    if options.settle:
        return settle_phase(folder, options, console, mirror)
    if options.extend:
        return extend_phase(folder, options, console, mirror)
    if not options.fresh and folder.finished():
        require_no_verdict_under_way(folder)
        if folder.report_due():
            build_report(folder, console)
        if mirror is not None:
            mirror.sync(whole=True)  # a last mirroring that failed is made up for
        unknown = require_same_question(folder, options, phase)
        said = f"nothing was changed. --extend and --settle add to it, --fresh starts over.{unknown}"
        console.print(f"{folder.path} holds a finished run; {said}", highlight=False)
        return folder
    options = with_own_facts(folder, options)
    warm = _warm(options, link)
    phase = options.around(phase) if phase is not None else options.to_phase()
    began = time.monotonic()
    held = kept_start(link.folder.checkpoints) if link is not None else None
    weights = options.weights if held is None else str(held)
    data = open_feasible(dataclasses.replace(options, weights=weights), [phase])
    if link is not None:
        require_of_roadmap(link.folder, data, described_model(phase.base.model.variant))
    previous = None if options.fresh else folder.read()
    folder.require_ready(resume=options.resume, fresh=options.fresh)
    if previous is not None and link is None:  # a roadmap's later phases may search more
        require_no_more_trials(folder, options, planned=previous["options"].get("trials") or phase.trials)
    with contextlib.ExitStack() as session:
        if not options.resume:  # a Ray that does not come up deletes nothing and leaves nothing unfinished
            session.enter_context(ray_session(options))
        if mirror is not None and options.fresh:
            mirror.erase()
        for said in folder.prepare(resume=options.resume, fresh=options.fresh):
            console.print(said, highlight=False, soft_wrap=True)
        if weights is not None:
            keep_start_weights(weights, folder.checkpoints, phase.base, data, anew=not options.resume)
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
            earlier=EarlierRuns(link.earlier, into=folder, metric=data.metric, **known) if link is not None else None,
            began=began,
        )
        with mirrored(mirror, console), run.trainer.tracking.stopped_by_errors():
            _search_and_decide(run, warm, session)
    return folder


def _search_and_decide(run: Run, warm: Mapping[str, Flat], session: contextlib.ExitStack) -> None:
    """All trainings of a run, its verdict and its report; `session` ends with the trainings."""
    folder = run.store.folder
    try:
        with session, ray_session(run.options), run.trainer.tuning():
            confirmed = confirm_and_decide(run, *search(run, warm))
    except BaseException:  # Ctrl-C too, wherever it comes: what has finished is in the tables
        run.trainer.write_what_finished()
        raise
    write_front(run)
    ended = {"end": now(), REPORT_DUE: True}
    folder.write((folder.read() or {}) | ended | {"seconds": round(time.monotonic() - run.began, 1)})
    build_report(folder, run.console)
    run.trainer.tracking.end()
    print_verdict(run, confirmed)


def _warm(options: RunOptions, link: RoadmapStep | None) -> dict[str, Flat]:
    """Points to ask for first: the front of the phase before in a roadmap, or of the run that --warm-from names."""
    if link is not None and link.warm is not None:
        return link.warm
    return warm_recipes(options.warm_from) if options.warm_from is not None else {}


def describe(
    folder: RunFolder,
    options: RunOptions,
    phase: Phase,
    data: RankingDataset,
    previous: dict[str, object] | None,
    link: RoadmapStep | None = None,
) -> None:
    """Write run.json; on a resumed run, check first that it is the same run."""
    model = described_model(phase.base.model.variant)
    if previous is not None and options.resume:
        require_same_options(folder, previous, options)
        require_same_data(folder, previous, options.data, data.fingerprint)
        require_same_phase(folder, previous, phase)
        require_same_model(folder, previous, model)
    description = {
        "phase": phase.name,
        "definition": phase_to_plain(phase),
        "options": plain_options(options),
        "model": model,
        "weights": described_start(options.weights, folder.checkpoints),
        "roadmap": link.described() if link is not None else None,
        "seed": options.seed,
        "data": data.source,
        "fingerprint": data.fingerprint,
        "counts": data.counts,
        "weighted": data.weighted,
        "resumed": (int(str(previous.get("resumed", 0))) + 1) if previous is not None and options.resume else 0,
    } | environment()
    if previous is not None and options.resume:
        description |= {key: previous[key] for key in ("id", "start", "stack_size", "search") if key in previous}
    folder.write(description)
