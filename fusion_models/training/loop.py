"""Training as a generator: each `next()` trains one epoch and yields its evaluation."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from fusion_models.data import RankingDataset
from fusion_models.evaluation import Evaluation, evaluate, masked_ndcg
from fusion_models.training.state import TrainingState
from fusion_models.training.step import DivergedError, Forward, train_step


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """What one epoch gave."""

    epoch: int
    """Epochs done, this one included."""
    parts: dict[str, float]
    """Mean over the epoch's steps of every loss part, `total` included."""
    evaluation: Evaluation
    """On the validation split, with the weights as they are now; the image is blanked only where they are the best."""
    improved: bool
    """The best validation nDCG so far: these weights are the ones kept."""
    finished: bool
    """The last epoch, or stopped by its own patience."""
    seconds: float


def train(state: TrainingState, data: RankingDataset, *, forward: Forward | None = None) -> Iterator[EpochResult]:
    """Train until the recipe's last epoch or its patience runs out; `state` is current between two `next()`s.

    Raises DivergedError, with epoch, step and loss part, as soon as a loss is not finite.
    """
    while not state.finished:
        started = time.perf_counter()
        with torch.random.fork_rng(devices=[state.device] if state.device.type == "cuda" else []):
            torch.set_rng_state(state.random_state)
            parts = _train_epoch(state, data, forward)
            state.random_state = torch.get_rng_state()
        evaluation = evaluate(state.model, data, "validation", blanks=(), device=state.device)
        state.epoch += 1
        improved = evaluation.mean_ndcg > state.best_ndcg
        if improved:
            masked = masked_ndcg(state.model, data, "validation", blanks=("visual",), device=state.device)
            evaluation = dataclasses.replace(evaluation, masked=masked)
            state.best_epoch, state.best_ndcg = state.epoch, evaluation.mean_ndcg
            state.best_numbers = evaluation.numbers()
            state.best_weights = {k: v.detach().clone() for k, v in state.model.state_dict().items()}
        yield EpochResult(
            epoch=state.epoch,
            parts=parts,
            evaluation=evaluation,
            improved=improved,
            finished=state.finished,
            seconds=time.perf_counter() - started,
        )


def _train_epoch(state: TrainingState, data: RankingDataset, forward: Forward | None) -> dict[str, float]:
    train_config = state.recipe.train
    steps = math.ceil(len(data.rows("train")) / train_config.batch_queries)
    state.model.train()
    sums: dict[str, torch.Tensor] = {}
    batches = data.batches("train", train_config.batch_queries, generator=state.generator, device=state.device)
    for step, batch in enumerate(batches):
        progress = (state.epoch * steps + step + 1) / (train_config.epochs * steps)
        parts = train_step(
            state.model,
            state.optimiser,
            batch,
            state.recipe,
            progress=progress,
            generator=state.generator,
            forward=forward,
            thumbnails=data.thumbnails if data.schema.thumbnail is not None else None,
        )
        if not torch.isfinite(parts["total"]):
            broken = [name for name, part in parts.items() if name != "total" and not torch.isfinite(part)]
            raise DivergedError(
                f"the loss is not finite at epoch {state.epoch + 1}, step {step + 1} of {steps} "
                f"(in {', '.join(broken) or 'the weighted sum'}): a lower train.learning_rate or loss weight may help"
            )
        for name, part in parts.items():
            sums[name] = sums.get(name, torch.zeros_like(part)) + part
    return {name: float(value) / steps for name, value in sums.items()}
