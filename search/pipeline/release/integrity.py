"""Phase 4's integrity step: retrain the finalist on broken labels, look at the splits, and write integrity.csv."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd

from fusion_models.config import Recipe
from fusion_models.data import DataError
from fusion_models.data.crossed_clusters import crossed_clusters
from fusion_models.data.splits import DECIDING
from fusion_models.data.views.relabelled import RELABELLINGS
from fusion_models.evaluation import score, split_lists
from fusion_models.integrity import (
    Check,
    CheckStatus,
    chance_check,
    check,
    copies_check,
    isolation_checks,
    leak_check,
    leak_probe_checks,
    order_check,
    subdomain_check,
    unmeasured,
)
from fusion_models.quantities import ensemble
from fusion_models.work.foreign import first_line
from search.execution.file_transfer import DataTicket, Files, pack, ticket_for, unpacked
from search.execution.job_training import job_dataset
from search.pipeline.confirmation.arms import ArmKey, trial_id
from search.pipeline.confirmation.finalist import Finalist
from search.pipeline.confirmation.test_split import ClosedError, open_inputs, open_labels
from search.pipeline.context import Run
from search.run_store.artifacts import load_ranker, ranker_files, read_outputs
from search.run_store.csv_tables import write_csv
from search.run_store.folder import RunFolder, read_json
from search.run_store.job import Job, Role
from search.run_store.journal import open_journal
from search.run_store.looks import DECIDING_SPLIT, LOOKS, look_of, of_run, opened_before
from search.run_store.records import journal_records
from search.study.seeds import SHORT_LIST_SEEDS
from search.study.stages import SEARCH, FixedStage

STAGE = "integrity"
SEEDS = 3
"""Trainings on each kind of broken labels."""
BROKEN = {
    "permuted": "labels permuted within queries",
    "random": "random labels",
}


def integrity_jobs(finalist: Finalist, seeds: int) -> list[Job]:
    """The finalist's recipe on permuted and on random labels; each seed draws its own labels."""
    kinds: tuple[Literal["permuted", "random"], ...] = RELABELLINGS
    return [
        Job(
            trial_id=f"labels-{kind}-s{seed}",
            name=f"labels {kind}",
            recipe=finalist.recipe,
            seed=SHORT_LIST_SEEDS + seed,
            labels=kind,
            role=Role("labels"),
        )
        for kind in kinds
        for seed in range(seeds)
    ]


def check_integrity(run: Run, finalist: Finalist, source: RunFolder) -> list[Check]:
    """Every integrity check of the finalist of `source`, a finished phase 3; writes integrity.csv. Ray must be running.

    The finalist's recipe is retrained as ordinary trials of the stage `integrity`.
    """
    jobs = integrity_jobs(finalist, SEEDS)
    try:
        job_dataset(ticket_for(run.data), jobs[0])
    except DataError as error:  # too few validation queries to hold a half back
        broken = [unmeasured(BROKEN[kind], "not measured", str(error)) for kind in RELABELLINGS]
    else:
        run.trainer.train([FixedStage(run.store.journal, STAGE, jobs, again=True)])
        broken = broken_label_checks(run, jobs)
    generator = np.random.default_rng(run.options.seed)
    seed, reads = run.options.seed, run.phase.v1_reads
    checks = [
        *_made("isolation of validation", lambda: isolation_checks(run.data, "validation", reported=True), "reported"),
        *_made("copies in validation", lambda: [copies_check(run.data, "validation", reported=True)], "reported"),
        *_made("isolation of test", lambda: open_inputs(run.folder, run.data, seed=seed)),
        *_made("test labels logged under V1", lambda: [open_labels(run.folder, run.data, seed=seed)]),
        *broken,
        *_made("features that leak", lambda: [leak_check(run.data, generator)]),
        *_made("probes for leaks", lambda: leak_probe_checks(run.data, generator, v1_modalities=reads)),
        *_made("order of the candidates", lambda: [order_check(run.data, generator)]),
        *_made("gain beside its best subdomain", lambda: [gain_check(run, finalist, source)]),
        *_made("looks at the test split", lambda: selection_checks(source, run.data.fingerprint)),
    ]
    write_csv(integrity_table(checks), run.folder, "integrity.csv")
    return checks


def _made(name: str, make: Callable[[], Sequence[Check]], failed: CheckStatus = "not measured") -> list[Check]:
    """The checks that `make` makes; where it raises, one check that says why, and that nothing takes for a pass.

    Raises ClosedError, since then there is no finalist to check.
    """
    try:
        return list(make())
    except ClosedError:
        raise
    except Exception as error:  # all that is trained is kept, and the other checks tell
        return [unmeasured(name, failed, f"{type(error).__name__}: {first_line(error)}")]


def gain_check(run: Run, finalist: Finalist, source: RunFolder) -> Check:
    """Whether one subdomain carries all of the gain that `source` measured of its artefact on the test split."""
    key = ArmKey("finalist", Recipe.from_flat(finalist.recipe).model.modalities)
    places = [
        source.checkpoints / trial_id(key, index, finalist.arms) / f"{DECIDING_SPLIT}.npz"
        for index in range(len(finalist.seeds))
    ]
    if not all(place.exists() for place in places):
        return unmeasured("gain beside its best subdomain", "not measured", f"{source.path} kept no test values")
    lists = split_lists(run.data, DECIDING_SPLIT)
    artefact = ensemble([read_outputs(place, lists) for place in places])
    return subdomain_check(
        artefact.ndcg - lists.v1_ndcg,
        run.data.subdomain[lists.rows],
        clusters=crossed_clusters(run.data, DECIDING_SPLIT),
        weights=lists.uneven,
    )


def integrity_table(checks: Sequence[Check]) -> pd.DataFrame:
    """One row a check, in the order in which they were made."""
    return pd.DataFrame([vars(c) for c in checks])


def broken_label_checks(run: Run, jobs: Sequence[Job]) -> list[Check]:
    """nDCG above chance of the trainings on broken labels, on the half of validation that was held back from them."""
    finished = {r.trial_id for r in run.trainer.records(STAGE) if r.finished}
    out = []
    for kind, name in BROKEN.items():
        mine = [job for job in jobs if job.labels == kind and job.trial_id in finished]
        out += _made(name, partial(_above_chance, run, name, mine))
    return out


def _above_chance(run: Run, name: str, jobs: Sequence[Job]) -> list[Check]:
    places, ticket = [run.folder.checkpoints / job.trial_id for job in jobs], ticket_for(run.data)
    rankers = [pack(place, *ranker_files(place)) for place in places]
    calls = [run.trainer.call(_held_back, r, ticket, job) for r, job in zip(rankers, jobs, strict=True)]
    found = [answer() for answer in calls]
    return [chance_check(name, [f[0] for f in found], [f[1] for f in found])]


def _held_back(ranker: Files, ticket: DataTicket, job: Job) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    data = job_dataset(ticket, job)
    with unpacked(ranker) as place:
        scored = score(load_ranker(place, data), data, DECIDING)
    return scored.ndcg(), scored.metric.chance(scored.labels, scored.valid).numpy()


def selection_checks(source: RunFolder, fingerprint: str) -> list[Check]:
    """Whether the test split of `source` stayed closed until its finalist was fixed; and how often others looked.

    Reads finalist.json (when, and on which split it was chosen), test_looks.json (when this run looked) and the
    trainings that were measured on the test split: none of the search's may be among them.
    """
    name = "test split untouched before the finalist was fixed"
    path = source.path / "finalist.json"
    if not path.exists():
        return [unmeasured(name, "fail", f"{path} is missing: no finalist was fixed before the test split was read")]
    said = read_json(path)
    fixed = _time(said.get("fixed")) or datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
    looks = opened_before(source, fingerprint)
    this = look_of(source)
    chosen_for = int(said.get("verdict", 1))  # an earlier verdict of this run had a finalist of its own
    mine = [look for look in looks if of_run(look, this) and int(look.get("verdict", "1")) >= chosen_for]
    wrong = []
    if said.get("chosen_on") != "validation":
        wrong.append(f"the finalist was chosen on {said.get('chosen_on')!r}")
    if not mine:
        wrong.append(f"{LOOKS} does not know when this run looked")
    early = [look["looked"] for look in mine if (when := _time(look["looked"])) is not None and when < fixed]
    wrong += [f"looked at {when}, before the finalist was fixed at {fixed.isoformat()}" for when in early]
    trials = [r.trial_id for r in journal_records(open_journal(source.journal)) if r.stage == SEARCH]
    searched = [t for t in trials if (source.checkpoints / t / f"{DECIDING_SPLIT}.npz").exists()]
    wrong += [f"search trials were measured on the test split: {', '.join(searched[:5])}"] if searched else []
    others = len(looks) - len(mine)
    return [
        check(name, float(len(wrong)), at_most=0.0, detail="; ".join(wrong) or f"fixed at {fixed.isoformat()}"),
        check(
            "other looks at this test split",
            float(others),
            at_most=0.0,
            reported=True,
            detail="intervals do not know of choices made after such looks" if others else "",
        ),
    ]


def _time(text: object) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromisoformat(str(text))
    except ValueError:
        return None
