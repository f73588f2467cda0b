"""The ranker that would be released: its members' weights in one folder, beside their recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fusion_models.data.schema import DataDescription
from search.run_store.artifacts import write_ensemble
from search.run_store.folder import RunFolder, RunFolderError
from spaces import ROADMAP_STEPS

ARTEFACT = "artefact"
"""Its folder among the checkpoints."""


def write_artefact(folder: RunFolder, members: Sequence[str], data: DataDescription) -> None:
    """Put the members' weights (trial ids, in order) together, so that `load_ranker` opens them as one ranker.

    Beside them what they were trained on, so that they score without the dataset.
    """
    write_ensemble(folder.checkpoints / ARTEFACT, [folder.checkpoints / trial_id for trial_id in members], data)


def releasing(run: Path, trial: str | None = None) -> Path:
    """The folder whose ranker stands for a run: its own, or that of a roadmap's last phase that has one to release.

    `trial`: whose ranker is asked for instead, by an id that every phase may have. Raises RunFolderError where a
    roadmap's phase must be named, or has none, and for an audit, which trains none.
    """
    of = (RunFolder(run).read() or {}).get("phase")
    if of == "audit":
        raise RunFolderError(f"{run} holds an audit, which trains no ranker: V2 is the one that it was given")
    if of != "roadmap":
        return run
    begun = [run / name for name in reversed(ROADMAP_STEPS) if (run / name / "run.json").exists()]
    if trial is not None:
        known = ", ".join(str(path) for path in begun) or "none has begun"
        raise RunFolderError(f"{run} is a roadmap: name the phase whose trial {trial!r} it is ({known})")
    for path in begun:
        if (RunFolder(path).checkpoints / ARTEFACT / "recipe.json").exists():
            return path
    raise RunFolderError(f"{run} is a roadmap, none of whose phases has a ranker to release: nothing was confirmed")
