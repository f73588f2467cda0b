"""A training loop of somebody's own (`train_epochs` of a ranker), stepped epoch by epoch as ours is."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import torch

from fusion_models.config import LossConfig, TrainConfig
from fusion_models.data import RankingDataset
from fusion_models.models import TrainableRanker
from fusion_models.models.own.interface import TrainingBatch
from fusion_models.models.own.ranker import OwnRanker
from fusion_models.models.own.reference import OwnModelError
from fusion_models.process_group import ProcessGroup
from fusion_models.training.seeding import seed_epoch
from fusion_models.training.state import TrainingState
from fusion_models.training.step import DivergedError


def has_own_loop(model: TrainableRanker) -> bool:
    """Whether the ranker is somebody's own and brings its loop."""
    return isinstance(model, OwnRanker) and model.own.has_loop


@dataclass(frozen=True)
class OwnTraining:
    """See `fusion_models.models.own.Training`."""

    state: TrainingState
    data: RankingDataset

    @property
    def train(self) -> TrainConfig:
        """Epochs, rates and the batch that the recipe asks for."""
        return self.state.recipe.train

    @property
    def loss(self) -> LossConfig:
        """The recipe's loss."""
        return self.state.recipe.loss

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.state.epoch

    @property
    def optimiser(self) -> torch.optim.Optimizer:
        """Its state is kept in checkpoints."""
        return self.state.optimiser

    def batches(self) -> Iterator[TrainingBatch]:
        """The training split once, in an order of the training's own seed."""
        model = self.state.model
        assert isinstance(model, OwnRanker)
        for rows in self.data.row_batches("train", self.train.batch_queries, generator=self.state.generator):
            batch = self.data.gather(rows, self.state.device)
            yield TrainingBatch(model.inputs(batch), batch.labels, batch.weight)


def own_epochs(
    state: TrainingState, data: RankingDataset, process_group: ProcessGroup
) -> Generator[dict[str, float], None, None]:
    """What the loop yields, epoch by epoch: numbers by name. Its random numbers go on in the training's own stream.

    Raises OwnModelError where it yields anything else, or several processes would train; DivergedError for a number
    that is not finite.
    """
    model = state.model
    assert isinstance(model, OwnRanker)
    name = model.own.reference
    if process_group.size > 1:
        raise OwnModelError(f"{name} has a training loop of its own, which one process runs: leave out DDP's workers")
    epochs = model.ranker.train_epochs(OwnTraining(state, data))  # type: ignore[operator]
    while True:
        following = seed_epoch(state, process_group)
        model.train()
        said = next(epochs, None)
        state.random_state = torch.get_rng_state() if following is None else following
        if said is None:
            return
        if not isinstance(said, dict) or not all(isinstance(v, int | float) for v in said.values()):
            raise OwnModelError(f"{name}: train_epochs yields a dict of numbers an epoch, and it yielded {said!r}")
        broken = [part for part, value in said.items() if not math.isfinite(value)]
        if broken:
            raise DivergedError(
                f"the loss is not finite in epoch {state.epoch + 1} (in {', '.join(broken)}): a lower rate may help"
            )
        yield {part: float(value) for part, value in said.items()}
