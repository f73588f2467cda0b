"""Which trainings can share kernels: those of one structure, whatever their numbers."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from fusion_models.config import LOSS_TERMS, LossConfig, Recipe

Structure = tuple[tuple[str, object], ...]

SWITCHES: tuple[str, ...] = (
    *(f"loss.{name}" for name in LOSS_TERMS),
    "train.modality_dropout",
    "train.gradient_modulation",
)
"""Numbers of which the structure holds only whether they are above 0: that decides what is built and computed. Named as
the fields are: `Recipe.key` gives the flat key."""
LOSS_NUMBERS: tuple[str, ...] = (
    *LOSS_TERMS,
    "temperature",
    "reliance_margin",
    "attention_entropy_target",
    "decorrelation_target",
)
"""Numbers of a loss that the members of a stack may have each their own of."""
FREE: frozenset[str] = frozenset(
    {
        *(f"loss.{name}" for name in LOSS_NUMBERS),
        "model.dropout",
        "model.token_dropout",
        "train.epochs",
        "train.patience",
        "train.learning_rate",
        "train.suspect_learning_rate_scale",
        "train.weight_decay",
        "train.warmup",
        "train.gradient_clip",
        "train.modality_dropout",
        "train.gradient_modulation",
    }
)
"""Numbers whose values may differ within a stack, named in the same way."""


def structure(recipe: Recipe) -> Structure:
    """What two recipes must have in common to train in one stack; hashable.

    A switch counts as on or off, a free number not at all, all else by its value.
    """
    flat, free = recipe.flat(), {recipe.key(name) for name in FREE}
    fixed = {key: value for key, value in flat.items() if key not in free}
    return tuple(sorted((fixed | {key: flat[key] > 0.0 for key in map(recipe.key, SWITCHES)}).items()))


def differences(one: Recipe, other: Recipe) -> list[str]:
    """Flat keys that keep two recipes from sharing a stack; empty where they may."""
    left, right = dict(structure(one)), dict(structure(other))
    return [key for key in left if left[key] != right.get(key)]


def buffers_digest(model: nn.Module) -> str:
    """Of what a ranker reads and does not train, such as its scales: members of a stack share it.

    Weights that a training started from bring their own (`warm_start`), and so may a fusion of somebody's own.
    """
    digest = hashlib.sha256()
    for name, buffer in model.named_buffers():
        bits = buffer.detach().cpu().contiguous().reshape(-1).view(torch.uint8)  # numpy knows no bfloat16
        digest.update(name.encode() + bits.numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def copy_buffers(source: nn.Module, into: nn.Module) -> None:
    """Give `into` the buffers of a ranker of its structure."""
    theirs = dict(source.named_buffers())
    for name, buffer in into.named_buffers():
        buffer.copy_(theirs[name])


def terms_on(config: LossConfig) -> list[str]:
    """Names of the loss terms that have a weight, in the order in which they are computed."""
    return [name for name in LOSS_TERMS if getattr(config, name) > 0.0]


def numbers_of(recipes: Iterable[Recipe], device: torch.device) -> dict[str, Tensor]:
    """Every free number as float32 `[S]`, one entry a member, by its name in `FREE`."""
    flats = [(recipe, recipe.flat()) for recipe in recipes]
    return {
        name: torch.tensor([float(flat[recipe.key(name)]) for recipe, flat in flats], device=device)
        for name in sorted(FREE)
    }


def member_config(common: LossConfig, numbers: dict[str, Tensor]) -> LossConfig:
    """`common` with its numbers replaced by tensors `[]`, which the terms do nothing with but arithmetic.

    The dataclass checks its values when it is built, which a tensor under `vmap` would not stand: so a copy is changed.
    """
    config = copy.copy(common)
    for name in LOSS_NUMBERS:
        object.__setattr__(config, name, numbers[f"loss.{name}"])
    return config
