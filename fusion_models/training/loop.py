"""Training as a generator: each `next()` trains one epoch and yields its evaluation."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch

from fusion_models.data import RankingDataset
from fusion_models.data.batch import Batch
from fusion_models.evaluation import NO_BLANKING, Blanking, Evaluation, blanked_scores, evaluate
from fusion_models.process_group import ALONE, ProcessGroup, Shard, shard_of
from fusion_models.training.accumulation import Slices
from fusion_models.training.epoch_log import EpochLog
from fusion_models.training.memory import keep_freed_memory
from fusion_models.training.own_loop import has_own_loop, own_epochs
from fusion_models.training.seeding import seed_epoch
from fusion_models.training.state import TrainingState
from fusion_models.training.step import DivergedError, Forward, train_step
from fusion_models.tuned_v1 import seen_by


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """What one epoch gave."""

    epoch: int
    """Epochs done, this one included."""
    parts: dict[str, float]
    """Mean over the epoch's steps of every loss part, `total` included."""
    evaluation: Evaluation
    """On the validation split, with the weights as they are now; the suspect is blanked where they are the best."""
    improved: bool
    """The best validation nDCG so far: these weights are the ones kept."""
    finished: bool
    """The last epoch, or stopped by its own patience."""
    seconds: float


def train(state: TrainingState, data: RankingDataset, *, process_group: ProcessGroup = ALONE) -> Iterator[EpochResult]:
    """Train until the recipe's last epoch or its patience runs out; `state` is current between two `next()`s.

    Every process of `process_group` calls it with an equal state and gets equal results: each takes its shard of every
    batch and of the evaluation. Numbers are those of one process but for rounding, and but for the masks of dropout
    layers, which every process draws for itself.

    Raises DivergedError, with epoch, step, loss part and rank, where a loss is not finite: at that step on a CPU, on a
    GPU, which no step waits for, at the end of its epoch.
    """
    keep_freed_memory()
    data = seen_by(state.model, data)
    epochs = (
        own_epochs(state, data, process_group) if has_own_loop(state.model) else _epochs(state, data, process_group)
    )
    while not state.finished:
        started = time.perf_counter()
        with torch.random.fork_rng(devices=[state.device] if state.device.type == "cuda" else []):
            parts = next(epochs, None)
        if parts is None:
            state.ended = True
            return
        evaluation = evaluate(state.model, data, "validation", NO_BLANKING, brief=True, process_group=process_group)
        state.epoch += 1
        improved = evaluation.mean_ndcg > state.best_ndcg
        if improved:
            suspect = Blanking((state.recipe.suspect,))
            blanked = blanked_scores(state.model, data, "validation", suspect, process_group=process_group)
            outputs = dataclasses.replace(evaluation.outputs, blanked=blanked)
            evaluation = dataclasses.replace(evaluation, outputs=outputs)
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


def _epochs(state: TrainingState, data: RankingDataset, process_group: ProcessGroup) -> Iterator[dict[str, float]]:
    """Loss parts of epoch after epoch, each trained when it is asked for."""
    forward = process_group.wrap(_sliced(state))
    while True:
        yield _train_epoch(state, data, forward, process_group)


def _sliced(state: TrainingState) -> torch.nn.Module:
    queries = state.recipe.train.slice_queries
    return Slices(state.model, queries) if queries > 0 else state.model


def _train_epoch(
    state: TrainingState, data: RankingDataset, forward: Forward, process_group: ProcessGroup
) -> dict[str, float]:
    train_config = state.recipe.train
    steps = math.ceil(len(data.rows("train")) / train_config.batch_queries)
    state.model.train()
    log, following = EpochLog(), seed_epoch(state, process_group)
    shares = _shares(state, data, process_group)
    for step, (batch, shard) in enumerate(shares if _looks_each_step(state.device) else _read_ahead(shares)):
        parts = train_step(
            state,
            batch,
            progress=(state.epoch * steps + step + 1) / (train_config.epochs * steps),
            forward=forward,
            thumbnails=data.thumbnails if data.schema.thumbnail is not None else None,
            shard=shard,
        )
        log.add(parts)
        if _looks_each_step(state.device):
            _raise_if_diverged(log, state, steps, process_group)
    _raise_if_diverged(log, state, steps, process_group)
    state.random_state = torch.get_rng_state() if following is None else following
    return log.means()


def _looks_each_step(device: torch.device) -> bool:
    """Whether to look at a step's loss before the next one: a GPU is not waited for until the epoch has ended."""
    return device.type == "cpu"


def _shares(state: TrainingState, data: RankingDataset, process_group: ProcessGroup) -> Iterator[tuple[Batch, Shard]]:
    """This process's part of every batch of an epoch, padded as the whole batch is."""
    for rows in data.row_batches("train", state.recipe.train.batch_queries, generator=state.generator):
        counts = torch.from_numpy(data.candidates[rows])
        shard = shard_of(process_group, counts)
        batch = data.gather(shard.own(torch.from_numpy(rows)).numpy(), length=int(counts.max()))
        if state.device.type == "cuda":
            with torch.cuda.device(state.device):
                batch = batch.changed(lambda x: x.pin_memory())
        batch = batch.to(state.device)
        if shard.counts is not None and shard.first == shard.stop:
            batch = batch._replace(valid=torch.zeros_like(batch.valid))
        yield batch, shard


T = TypeVar("T")


def _read_ahead(items: Iterator[T]) -> Iterator[T]:
    """Each item, with the next one read by another thread meanwhile."""
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, items, None)
        while (item := following.result()) is not None:
            following = reader.submit(next, items, None)
            yield item


def _raise_if_diverged(log: EpochLog, state: TrainingState, steps: int, process_group: ProcessGroup) -> None:
    broken = log.broken()
    if broken is not None:
        step, names = broken
        where = f"epoch {state.epoch + 1}, step {step + 1} of {steps}"
        raise DivergedError(_why_diverged(names, where, process_group))


def _why_diverged(broken: list[str], where: str, process_group: ProcessGroup) -> str:
    ranks = process_group.broken()
    whose = f" of rank {', '.join(map(str, ranks))}" if ranks else ""
    hint = "a lower train.learning_rate or loss weight may help"
    if 0 < len(ranks) < process_group.size:
        hint = f"the other {process_group.size - len(ranks)} were finite: look at that worker's data, memory and device"
    return f"the loss{whose} is not finite at {where} (in {', '.join(broken) or 'the weighted sum'}): {hint}"
