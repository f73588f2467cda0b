"""Everything that one training carries from epoch to epoch, and how it goes to disk and comes back."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fusion_models.config import Recipe
from fusion_models.data import RankingDataset
from fusion_models.models import FusionRanker, build_ranker


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or that belongs to another recipe, seed or dataset."""


@dataclass(kw_only=True)
class TrainingState:
    """One training between two epochs."""

    recipe: Recipe
    seed: int
    model: FusionRanker
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

    @property
    def finished(self) -> bool:
        """At the last epoch, or `patience` epochs without a better validation nDCG."""
        train = self.recipe.train
        return self.epoch >= train.epochs or self.epoch - self.best_epoch >= train.patience


def start(recipe: Recipe, data: RankingDataset, *, seed: int, device: torch.device | str = "cpu") -> TrainingState:
    """A fresh training: weights, order and dropout all follow from `seed`."""
    device = torch.device(device)
    with torch.random.fork_rng(devices=_cuda_devices(device)):
        torch.manual_seed(seed)
        model = build_ranker(recipe, data.schema, data.statistics).to(device)
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


def _optimiser(model: FusionRanker, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW; the image encoder has its own rate, and vectors (biases, norms, null tokens) do not decay."""
    train = recipe.train
    visual = {id(p) for p in model.encoder_parameters("visual")} if "visual" in model.modalities else set()
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for parameter in model.parameters():
        scale = train.visual_learning_rate_scale if id(parameter) in visual else 1.0
        decay = train.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((scale, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": params, "scale": scale, "weight_decay": decay} for (scale, decay), params in groups.items()],
        lr=train.learning_rate,
        fused=True,
    )


def save(state: TrainingState, folder: Path) -> None:
    """Write `state` to `folder`, whole or not at all: a reader never sees half a checkpoint."""
    staging = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in state.model.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in state.best_weights.items()}
    optimiser = state.optimiser.state_dict()
    for index, slots in optimiser["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in slots.items()}
    tensors |= {"random.order": state.generator.get_state(), "random.torch": state.random_state}
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, staging / "state.safetensors")
    progress = {
        "recipe": state.recipe.flat(),
        "seed": state.seed,
        "epoch": state.epoch,
        "best_epoch": state.best_epoch,
        "best_ndcg": state.best_ndcg,
        "best_numbers": state.best_numbers,
        "groups": optimiser["param_groups"],
    }
    (staging / "progress.json").write_text(json.dumps(progress))
    _sync(staging)
    previous = folder.with_name(f".{folder.name}.previous")
    shutil.rmtree(previous, ignore_errors=True)
    if folder.exists():
        folder.rename(previous)
    staging.rename(folder)
    shutil.rmtree(previous, ignore_errors=True)


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
    """The training saved in `folder`, to go on as if it had never stopped.

    Raises CheckpointError if there is none, or if its files are damaged or belong to another recipe or seed.
    """
    if not folder.exists():
        folder = folder.with_name(f".{folder.name}.previous")  # a writer was killed between its two renames
    if not folder.exists():
        raise CheckpointError(f"no checkpoint in {folder.parent}")
    state = start(recipe, data, seed=seed, device=device)
    try:
        progress: dict[str, Any] = json.loads((folder / "progress.json").read_text())
        tensors = load_file(folder / "state.safetensors", device=str(state.device))
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"checkpoint {folder} cannot be read ({error}): delete it to start afresh") from error
    if (progress["recipe"], progress["seed"]) != (recipe.flat(), seed):
        raise CheckpointError(f"checkpoint {folder} belongs to another recipe or seed: delete it to start afresh")
    state.model.load_state_dict(_below(tensors, "model."))
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in _below(tensors, "optimiser.").items():
        index, name = key.split(".", 1)
        slots.setdefault(int(index), {})[name] = value
    state.optimiser.load_state_dict({"state": slots, "param_groups": progress["groups"]})
    state.generator.set_state(tensors["random.order"].cpu())
    state.random_state = tensors["random.torch"].cpu()
    state.best_weights = _below(tensors, "best.")
    state.epoch, state.best_epoch, state.best_ndcg = progress["epoch"], progress["best_epoch"], progress["best_ndcg"]
    state.best_numbers = progress["best_numbers"]
    return state


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
