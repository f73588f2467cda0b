"""Phase 4, production validation: whether phase 3's finalist may be released, and how.

Integrity checks, complete ablation, export and latency, then the roadmap's conditions and a plan for the rollout.
Phase 3's measurements on the test split are read back, not made again.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from fusion_models.data import RankingDataset, open_dataset
from fusion_models.files import link_or_copy, write_whole
from fusion_models.integrity import Check
from fusion_models.metrics import Interval
from search.analysis.decision import LEAST_GAIN, Decision, Evidence
from search.analysis.release_decision import Validated, decide_release
from search.analysis.tables import write_tables
from search.execution.cluster import ray_session
from search.experiment.rollout import RolloutPlan, rollout_plan
from search.options import RunOptions
from search.pipeline.ablation import ablate, ablation_complete
from search.pipeline.confirmation.short_list import Candidate
from search.pipeline.confirmation.test_split import open_groups, open_test_split
from search.pipeline.confirmation.verdict import gather_evidence
from search.pipeline.context import Run
from search.pipeline.phase import describe, run_phase
from search.pipeline.release.integrity import check_integrity
from search.pipeline.release.runtime_variants import RuntimeVariants, TimingSize, measure_variants
from search.pipeline.resuming import require_same_question
from search.pipeline.roadmap_step import RoadmapStep
from search.pipeline.summary import print_decision
from search.reporting import build_report
from search.reporting.decision_page import decision_text, release_text
from search.run_store.artifacts import read_queries
from search.run_store.facts import read_facts
from search.run_store.folder import RunFolder, RunFolderError, json_text, now, phase_of
from search.run_store.job import Job, Role
from search.run_store.journal import open_journal
from search.run_store.looks import DECIDING_SPLIT, SPLIT_NAMES, count_look
from search.run_store.mirror import Mirror, is_uri
from search.run_store.records import journal_records
from search.study.stages import FixedStage
from search.study.taken_over import EarlierRuns
from spaces import PHASE4, Phase, departures

SOURCE = "phase3"
SHOWN = ["ranker", "runtime", "p50_ms", "p95_ms", "p95_ms_ci_low", "p95_ms_ci_high", "p99_ms", "ndcg_cost", "status"]
ABLATION = "ablation.csv"
FILES = ("report.html", "decision.md", "integrity.csv", "latency.csv", ABLATION, "rollout.json", "export", "trials.csv")

ADOPTED = ("finalist.json", "evidence.json", "confirmed.csv", "baselines.csv", "agreement.csv", "examples.parquet")
"""What phase 3 measured of its finalist, which phase 4's report shows again."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Phase 3's outcome, as phase 4 takes it over."""

    folder: RunFolder
    finalist: Candidate | None
    verdict: str
    jobs: tuple[Job, ...] = ()
    """The finalist's confirmation trainings."""


def run_production(
    options: RunOptions,
    console: Console,
    *,
    source: RunFolder | None = None,
    phase: Phase | None = None,
    timing: TimingSize = TimingSize(),  # noqa: B008  (frozen)
    link: RoadmapStep | None = None,
    mirror: Mirror | None = None,
) -> RunFolder:
    """Validate the finalist of `source`, or of RESULTS/phase3, which is run first where it is not finished.

    `timing` says how much is timed; `link` and `mirror`: see `run_phase`.

    Raises ValueError for options or data that cannot be used, RunFolderError for folders that do not fit.
    """
    if is_uri(options.results):
        raise RunFolderError(
            "phase4 writes to a folder of this machine: fetch phase 3 with `python -m search.report URI`, which prints "
            "where its working copy lies, and give the folder above it as --results"
        )
    folder = RunFolder(Path(options.results).resolve() / (options.name or PHASE4.name))
    if not options.fresh and folder.finished():
        require_same_question(folder, options)
        console.print(f"{folder.path} holds a finished run; nothing was changed. --fresh starts over.")
        return folder
    began = time.monotonic()
    previous = None if options.fresh else folder.read()
    known = source or RunFolder(folder.path.parent / SOURCE)
    # where only phase 3 was begun, resuming means to finish that
    begun = folder.journal.exists() or not known.journal.exists()
    folder.prepare(resume=options.resume and begun, fresh=options.fresh)
    storage = open_journal(folder.journal)
    source = source or _finished_phase3(options, console)
    data = open_dataset(options.data)
    chosen = _chosen(source, data)
    phase = _over(phase or options.to_phase(PHASE4.name), phase_of(source.read() or {}))
    describe(folder, options, phase, data, previous if begun else None, link)
    run = Run(options, console, phase, data, folder, storage, began, mirror=mirror)
    console.print(f"{data.source}: validating {_said(chosen)} of {source.path}", highlight=False)
    try:
        decision = _validate(run, chosen, timing)
    except BaseException:  # Ctrl-C too, wherever it comes: what has finished is in the tables
        write_tables(folder, phase, journal_records(storage))
        raise
    write_tables(folder, phase, run.records())
    folder.write((folder.read() or {}) | {"end": now(), "seconds": round(time.monotonic() - began, 1)})
    build_report(folder, console)
    print_decision(run, decision, FILES)
    return folder


def _over(phase: Phase, source: Phase) -> Phase:
    """Phase 4 on what `source` searched: its space, its components and, where its file has none, its resume gates."""
    own = phase.resume_gates != PHASE4.resume_gates
    return dataclasses.replace(
        phase,
        base=source.base,
        ranges=source.ranges,
        ablatable=source.ablatable,
        resume_gates=phase.resume_gates if own else source.resume_gates,
    )


def _validate(run: Run, chosen: Chosen, size: TimingSize) -> Decision:
    evidence = missing = variants = None
    checks: list[Check] = []
    if chosen.finalist is not None:
        _adopt(run.folder, chosen)
        earlier = EarlierRuns(
            [chosen.folder], into=run.folder, source=run.data.source, fingerprint=run.data.fingerprint
        )
        with ray_session(run.options), run.tuning():
            run.train([FixedStage(run.storage, "confirm", chosen.jobs, earlier=earlier)])
            evidence = _evidence(run, chosen)
            checks = check_integrity(run, chosen.finalist, chosen.folder)
            missing = _missing_ablations(_ablation(run, chosen))
        # once Ray's workers are gone
        variants = measure_variants(run, chosen.finalist.trainings[0], chosen.folder, size)
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
    plan = _rollout(chosen) if chosen.finalist is not None else None
    _write(run, decision, checks, variants, plan)
    return decision


def _write(
    run: Run, decision: Decision, checks: list[Check], variants: RuntimeVariants | None, plan: RolloutPlan | None
) -> None:
    """decision.json and decision.md: the verdict with every table that it rests on."""
    plain: dict[str, Any] = decision.as_json() | {"integrity": [vars(c) for c in checks]}
    write_whole(run.folder.path / "decision.json", json_text(plain))
    text = decision_text(run.phase.title, decision, SPLIT_NAMES[run.deciding], departures(run.phase))
    latency = None
    if variants is not None:
        latency = variants.table[variants.table["candidates"] == "as judged"][SHOWN]
    if plan is not None:
        write_whole(run.folder.path / "rollout.json", json_text(plan.as_json()))
    text += release_text(checks, latency, plan)
    write_whole(run.folder.path / "decision.md", text)


def _rollout(chosen: Chosen) -> RolloutPlan:
    """Stages and sizes for a release that shows the least gain worth having, with V1's spread a query as measured."""
    assert chosen.finalist is not None
    kept = read_queries(chosen.folder.checkpoints / chosen.finalist.trainings[0] / f"{DECIDING_SPLIT}.npz")
    v1 = kept["v1_ndcg"][np.isfinite(kept["v1_ndcg"])]
    return rollout_plan(baseline_mean=float(v1.mean()), baseline_sd=float(v1.std(ddof=1)), effect=LEAST_GAIN)


def _finished_phase3(options: RunOptions, console: Console) -> RunFolder:
    """RESULTS/phase3, run to its end first where it is not there or was interrupted (with --resume)."""
    source = RunFolder(Path(options.results).resolve() / SOURCE)
    if source.finished():
        return source
    begun = source.journal.exists()
    if begun and not options.resume:
        raise RunFolderError(
            f"{source.path} holds an unfinished run, and phase 4 validates its finalist: add --resume to finish it"
        )
    console.print(f"{source.path} holds no finished phase 3: it is run first, then phase 4 goes on from it.")
    earlier = dataclasses.replace(options, phase="phase3", phase_file=None, name=None, fresh=False, resume=begun)
    return run_phase(earlier, console)


def _chosen(source: RunFolder, data: RankingDataset) -> Chosen:
    """What `source` chose and decided. Raises RunFolderError where it was another phase's, or on other data."""
    described = source.read() or {}
    if described.get("phase") != SOURCE:
        raise RunFolderError(f"{source.path} holds a run of {described.get('phase')!r}: phase 4 goes on from {SOURCE}")
    if described.get("fingerprint") != data.fingerprint:
        raise RunFolderError(
            f"{source.path} was run on {described.get('data')}, and --data {data.source} is other data: give "
            f"--data {described.get('data')}, or another --results"
        )
    verdict = json.loads((source.path / "decision.json").read_text())["verdict"]
    path = source.path / "finalist.json"
    if not path.exists():
        return Chosen(folder=source, finalist=None, verdict=verdict)
    said = json.loads(path.read_text())
    asked = [
        r for r in journal_records(open_journal(source.journal)) if r.stage == "confirm" and r.name == said["trial_id"]
    ]
    confirmed = [
        Job(trial_id=r.trial_id, name=r.name, recipe=r.recipe, seed=r.seed, role=Role("confirm"))
        for r in sorted(asked, key=lambda r: r.seed)
        if r.finished
    ]
    finalist = Candidate(
        trial_id=said["trial_id"],
        recipe=said["recipe"],
        trainings=tuple(job.trial_id for job in confirmed),
        seeds=tuple(job.seed for job in confirmed),
        failed=len(asked) - len(confirmed),
    )
    return Chosen(folder=source, finalist=finalist, verdict=verdict, jobs=tuple(confirmed))


def _adopt(folder: RunFolder, chosen: Chosen) -> None:
    """Make the run folder whole by itself: the finalist, its trainings and what they measured, linked or copied."""
    assert chosen.finalist is not None
    wanted = [path for name in ADOPTED if (path := chosen.folder.path / name).exists()]
    wanted += [p for t in chosen.finalist.trainings for p in (chosen.folder.checkpoints / t).iterdir() if p.is_file()]
    for path in wanted:
        link_or_copy(path, folder.path / path.relative_to(chosen.folder.path))


def _evidence(run: Run, chosen: Chosen) -> Evidence:
    """Phase 3's evidence, put together again from the values per query that it kept: no new look at the test split."""
    finalist = chosen.finalist
    assert finalist is not None
    refits: dict[Role, dict[int, str]] = {}
    for record in journal_records(open_journal(chosen.folder.journal)):
        if record.stage == "refits" and record.finished:
            refits.setdefault(record.role, {})[record.seed] = record.trial_id
    wanted = [*finalist.trainings, *(t for ids in refits.values() for t in ids.values())]
    missing = [t for t in wanted if not (chosen.folder.checkpoints / t / f"{DECIDING_SPLIT}.npz").exists()]
    if missing:
        raise RunFolderError(
            f"{chosen.folder.path} lacks the test values of {', '.join(missing[:3])}: run phase 3 again with --fresh"
        )
    measured = open_test_split(chosen.folder, run.data, wanted, call=run.call)()
    return gather_evidence(
        run,
        finalist,
        {seed: measured[t] for seed, t in zip(finalist.seeds, finalist.trainings, strict=True)},
        {role: {seed: measured[t] for seed, t in ids.items()} for role, ids in refits.items()},
        _over_tuned_v1(chosen.folder),
        open_groups(chosen.folder, run.data),
    )


def _ablation(run: Run, chosen: Chosen) -> pd.DataFrame:
    """Every component of the finalist taken out: phase 3's table where it measured all of them, else anew.

    Phase 3 measures the largest few and screens the others. Its measurements are then of no use to a comparison in
    one table, so all are trained here, and measured on the test split: a look that is counted.
    """
    assert chosen.finalist is not None
    earlier = chosen.folder.path / ABLATION
    if earlier.exists():
        table = pd.read_csv(earlier)
        mine = len(table) and "status" in table and not set(table["status"]) - {"measured"}
        if mine and ablation_complete(table):
            shutil.copy2(earlier, run.folder.path / ABLATION)
            return table
    count_look(run.folder, run.data.fingerprint)
    return ablate(run, chosen.finalist, largest=len(run.phase.ablatable), deadline=run.deadline)


def _missing_ablations(table: pd.DataFrame) -> list[str]:
    """Components whose removal was not measured with every seed."""
    if "status" not in table:
        return []
    return [str(name) for name in table.loc[table["status"] != "measured", "removed"].drop_duplicates()]


def _over_tuned_v1(source: RunFolder) -> Interval:
    """V2's lead over the tuned V1 that was better on validation, as phase 3 measured it."""
    gains = json.loads((source.path / "evidence.json").read_text())["fusion_gain"]
    validation = pd.read_csv(source.path / "baselines.csv").set_index("name")["ndcg"]
    chosen = max(
        (name for name, gain in gains.items() if gain["kind"] == "tuned V1"), key=lambda name: float(validation[name])
    )
    least = gains[chosen]
    return Interval(least["mean"], least["ci_low"], least["ci_high"])


def _said(chosen: Chosen) -> str:
    return f"finalist {chosen.finalist.trial_id}" if chosen.finalist is not None else "no finalist"
