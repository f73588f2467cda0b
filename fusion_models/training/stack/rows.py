"""A training's state as a row of a stack's matrices, and back."""

from __future__ import annotations

import torch
from torch import Tensor

from fusion_models.training.stack.network import StackedRanker
from fusion_models.training.stack.optimiser import StackedAdamW
from fusion_models.training.state import TrainingState


@torch.no_grad()
def read_state(member: TrainingState, ranker: StackedRanker, optimiser: StackedAdamW, best: Tensor, place: int) -> None:
    """Fill row `place` from a training: weights, both moments, steps done, and the best weights so far."""
    parameters = dict(member.model.named_parameters())
    optimiser.weights[place] = ranker.row({name: p.data for name, p in parameters.items()})
    optimiser.first[place], optimiser.second[place], optimiser.steps[place] = 0.0, 0.0, 0.0
    slots = {name: member.optimiser.state[p] for name, p in parameters.items() if p in member.optimiser.state}
    if slots:
        optimiser.first[place] = ranker.row({name: slot["exp_avg"] for name, slot in slots.items()})
        optimiser.second[place] = ranker.row({name: slot["exp_avg_sq"] for name, slot in slots.items()})
        optimiser.steps[place] = next(iter(slots.values()))["step"].double()
    best[place] = ranker.row(member.best_weights) if member.best_weights else optimiser.weights[place]


@torch.no_grad()
def write_state(
    member: TrainingState, ranker: StackedRanker, optimiser: StackedAdamW, best: Tensor, place: int
) -> None:
    """Bring a training up to date from row `place`.

    One copy of each row, which the training's tensors then are views of: a copy a tensor would be hundreds.
    """
    weights, first, second, kept = (
        ranker.named(x[place].clone()) for x in (optimiser.weights, optimiser.first, optimiser.second, best)
    )
    steps = optimiser.steps[place].float()
    for name, parameter in member.model.named_parameters():
        parameter.data = weights[name]
        parameter.grad = None
        member.optimiser.state[parameter] = {
            "step": steps.clone(),
            "exp_avg": first[name],
            "exp_avg_sq": second[name],
        }
    if member.best_epoch > 0:
        member.best_weights = {
            name: kept[name] if name in kept else value.detach().clone()
            for name, value in member.model.state_dict().items()
        }
