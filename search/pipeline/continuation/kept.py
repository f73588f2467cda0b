"""Verdicts of a run: the one that stands, and the earlier ones, kept in verdicts/1, verdicts/2 and so on."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fusion_models.files import link_or_copy, whole_folder
from search.options import RunOptions
from search.run_store.artefact import ARTEFACT
from search.run_store.folder import REPORT_DUE, RunFolder, RunFolderError, now

KEPT = (
    "decision.json",
    "decision.md",
    "judged.json",
    "evidence.json",
    "finalist.json",
    "confirmed.csv",
    "baselines.csv",
    "ablation.csv",
    "pareto.csv",
    "importances.csv",
    "agreement.csv",
    "examples.parquet",
    "report.html",
)
"""Of a verdict: copied before a further one is written."""
OF_A_LOOK = ("judged.json", "evidence.json", "agreement.csv", "examples.parquet")
"""What only a look at the deciding split gives; so does the artefact."""
MACHINE = (
    "time_budget",
    "max_concurrent",
    "address",
    "workers_per_trial",
    "cpus_per_worker",
    "gpus_per_worker",
    "stack",
    "epoch_limit",
    "results",
    "track",
)
"""Options that are those of now, not of the run that is gone on with."""
ASKS = ("phase", "name", "resume", "fresh", "settle", "extend", "phase_file", "facts", "data")
"""Options that say which run is meant and what to do with it. Facts and data are the run's where none are given; data
that are given are the same ones, moved."""
JUDGED_TRIALS = "judged_trials"
"""In run.json: trials of the search when the standing verdict was taken, where an extension was given up after more."""
EXTEND = "--extend"
UNDER_WAY = "further"
"""In run.json: the further verdict that was begun and has not ended."""


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A further verdict that is under way."""

    number: int
    start: str
    """UTC."""
    resumed: bool
    """Whether it was begun before, and interrupted."""


def standing_verdict(folder: RunFolder) -> int:
    """The number of the verdict that stands in the run folder; 1 for the first."""
    further = (folder.read() or {}).get("verdicts", [])
    return int(further[-1]["number"]) if further else 1


def begun_before(folder: RunFolder, by: str) -> bool:
    """Whether the further verdict that `by` (a flag) asks for was begun and interrupted.

    Raises RunFolderError where another one was: what has looked at the deciding split must be ended first.
    """
    found = (folder.read() or {}).get(UNDER_WAY)
    if found is not None and found["by"] != by:
        raise RunFolderError(f"{folder.path} has begun verdict {found['number']} by {found['by']}: end that one first")
    return found is not None


def require_no_verdict_under_way(folder: RunFolder) -> None:
    """Raises RunFolderError where a further verdict was begun and interrupted: the run is not as its verdict says."""
    found = (folder.read() or {}).get(UNDER_WAY)
    if found is not None:
        raise RunFolderError(
            f"{folder.path}: verdict {found['number']} was begun by {found['by']} and interrupted, so the run is "
            f"between two verdicts: give that command again (with {found['by']}) to end it"
        )


def begin_verdict(folder: RunFolder, by: str, **said: Any) -> Begun:
    """Keep the verdict that stands in verdicts/NUMBER, its artefact too, and note in run.json that the next is begun.

    One that was interrupted goes on; what it kept stays as it is. What lies there else, of one that was given up, is
    replaced. `said`: what more is to be known of it.
    """
    resumed = begun_before(folder, by)
    standing, described = standing_verdict(folder), folder.read() or {}
    place = folder.verdicts / str(standing)
    if not resumed or not place.exists():
        with whole_folder(place) as part:
            for name in KEPT:
                if (folder.path / name).exists():
                    shutil.copy2(folder.path / name, part / name)
            artefact = folder.checkpoints / ARTEFACT
            for path in artefact.glob("*") if artefact.exists() else ():
                link_or_copy(path, part / ARTEFACT / path.name)
    if not resumed:
        begun = {"number": standing + 1, "by": by, "start": now(), "before": described["end"]} | said
        folder.write(described | {UNDER_WAY: begun})
    start = (folder.read() or {})[UNDER_WAY]["start"]
    return Begun(number=standing + 1, start=start, resumed=resumed)


def end_verdict(folder: RunFolder, **said: Any) -> None:
    """Write into run.json that the verdict that was under way stands now; `said`: what more is to be known of it."""
    described = folder.read() or {}
    entry = described.pop(UNDER_WAY) | {"end": now()} | said
    if entry["by"] == EXTEND:  # now all of the search is judged
        described.pop(JUDGED_TRIALS, None)
    described |= {"verdicts": [*described.get("verdicts", []), entry]}
    folder.write(described | {"end": entry["end"], REPORT_DUE: True})


def drop_ablation_of_another(folder: RunFolder, finalist: str, verdict: int) -> None:
    """Delete ablation.csv where it tells of an earlier verdict's finalist, with which it is kept."""
    path = folder.path / "ablation.csv"
    if path.exists() and verdict > 1 and set(pd.read_csv(path, dtype=str)["trial_id"]) != {finalist}:
        path.unlink()


def drop_evidence(folder: RunFolder) -> None:
    """Delete what an earlier verdict was taken from, and its artefact, both kept with it: the later one has none."""
    for name in OF_A_LOOK:
        (folder.path / name).unlink(missing_ok=True)
    shutil.rmtree(folder.checkpoints / ARTEFACT, ignore_errors=True)


def kept_front(folder: RunFolder) -> set[str]:
    """Trials on the front of any verdict that was kept: their weights stay."""
    tables = [pd.read_csv(path, dtype={"trial_id": str}) for path in folder.verdicts.glob("*/pareto.csv")]
    return {trial for table in tables for trial in table["trial_id"]}


def require_unchanged(folder: RunFolder, options: RunOptions, may_change: tuple[str, ...]) -> None:
    """Raises RunFolderError for an option that is given and is another one than the run was made with.

    An option that is left at its default is the run's own.
    """
    before = (folder.read() or {}).get("options") or {}
    defaults = {field.name: field.default for field in dataclasses.fields(RunOptions)}
    wrong = []
    for name, default in defaults.items():
        value = getattr(options, name)
        was = tuple(before[name]) if isinstance(before.get(name), list) else before.get(name, default)
        if name not in may_change and value not in (default, was):
            wrong.append(f"{name} was {was!r} and is now {value!r}")
    if wrong:
        raise RunFolderError(
            f"{folder.path} was run with other options ({', '.join(wrong)}): leave them out, or give the run another "
            "--name"
        )
