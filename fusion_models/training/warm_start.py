"""Weights that a training starts from, where it does not start afresh: what a team has in production.

A file of tensors by name: safetensors, or a PyTorch state dict, which is read without executing anything in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fusion_models.models import TrainableRanker
from fusion_models.models.own.ranker import OwnRanker
from fusion_models.models.trainable import HEADS
from fusion_models.work.foreign import first_line

TREES = "trees."
BY_MODALITY = re.compile(r"(fusion\.(?:values|branches|factors)\.|fusion\.layers\.\d+\.|unimodal\.heads\.)(\d+)(\..*)")
"""Parameters that a modality has by its place among the ranker's, not by its name."""
TOLD = 3
"""Misfits that an error names."""


class WeightsError(ValueError):
    """Weights that cannot be read, or that do not fit the model."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or a state dict, by name, on the CPU. Raises WeightsError."""
    if not path.is_file():
        raise WeightsError(f"--weights {path}: there is no such file")
    try:
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever a byte that is no opcode leads to
        said = first_line(error).rstrip(".")
        raise WeightsError(
            f"--weights {path} is neither safetensors nor a plain state dict ({said}): write one by "
            "torch.save(model.state_dict(), FILE); a whole pickled model is not opened, since that executes code"
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(x, Tensor) for x in found.values()) or not found:
        raise WeightsError(f"--weights {path} holds no tensors by name: give a state dict (model.state_dict())")
    return dict(found)


def module_of(model: TrainableRanker) -> nn.Module:
    """Whose names the weights have: somebody's own module itself, or a ranker of our family."""
    return model.ranker if isinstance(model, OwnRanker) else model


def fitting(model: TrainableRanker, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What of the weights has a place in the model, by the name that it has there: the same tensor, of its shape.

    A refit's parts of a modality come from that modality's, wherever it stands. A tuned V1's trees are always this
    dataset's own (`tuned_v1.equip`): theirs know its training queries, and those of a refit read other columns.
    """
    there, ours = module_of(model).state_dict(), not isinstance(model, OwnRanker)
    theirs = [m for m in model.input_widths if any(n.startswith(f"projections.encoders.{m}.") for n in weights)]
    found = {}
    for name, x in there.items():
        source = _name_there(name, model.modalities, theirs) if ours else name
        if source in weights and weights[source].shape == x.shape:
            found[name] = weights[source]
    return found


def _name_there(name: str, modalities: Sequence[str], theirs: Sequence[str]) -> str:
    """What a tensor of a ranker of `modalities` is called in one of `theirs`; empty where that has none."""
    if name.startswith(TREES):
        return ""
    placed = BY_MODALITY.match(name)
    if placed is None:
        return name
    place = int(placed[2])
    if place >= len(modalities):  # the query's, behind them
        return f"{placed[1]}{place - len(modalities) + len(theirs)}{placed[3]}"
    return f"{placed[1]}{theirs.index(modalities[place])}{placed[3]}" if modalities[place] in theirs else ""


def require_fitting(model: TrainableRanker, weights: Mapping[str, Tensor], path: Path) -> None:
    """Raise WeightsError, in one line, unless every tensor has its place and every parameter its tensor.

    Heads that only a loss reads may be missing, and products: they start afresh.
    """
    module = module_of(model)
    there = module.state_dict()
    wrong = [
        f"{name} is {list(x.shape)} there and {list(there[name].shape)} in the model"
        for name, x in weights.items()
        if name in there and there[name].shape != x.shape
    ]
    wrong += [f"the model has no {name}" for name in weights if name not in there]
    heads = () if isinstance(model, OwnRanker) else HEADS
    encoders = [f"projections.encoders.{modality}" for modality in model.product_units()]
    products = tuple(f"{encoder}.{part}." for encoder in encoders for part in ("products", "of_products"))
    wrong += [
        f"{name} is missing there"
        for name, _ in module.named_parameters()
        if name not in weights and name.partition(".")[0] not in heads and not name.startswith(products)
    ]
    if model.screened_encoders():
        wrong.append("model.columns is confirmed, which reads other columns than the weights do: set it to all")
    if wrong:
        more = f"; and {len(wrong) - TOLD} more" if len(wrong) > TOLD else ""
        raise WeightsError(f"--weights {path} do not fit the base recipe: {'; '.join(wrong[:TOLD])}{more}")


def warm_start(model: TrainableRanker, weights: Mapping[str, Tensor]) -> None:
    """Give a fresh model what fits of the weights, in place; a refit has no place for a modality that it leaves out."""
    module_of(model).load_state_dict(fitting(model, weights), strict=False)
