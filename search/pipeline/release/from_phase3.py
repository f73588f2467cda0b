"""What phase 4 takes over of phase 3: its finalist, trainings and measurements, and the phase that they are of."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from rich.console import Console

from fusion_models.config import Recipe
from fusion_models.data import RankingDataset
from fusion_models.files import link_or_copy
from search.analysis.judged import is_judged
from search.options import RunOptions
from search.pipeline.confirmation.arms import ArmKey, trial_id
from search.pipeline.confirmation.finalist import Finalist, read_finalist
from search.pipeline.phase import run_phase
from search.run_store.artefact import ARTEFACT
from search.run_store.folder import RunFolder, RunFolderError, read_json
from search.run_store.job import Job
from search.run_store.journal import open_journal
from search.run_store.looks import Look, read_look
from search.run_store.mirror import local_results
from search.run_store.records import journal_records
from spaces import PHASE4, Phase, for_dataset

SOURCE = "phase3"
ADOPTED = (
    "finalist.json",
    "evidence.json",
    "judged.json",
    "confirmed.csv",
    "baselines.csv",
    "agreement.csv",
    "examples.parquet",
)
"""What phase 3 measured of its finalist, which phase 4's report shows again."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Phase 3's outcome, as phase 4 takes it over."""

    folder: RunFolder
    finalist: Finalist | None
    verdict: str
    jobs: tuple[Job, ...] = ()
    """The trainings whose mean is the artefact."""
    look: Look | None = None
    """The look that phase 3's intervals rest on: they are read again at its level."""
    unjudged: str = ""
    """Phase 3's finalist where none of its deciding trainings finished: then there is nothing to validate."""


def finished_phase3(options: RunOptions, console: Console) -> RunFolder:
    """RESULTS/phase3, run to its end first where it is not there or was interrupted (with --resume)."""
    source = RunFolder(local_results(options.results) / SOURCE)
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


def read_chosen(source: RunFolder, data: RankingDataset) -> Chosen:
    """What `source` chose and decided. Raises RunFolderError where it was another phase's, or on other data."""
    described = source.read() or {}
    if described.get("phase") != SOURCE:
        raise RunFolderError(f"{source.path} holds a run of {described.get('phase')!r}: phase 4 goes on from {SOURCE}")
    if described.get("fingerprint") != data.fingerprint and described.get("data") == data.source:
        raise RunFolderError(
            f"{source.path} was run on {data.source} as it was, and other data lie there now: bring those of then "
            "back, or give another --results"
        )
    if described.get("fingerprint") != data.fingerprint:
        raise RunFolderError(
            f"{source.path} was run on {described.get('data')}, and --data {data.source} is other data: give "
            f"--data {described.get('data')}, or another --results"
        )
    decision = read_json(source.path / "decision.json")
    finalist = read_finalist(source)
    if finalist is None or not is_judged(source.path):
        name = finalist.trial_id if finalist is not None else ""
        return Chosen(folder=source, finalist=None, verdict=decision["verdict"], unjudged=name)
    wanted = {
        trial_id(ArmKey("finalist", Recipe.from_flat(finalist.recipe).model.modalities), index, finalist.arms)
        for index in range(len(finalist.seeds))
    }
    members = [
        Job(trial_id=r.trial_id, name=r.name, recipe=r.recipe, seed=r.seed, items=r.items, role=r.role)
        for r in journal_records(open_journal(source.journal))
        if r.trial_id in wanted and r.finished
    ]
    look = read_look(decision)
    look = dataclasses.replace(look, by=SOURCE) if look is not None else None
    return Chosen(folder=source, finalist=finalist, verdict=decision["verdict"], jobs=tuple(members), look=look)


def adopt(folder: RunFolder, chosen: Chosen) -> None:
    """Make the run folder whole by itself: the finalist, its trainings and what they measured, linked or copied."""
    assert chosen.finalist is not None
    wanted = [path for name in ADOPTED if (path := chosen.folder.path / name).exists()]
    wanted += [
        p
        for t in [*(job.trial_id for job in chosen.jobs), ARTEFACT]
        for p in (chosen.folder.checkpoints / t).iterdir()
        if p.is_file()
    ]
    for path in wanted:
        link_or_copy(path, folder.path / path.relative_to(chosen.folder.path))


def with_suspect(options: RunOptions, suspect: str, source: RunFolder) -> RunOptions:
    """The options with phase 3's suspect. Raises RunFolderError where another one is asked for."""
    if options.suspect not in (None, suspect):
        raise RunFolderError(
            f"{source.path} asks what {suspect} is worth, not {options.suspect}: leave --suspect out, or run phase 3 "
            f"with --suspect {options.suspect} into another --results"
        )
    return dataclasses.replace(options, suspect=suspect)


def phase_over(phase: Phase, source: Phase) -> Phase:
    """Phase 4 on what `source` searched: its space, components, metric, what V1 reads.

    Its resume gates, too, where this phase's file has none, and every threshold that this file leaves alone.
    """
    own = phase.resume_gates != for_dataset(PHASE4, phase.base.model.of_dataset, phase.suspect).resume_gates
    changed = {k: v for k, v in vars(phase.thresholds).items() if v != getattr(PHASE4.thresholds, k)}
    return dataclasses.replace(
        phase,
        base=source.base,
        ranges=source.ranges,
        ablatable=source.ablatable,
        metric=source.metric,
        v1_reads=source.v1_reads,
        thresholds=dataclasses.replace(source.thresholds, **changed),
        resume_gates=phase.resume_gates if own else source.resume_gates,
    )


def described_choice(chosen: Chosen) -> str:
    if chosen.finalist is not None:
        return f"finalist {chosen.finalist.trial_id}"
    return f"nothing, since {why_unjudged(chosen)}," if chosen.unjudged else "no finalist"


def why_unjudged(chosen: Chosen) -> str:
    return f"{SOURCE}'s finalist {chosen.unjudged} could not be trained again, not once"
