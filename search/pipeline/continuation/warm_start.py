"""The front of another run, as points that a search asks for first."""

from __future__ import annotations

import json

import pandas as pd

from fusion_models.config import Flat
from search.run_store.folder import RunFolder, RunFolderError
from search.run_store.mirror import located


def front_recipes(run: RunFolder) -> dict[str, Flat]:
    """Trial -> recipe of a run's front, best first."""
    found = pd.read_csv(run.path / "pareto.csv", dtype={"trial_id": str})["trial_id"]
    return {
        f"{trial} of {run.path.name}": json.loads((run.checkpoints / trial / "recipe.json").read_text())["recipe"]
        for trial in found
    }


def warm_recipes(location: str) -> dict[str, Flat]:
    """`front_recipes` of the run at a path or URI. Raises RunFolderError where there is none, or it has no front."""
    path, _ = located(location)
    run = RunFolder(path)
    described = run.read()
    if described is None:
        raise RunFolderError(f"--warm-from {location}: no run lies there (no run.json)")
    if described.get("phase") == "roadmap":
        raise RunFolderError(f"--warm-from {location} is a roadmap: name one of its phases, such as {path / 'phase3'}")
    found = front_recipes(run) if (run.path / "pareto.csv").exists() else {}
    if not found:
        raise RunFolderError(f"--warm-from {location}: that run has no front (pareto.csv is missing or empty)")
    return found
