"""Everything that one training carries from epoch to epoch, and how it goes to disk and comes back."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fusion_models.config import Recipe
from fusion_models.data import RankingDataset
from fusion_models.files import whole_folder
from fusion_models.models import TrainableRanker, build_ranker
from fusion_models.models.own.ranker import OwnRanker
from fusion_models.models.own.reference import OwnModelError
from fusion_models.screening import start_screened
from fusion_models.training.optimiser import EagerAdamW
from fusion_models.tuned_v1 import equip

TENSORS = "state.safetensors"
PROGRESS = "progress.json"


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or that belongs to another recipe, seed or dataset."""


@dataclass(kw_only=True)
class TrainingState:
    """One training between two epochs."""

    recipe: Recipe
    seed: int
    model: TrainableRanker
    optimiser: torch.optim.Optimizer
    device: torch.device
    generator: torch.Generator
    """Order of queries, dropped modalities, shuffles: always on the CPU, so that devices agree."""
    random_state: Tensor
    """torch's own generator, which the dropout layers read."""
    epoch: int = 0
    """Epochs done."""
    best_epoch: int = 0
    best_ndcg: float = float("-inf")
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    best_numbers: dict[str, float] = field(default_factory=dict)
    """What the best epoch's evaluation measured."""
    ended: bool = False
    """A training loop of somebody's own has come to its end by itself."""

    @property
    def finished(self) -> bool:
        """At the last epoch, or `patience` epochs without a better validation nDCG."""
        train = self.recipe.train
        return self.ended or self.epoch >= train.epochs or self.epoch - self.best_epoch >= train.patience


def start(recipe: Recipe, data: RankingDataset, *, seed: int, device: torch.device | str = "cpu") -> TrainingState:
    """A fresh training: weights, order and dropout all follow from `seed`."""
    device = torch.device(device)
    with torch.random.fork_rng(devices=_cuda_devices(device)):
        torch.manual_seed(seed)
        model = build_ranker(recipe, data.schema, data.statistics)
        equip(model, data)
        start_screened(model, data)
        model = model.to(device)
        random_state = torch.get_rng_state()
    return TrainingState(
        recipe=recipe,
        seed=seed,
        model=model,
        optimiser=_optimiser(model, recipe),
        device=device,
        generator=torch.Generator().manual_seed(seed),
        random_state=random_state,
    )


def _cuda_devices(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []


def _optimiser(model: TrainableRanker, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW; the suspect's encoder has its own rate, and vectors (biases, norms, null tokens) do not decay.

    Beside a training loop of somebody's own, what the module's `make_optimiser` makes, where it has one.
    """
    train = recipe.train
    if isinstance(model, OwnRanker) and model.own.has_loop and hasattr(model.ranker, "make_optimiser"):
        made: torch.optim.Optimizer = model.ranker.make_optimiser(train)  # type: ignore[operator]
        return made
    has = model.suspect in model.modalities
    suspect = {id(p) for p in model.encoder_parameters(model.suspect)} if has else set()
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for parameter in model.parameters():
        scale = train.suspect_learning_rate_scale if id(parameter) in suspect else 1.0
        decay = train.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((scale, decay), []).append(parameter)
    return EagerAdamW(
        [{"params": params, "scale": scale, "weight_decay": decay} for (scale, decay), params in groups.items()],
        lr=train.learning_rate,
        fused=True,
    )


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What makes a training's state, beside its recipe: on the CPU, ready for a disk or for another process."""

    tensors: dict[str, Tensor]
    progress: dict[str, Any]


def contents(state: TrainingState) -> Contents:
    """Everything of `state` that a fresh training of the same recipe and seed does not have."""
    tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in state.model.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in state.best_weights.items()}
    optimiser = state.optimiser.state_dict()
    for index, slots in optimiser["state"].items():
        tensors |= {f"optimiser.{index}.{n}": v for n, v in slots.items() if isinstance(v, Tensor)}
    tensors |= {"random.order": state.generator.get_state(), "random.torch": state.random_state}
    progress = {
        "recipe": state.recipe.flat(),
        "seed": state.seed,
        "epoch": state.epoch,
        "best_epoch": state.best_epoch,
        "best_ndcg": state.best_ndcg,
        "best_numbers": state.best_numbers,
        "groups": optimiser["param_groups"],
        "slots": {
            str(index): {n: v for n, v in slots.items() if not isinstance(v, Tensor)}
            for index, slots in optimiser["state"].items()
        },
    }
    return Contents(tensors={k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}, progress=progress)


def restore(state: TrainingState, found: Contents) -> None:
    """Put `found` into a fresh `state` of the same recipe and seed."""
    tensors, progress = found.tensors, found.progress
    state.model.load_state_dict(_below(tensors, "model."))
    slots: dict[int, dict[str, Any]] = {int(i): dict(plain) for i, plain in progress["slots"].items() if plain}
    for key, value in _below(tensors, "optimiser.").items():
        index, name = key.split(".", 1)
        slots.setdefault(int(index), {})[name] = value
    state.optimiser.load_state_dict({"state": slots, "param_groups": progress["groups"]})
    state.generator.set_state(tensors["random.order"])
    state.random_state = tensors["random.torch"]
    state.best_weights = {k: v.to(state.device) for k, v in _below(tensors, "best.").items()}
    state.epoch, state.best_epoch, state.best_ndcg = progress["epoch"], progress["best_epoch"], progress["best_ndcg"]
    state.best_numbers = progress["best_numbers"]


def save(state: TrainingState, folder: Path) -> None:
    """Write `state` to `folder`, whole or not at all: a reader never sees half a checkpoint.

    The checkpoint before it stays beside it, for the day that this one cannot be read. Raises OSError where it cannot
    be written, OwnModelError where an optimiser of somebody's own cannot; both earlier ones are then as they were.
    """
    found = contents(state)
    _require_kept(state, found)
    try:
        with whole_folder(folder, previous=previous_checkpoint(folder)) as staging:
            save_file(found.tensors, staging / TENSORS)
            progress = found.progress | {"crc32": _checksum(staging / TENSORS)}
            (staging / PROGRESS).write_text(json.dumps(progress))
            _sync(staging)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def _require_kept(state: TrainingState, found: Contents) -> None:
    parts = [*found.progress["groups"], *found.progress["slots"].values()]
    lost = sorted({name for part in parts for name, value in part.items() if not _is_plain(value)})
    if lost and isinstance(state.model, OwnRanker):
        raise OwnModelError(
            f"{state.model.own.reference}: a checkpoint cannot keep {', '.join(lost)} of its optimiser "
            f"({type(state.optimiser).__name__}): state is single tensors and plain numbers, groups are plain numbers; "
            "make_optimiser must make such a one (not LBFGS, no rate that is a tensor)"
        )


def _is_plain(value: Any) -> bool:
    """Whether JSON brings it back."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def previous_checkpoint(folder: Path) -> Path:
    """Where the checkpoint before the one in `folder` lies."""
    return folder.with_name(f".{folder.name}.previous")


def _checksum(path: Path) -> int:
    """CRC-32 of a file: safetensors itself does not notice a flipped bit."""
    found = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found = zlib.crc32(block, found)
    return found


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def discard(folder: Path) -> None:
    """Delete the checkpoint in `folder`, and what a writer that was killed left beside it."""
    shutil.rmtree(folder, ignore_errors=True)
    for rest in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(rest, ignore_errors=True)


def load(
    folder: Path, recipe: Recipe, data: RankingDataset, *, seed: int, device: torch.device | str = "cpu"
) -> TrainingState:
    """The training saved in `folder`, to go on as if it had never stopped; by fewer or more processes, if need be.

    Where the last checkpoint cannot be read, the one before it. Raises CheckpointError if there is none, or if all of
    them are damaged or belong to another recipe or seed.
    """
    errors = []
    for candidate in (folder, previous_checkpoint(folder)):
        if candidate.exists():
            try:
                found = _read(candidate, recipe, seed)
                state = start(recipe, data, seed=seed, device=device)
                restore(state, found)
            except CheckpointError as error:
                errors.append(error)
            else:
                return state
    raise errors[0] if errors else CheckpointError(f"no checkpoint in {folder.parent}")


def _read(folder: Path, recipe: Recipe, seed: int) -> Contents:
    try:
        progress: dict[str, Any] = json.loads((folder / PROGRESS).read_text())
        known = progress["crc32"], progress["recipe"], progress["seed"]
        if _checksum(folder / TENSORS) != known[0]:
            raise OSError(f"{TENSORS} is not what was written")
        tensors = load_file(folder / TENSORS)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"checkpoint {folder} cannot be read ({error}): delete it to start afresh") from error
    if known[1:] != (recipe.flat(), seed):
        raise CheckpointError(f"checkpoint {folder} belongs to another recipe or seed: delete it to start afresh")
    return Contents(tensors=tensors, progress=progress)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
