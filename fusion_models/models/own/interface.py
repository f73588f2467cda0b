"""What a ranker of one's own is given, and what it returns. Shapes: B lists, L candidates, M modalities, D width."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fusion_models.config import LossConfig, TrainConfig


class Inputs(NamedTuple):
    """B lists of L candidates, shorter ones padded: all that a ranker may read. No label and no id is among it."""

    features: dict[str, Tensor]
    """Each modality's raw features, `[B, L, D_m]`; zeros where padded."""
    context: Tensor
    """Query features, then pair features, raw: `[B, L, D_c]`; D_c may be 0. Never blanked."""
    v1: Tensor
    """`[B, L]`: V1's score, standardised by the training split; 0 throughout unless `model.context` lets it in."""
    tuned_v1: Tensor
    """`[B, L]`: a tuned V1's score, standardised; 0 throughout unless `model.context` is tuned_v1."""
    valid: Tensor
    """`[B, L]` bool: a real document."""


class Ranked(NamedTuple):
    """Scores, and what a ranker can show beside them. A ranker that shows nothing returns the scores alone."""

    scores: Tensor
    """`[B, L]`; what stands in padded places is not read."""
    projected: Tensor | None = None
    """`[B, L, M, D]`: each modality before fusion, in the order of the modalities. Name it in `gives`."""
    fused: Tensor | None = None
    """`[B, L, D]`: what the score is read from. Name it in `gives`."""
    shares: Tensor | None = None
    """`[B, L, K, M]`: attention (or gate) mass a layer and modality, summing to 1; where `share_kind` says so."""
    value_shares: Tensor | None = None
    """`[B, L, K, M]`: the same mass weighted by the norm of what it moved; never required."""


@dataclass(frozen=True, kw_only=True)
class Widths:
    """How wide each input is, for a ranker's constructor."""

    features: Mapping[str, int]
    """Modality -> D_m, of every modality of the dataset."""
    query: int
    """Of the queries' features, the first columns of the context."""
    context: int
    """D_c: query and pair features."""


class TrainingBatch(NamedTuple):
    """What a training loop of one's own trains on."""

    inputs: Inputs
    labels: Tensor
    """`[B, L]` float64, >= 0; 0 where padded."""
    weight: Tensor | None
    """`[B]`: what each query counts; None: all alike."""


class Training(Protocol):
    """What a training loop of one's own is given: `train_epochs(self, training)` of a ranker."""

    @property
    def train(self) -> TrainConfig:
        """Epochs, rates and the batch that the recipe asks for."""

    @property
    def loss(self) -> LossConfig:
        """The recipe's loss; a loop of one's own need not follow it."""

    @property
    def epoch(self) -> int:
        """Epochs done: above 0 where the training goes on from a checkpoint."""

    @property
    def optimiser(self) -> torch.optim.Optimizer:
        """What the ranker's `make_optimiser(train)` made, or AdamW; checkpoints keep its state."""

    def batches(self) -> Iterator[TrainingBatch]:
        """The training split once, in an order of the training's own seed, on its device."""
