"""Slow down the modality that is ahead: on-the-fly gradient modulation."""

from __future__ import annotations

import torch
from torch import Tensor

from fusion_models.data.batch import Batch
from fusion_models.models.output import RankerOutput
from fusion_models.models.trainable import TrainableRanker
from fusion_models.process_group import WHOLE, Shard


def modulation_coefficients(
    unimodal: Tensor, batch: Batch, *, strength: float | Tensor, shard: Shard = WHOLE
) -> Tensor:
    """`[M]` in (0, 1]: 1 - tanh(strength · ρ_m) where ρ_m > 1, else 1 (Peng et al. 2022, OGM).

    ρ_m compares how much probability modality m's own head, `unimodal` `[B, L, M]`, gives the relevant documents of a
    list with the mean of the other heads.
    """
    valid = batch.valid.unsqueeze(-1)
    probability = torch.softmax(unimodal.detach().float().masked_fill(~valid, -1e9), dim=1)
    relevant = (batch.labels > 0) & batch.valid
    queries = shard.sum(relevant.any(dim=1).sum()).clamp(min=1)
    evidence = shard.sum((probability * relevant.unsqueeze(-1)).sum(dim=(0, 1))) / queries
    others = (evidence.sum() - evidence) / (len(evidence) - 1)
    ratio = evidence / others.clamp(min=1e-8)
    return torch.where(ratio > 1.0, 1.0 - torch.tanh(strength * ratio), 1.0)


def modulate_gradients(
    model: TrainableRanker, out: RankerOutput, batch: Batch, *, strength: float, shard: Shard = WHOLE
) -> Tensor:
    """Scale the gradients of each modality's encoder in place, after backward; returns the coefficients `[M]`.

    Needs the unimodal heads, which `build_ranker` makes sure of. The encoders alone are slowed: heads and fusion
    learn at their own rate.
    """
    coefficients = modulation_coefficients(out.auxiliary["unimodal"], batch, strength=strength, shard=shard)
    for modality, coefficient in zip(model.modalities, coefficients.unbind(), strict=True):
        for parameter in model.encoder_parameters(modality):
            if parameter.grad is not None:
                parameter.grad.mul_(coefficient)
    return coefficients
