"""Phase 4, production validation: whether phase 3's finalist may be released, and how.

Integrity checks, complete ablation, export and latency, then the roadmap's conditions and a plan for the rollout.
Phase 3's measurements on the test split are read back, not made again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.console import Console

from fusion_models.data import open_dataset
from fusion_models.evaluation import split_lists
from fusion_models.files import write_whole
from fusion_models.integrity import Check
from fusion_models.metrics.intervals.weights import counted, linearised, of_rows
from search.analysis.decision import Decision
from search.analysis.judged import read_judged
from search.analysis.release_decision import Validated, decide_release
from search.execution.cluster import ray_session
from search.experiment.rollout import Baseline, RolloutPlan, rollout_plan
from search.options import RunOptions
from search.pipeline.ablation import Intact, ablate, ablation_complete
from search.pipeline.confirmation.arms import STAGE as DECIDING
from search.pipeline.context import Run
from search.pipeline.continuation.resuming import require_run_of, require_same_question, with_own_facts
from search.pipeline.continuation.same_inputs import described_model, require_of_roadmap, require_same_model
from search.pipeline.late import costs_itself
from search.pipeline.phase import describe
from search.pipeline.release.from_phase3 import (
    SOURCE,
    Chosen,
    adopt,
    described_choice,
    finished_phase3,
    phase_over,
    read_chosen,
    why_unjudged,
    with_suspect,
)
from search.pipeline.release.integrity import check_integrity
from search.pipeline.release.runtime_variants import RuntimeVariants, TimingSize, measure_variants
from search.pipeline.release.standing import STANDING, require_ended, require_standing, standing
from search.pipeline.roadmap_step import RoadmapStep
from search.pipeline.store import RunStore
from search.pipeline.summary import print_decision
from search.pipeline.trainer import Trainer
from search.reporting import build_report
from search.reporting.decision_page import decision_text, release_text
from search.reporting.words import ablated_at
from search.run_store.artefact import ARTEFACT
from search.run_store.driver_lock import driving
from search.run_store.facts import read_facts
from search.run_store.folder import REPORT_DUE, RunFolder, RunFolderError, json_text, now, phase_of
from search.run_store.journal import open_journal
from search.run_store.looks import SPLIT_NAMES, Look, count_look, require_looks
from search.run_store.mirror import Mirror, is_uri, local_results
from search.run_store.start_weights import adopt_start_weights
from search.study.stages import FixedStage
from search.study.taken_over import EarlierRuns
from spaces import PHASE4

SHOWN = ["ranker", "runtime", "p50_ms", "p95_ms", "p95_ms_ci_low", "p95_ms_ci_high", "p99_ms", "ndcg_cost", "status"]
ABLATION = "ablation.csv"
FILES = ("report.html", "decision.md", "integrity.csv", "latency.csv", ABLATION, "rollout.json", "export", "trials.csv")


@dataclass(frozen=True, kw_only=True)
class Looks:
    """The looks at the test split that phase 4's tables rest on."""

    judged: Look | None
    """Phase 3's, whose intervals the gates read."""
    ablated: Look | None
    """Of phase 4's own ablation; None where phase 3's table stands."""

    def named(self) -> dict[str, Look]:
        """Field of decision.json -> look."""
        found = {"look": self.judged, "ablation_look": self.ablated}
        return {key: look for key, look in found.items() if look is not None}


def run_production(
    options: RunOptions,
    console: Console,
    *,
    source: RunFolder | None = None,
    timing: TimingSize = TimingSize(),  # noqa: B008  (frozen)
    link: RoadmapStep | None = None,
    mirror: Mirror | None = None,
) -> RunFolder:
    """Validate the finalist of `source`, or of RESULTS/phase3, which is run first where it is not finished.

    `timing` says how much is timed; `link` and `mirror`: see `run_phase`.

    Raises ValueError for options or data that cannot be used, RunFolderError for folders that do not fit,
    or in which another process drives a run.
    """
    if is_uri(options.results):
        raise RunFolderError(
            "phase4 writes to a folder of this machine: fetch phase 3 with `python -m search.report URI`, which prints "
            "where its working copy lies, and give the folder above it as --results"
        )
    folder = RunFolder(local_results(options.results) / (options.name or PHASE4.name))
    known = source or RunFolder(folder.path.parent / SOURCE)
    with driving(folder.path), driving(known.path):  # of phase 3 journal and measurements are read
        return _run(options, console, source, timing, link, mirror)


def _run(
    options: RunOptions,
    console: Console,
    source: RunFolder | None,
    timing: TimingSize,
    link: RoadmapStep | None,
    mirror: Mirror | None,
) -> RunFolder:
    folder = RunFolder(local_results(options.results) / (options.name or PHASE4.name))
    known = source or RunFolder(folder.path.parent / SOURCE)
    if not options.fresh:
        require_run_of(folder, options.phase)
    if not options.fresh and folder.finished():
        if folder.report_due():
            build_report(folder, console)
        unknown = require_same_question(folder, options)
        require_standing(folder, known)
        console.print(f"{folder.path} holds a finished run; nothing was changed. --fresh starts over.{unknown}")
        return folder
    began = time.monotonic()
    previous = None if options.fresh else folder.read()
    # where only phase 3 was begun, resuming means to finish that
    begun = folder.journal.exists() or not known.journal.exists()
    options = with_own_facts(folder if previous is not None else known, options)
    source = source or finished_phase3(options, console)
    require_ended(source)
    if previous is not None:
        require_standing(folder, source)
    data = open_dataset(options.data)
    chosen, described = read_chosen(source, data), source.read() or {}
    options = with_suspect(options, phase_of(described).suspect, source)
    phase = phase_over(options.to_phase(PHASE4.name), phase_of(described))
    model = described_model(phase.base.model.variant)
    require_same_model(source, described, model)
    if link is not None:
        require_of_roadmap(link.folder, data, model)
    resume = options.resume and begun
    require_looks(folder)
    folder.require_ready(resume=resume, fresh=options.fresh)
    with contextlib.ExitStack() as session:
        if not resume and chosen.finalist is not None:  # as in `run_phase`
            session.enter_context(ray_session(options, phase.base.model.variant))
        for said in folder.prepare(resume=resume, fresh=options.fresh):
            console.print(said, highlight=False, soft_wrap=True)
        store = RunStore(folder=folder, journal=open_journal(folder.journal), mirror=mirror)
        data = data.measured_by(phase.metric)
        adopt_start_weights(source.checkpoints, folder.checkpoints)
        describe(folder, options, phase, data, previous if begun else None, link)
        folder.write((folder.read() or {}) | {STANDING: standing(source)})
        trainer = Trainer(store, phase, data, options, console)
        run = Run(options=options, phase=phase, data=data, store=store, trainer=trainer, console=console, began=began)
        console.print(f"{data.source}: validating {described_choice(chosen)} of {source.path}", highlight=False)
        try:
            with trainer.tracking.stopped_by_errors():
                decision = _validate(run, chosen, timing, session)
        except BaseException:  # Ctrl-C too, wherever it comes: what has finished is in the tables
            trainer.write_what_finished()
            raise
        trainer.write_tables()
    ended = {"end": now(), REPORT_DUE: True}
    folder.write((folder.read() or {}) | ended | {"seconds": round(time.monotonic() - began, 1)})
    with trainer.tracking.stopped_by_errors():
        build_report(folder, console)
    trainer.tracking.end()
    print_decision(run, decision, FILES, looked=chosen.look.said() if chosen.look is not None else "")
    return folder


def _validate(run: Run, chosen: Chosen, size: TimingSize, session: contextlib.ExitStack) -> Decision:
    """Every check, and the decision; `session` ends with the trainings, before anything is timed."""
    evidence = missing = variants = ablating = None
    checks: list[Check] = []
    if chosen.finalist is not None:
        adopt(run.folder, chosen)
        earlier = EarlierRuns(
            [chosen.folder],
            into=run.folder,
            source=run.data.source,
            fingerprint=run.data.fingerprint,
            metric=run.phase.metric,
        )
        with session, ray_session(run.options, run.phase.base.model.variant), run.trainer.tuning():
            run.trainer.train([FixedStage(run.store.journal, DECIDING, chosen.jobs, earlier=earlier)])
            evidence = read_judged(chosen.folder.path)
            checks = check_integrity(run, chosen.finalist, chosen.folder)
            with costs_itself(run.console, "the ablation", "its gate is not measured", ends_run=run.trainer.stopped_by):
                ablation, ablating = _ablation(run, chosen)
                missing = _missing_ablations(ablation)
        # once Ray's workers are gone
        variants = measure_variants(run, ARTEFACT, chosen.folder, size)
    found = Validated(
        earlier_verdict=chosen.verdict,
        integrity=checks,
        latency=variants.released if variants is not None else None,
        fastest=variants.fastest if variants is not None else None,
        ablation_missing=missing,
    )
    facts = read_facts(run.options.facts).statuses()
    name = chosen.finalist.trial_id if chosen.finalist is not None else None
    decision = decide_release(run.phase, name, evidence, found, facts)
    if chosen.unjudged:
        decision = dataclasses.replace(decision, reasons=(why_unjudged(chosen),))
    plan = None
    if chosen.finalist is not None:
        with costs_itself(run.console, "the plan of the rollout", files=[run.folder.path / "rollout.json"]):
            plan = _rollout(run)
    _write(run, decision, checks, variants, plan, Looks(judged=chosen.look, ablated=ablating))
    return decision


def _write(
    run: Run,
    decision: Decision,
    checks: list[Check],
    variants: RuntimeVariants | None,
    plan: RolloutPlan | None,
    looks: Looks,
) -> None:
    """decision.json and decision.md: the verdict with every table that it rests on."""
    plain: dict[str, Any] = decision.as_json() | {"integrity": [vars(c) for c in checks]}
    plain |= {key: look.as_json() for key, look in looks.named().items()}
    write_whole(run.folder.path / "decision.json", json_text(plain))
    text = decision_text(run.phase, decision, SPLIT_NAMES[run.deciding], looks.judged, weighted=run.data.weighted)
    if looks.ablated is not None:
        text += f"\n{ablated_at(looks.ablated)}\n"
    latency = None
    if variants is not None:
        latency = variants.table[variants.table["candidates"] == "as judged"][SHOWN]
    if plan is not None:
        write_whole(run.folder.path / "rollout.json", json_text(plan.as_json()))
    text += release_text(run.phase, checks, latency, plan)
    write_whole(run.folder.path / "decision.md", text)


def _rollout(run: Run) -> RolloutPlan:
    """Stages and sizes for a release that shows the least gain worth having, with V1's spread a query as measured."""
    lists = split_lists(run.data, "validation")
    known = counted(lists.v1_ndcg, lists.uneven)
    v1 = linearised(lists.v1_ndcg[known], of_rows(lists.uneven, known))
    effect = run.phase.thresholds.least_gain
    return rollout_plan(Baseline(mean=float(v1.mean()), sd=float(v1.std(ddof=1))), effect)


def _ablation(run: Run, chosen: Chosen) -> tuple[pd.DataFrame, Look | None]:
    """Every component of the finalist taken out: phase 3's table where it measured all of them, else anew.

    Phase 3 measures the largest few and screens the others. Its measurements are then of no use to a comparison in
    one table, so all are trained here, and measured on the test split: a look that is counted, and handed back.
    """
    assert chosen.finalist is not None
    earlier = chosen.folder.path / ABLATION
    if earlier.exists():
        table = pd.read_csv(earlier, dtype={"trial_id": str})
        if _is_of(table, chosen.finalist.trial_id) and ablation_complete(table) and not _missing_ablations(table):
            shutil.copy2(earlier, run.folder.path / ABLATION)
            return table, None
    look = count_look(run.folder, run.data.fingerprint, run.data.source)
    run.console.print(ablated_at(look), highlight=False)
    intact = Intact(
        trial_id=chosen.finalist.trial_id,
        recipe=chosen.finalist.recipe,
        trainings=tuple(job.trial_id for job in chosen.jobs),
        items=chosen.jobs[0].items,
    )
    return ablate(run, intact, largest=len(run.phase.ablatable), deadline=run.deadline), look


def _is_of(table: pd.DataFrame, trial_id: str) -> bool:
    """Whether a table is the ablation of this trial: after `--extend` an earlier finalist's may still lie there."""
    return {"trial_id", "status"} <= set(table) and set(table["trial_id"]) == {trial_id}


def _missing_ablations(table: pd.DataFrame) -> list[str]:
    """Components whose removal was not measured with every seed."""
    return [str(name) for name in table.loc[table["status"] != "measured", "removed"].drop_duplicates()]
