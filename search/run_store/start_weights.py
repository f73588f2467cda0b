"""The weights that a run's trainings start from (`--weights`), kept in its folder: the file itself may go."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from fusion_models.config import Flat, Recipe
from fusion_models.data import RankingDataset
from fusion_models.files import whole
from fusion_models.models import build_ranker
from fusion_models.training.warm_start import read_weights, require_fitting

START = "start"
"""Their folder among the checkpoints."""
START_FILE = "start.safetensors"


def require_start_weights(path: str, recipe: Recipe, data: RankingDataset) -> dict[str, Tensor]:
    """The weights. Raises WeightsError where they cannot be read or do not fit the base recipe."""
    weights = read_weights(Path(path))
    require_fitting(build_ranker(recipe, data.schema, data.statistics), weights, Path(path))
    return weights


def keep_start_weights(
    path: str, checkpoints: Path, recipe: Recipe, data: RankingDataset, *, anew: bool = False
) -> None:
    """Read the weights, hold them against the base recipe, and keep them; those that are kept already stay.

    `anew`: of a run that begins, so that what an earlier beginning left there does not stay.

    Raises WeightsError where they cannot be read or do not fit.
    """
    place = checkpoints / START / START_FILE
    if place.exists() and not anew:
        return
    weights = require_start_weights(path, recipe, data)
    place.parent.mkdir(parents=True, exist_ok=True)
    with whole(place) as part:
        save_file({name: tensor.contiguous().clone() for name, tensor in weights.items()}, part)


def kept_start(checkpoints: Path) -> Path | None:
    """The weights that are kept there; None where there are none."""
    place = checkpoints / START / START_FILE
    return place if place.exists() else None


def described_start(path: str | None, checkpoints: Path) -> Flat | None:
    """What run.json holds of them: where they came from, and a hash."""
    place = checkpoints / START / START_FILE
    if not place.exists():
        return None
    return {"file": path, "sha256": hashlib.sha256(place.read_bytes()).hexdigest()}


def adopt_start_weights(source: Path, checkpoints: Path) -> None:
    """Keep another run's, which goes on with its recipes."""
    place = source / START / START_FILE
    if place.exists() and not (checkpoints / START / START_FILE).exists():
        (checkpoints / START).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(place, checkpoints / START / START_FILE)
