"""The front of another run, as points that a search asks for first."""

from __future__ import annotations

import pandas as pd

from fusion_models.config import Flat
from search.run_store.artifacts import RECIPE
from search.run_store.folder import RunFolder, RunFolderError, read_json
from search.run_store.mirror import located

_REMEDY = "the front of a run is read from a whole copy of it, checkpoints/*/recipe.json too"


def front_recipes(run: RunFolder) -> dict[str, Flat]:
    """Trial -> recipe of a run's front, best first.

    Raises RunFolderError, naming the file, where the front or the recipe of one of its trials is gone or broken.
    """
    place = run.path / "pareto.csv"
    try:
        found = pd.read_csv(place, dtype={"trial_id": str})["trial_id"]
    except pd.errors.EmptyDataError:
        return {}
    except (OSError, ValueError, KeyError) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise RunFolderError(f"{place} cannot be read ({said}): {_REMEDY}") from error
    return {f"{trial} of {run.path.name}": _recipe(run, trial) for trial in found}


def _recipe(run: RunFolder, trial: str) -> Flat:
    place = run.checkpoints / trial / RECIPE
    said = read_json(place, remedy=_REMEDY)
    if not isinstance(said.get("recipe"), dict):
        raise RunFolderError(f"{place} holds no recipe: {_REMEDY}")
    return dict(said["recipe"])


def warm_recipes(location: str) -> dict[str, Flat]:
    """`front_recipes` of the run at a path or URI. Raises RunFolderError where there is none, or it has no front."""
    path, _ = located(location)
    run = RunFolder(path)
    described = run.read()
    if described is None:
        raise RunFolderError(f"--warm-from {location}: no run lies there (no run.json)")
    if described.get("phase") == "roadmap":
        raise RunFolderError(f"--warm-from {location} is a roadmap: name one of its phases, such as {path / 'phase3'}")
    found: dict[str, Flat] = {}
    if (run.path / "pareto.csv").exists():
        try:
            found = front_recipes(run)
        except RunFolderError as error:
            raise RunFolderError(f"--warm-from {location}: {error}") from error
    if not found:
        raise RunFolderError(f"--warm-from {location}: that run has no front (pareto.csv is missing or empty)")
    return found
