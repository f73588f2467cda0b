"""What an epoch's steps read beside the weights, drawn ahead: order, random numbers, rates.

Each member draws with its own generator what a training alone would draw, in the same order, so that it meets the
same batches and the same shuffles. All draws of some steps travel to the device at once.
Shapes: S members, B queries of a step, L padded length.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models.config import Recipe
from fusion_models.data import RankingDataset
from fusion_models.training.state import TrainingState
from fusion_models.training.step import learning_rate_at

STEPS_AT_ONCE = 256
"""Steps whose draws are held on the device at one time."""
BUCKETS: tuple[int, ...] = (4, 8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256)
"""Padded lengths on a GPU, so that few shapes occur and a recorded graph is used again; beyond: multiples of 128."""

Rows = npt.NDArray[np.int64]


def bucket(length: int) -> int:
    """The padded length that lists of `length` share on a GPU."""
    return next((b for b in BUCKETS if b >= length), 128 * math.ceil(length / 128))


@dataclass(frozen=True)
class Draws:
    """Which uniform numbers a step takes, in order: one of `queries` × `modalities`, then some of B × L."""

    keep: int
    """Modalities that may be dropped; 0: none is ever dropped."""
    per_document: int
    """How many numbers a document: samples and shuffles."""

    def count(self, queries: int, length: int) -> int:
        """Numbers that one step of one member takes."""
        return queries * (self.keep + self.per_document * length)


def draws_of(recipe: Recipe, *, pictures: bool) -> Draws:
    """What `train_step` draws for a recipe; `pictures`: the ranker decodes thumbnails."""
    loss = recipe.loss
    shuffles = loss.suspect_importance > 0.0 and loss.suspect_importance_form == "reliance"
    keep = len(recipe.model.modalities) if recipe.train.modality_dropout > 0.0 else 0
    return Draws(keep, int(pictures) + int(shuffles) + int(loss.contrastive > 0.0))


@dataclass(frozen=True)
class Step:
    """One step of all members: where its numbers lie in its `Chunk`, and the shape that it has."""

    index: int
    """Place in the epoch."""
    place: int
    """Place in the chunk."""
    queries: int
    """B."""
    length: int
    """L."""


@dataclass(frozen=True)
class Chunk:
    """Some neighbouring steps of an epoch, on the device."""

    steps: list[Step]
    rows: list[Tensor]
    """`[S, B]` int64, one entry a step: the queries of each member's batch; where the tables take them."""
    places: Tensor
    """`[steps, 3, S]` int64: where the step's numbers begin in `numbers`, the member's own padded length, and what its
    dropout masks follow from."""
    numbers: Tensor
    """`[S, n]`: each member's uniform numbers."""
    rates: Tensor
    """`[steps, 2, S]`: the learning rate of the step, and the strength of the gradient reversal."""


def chunks(
    members: Sequence[TrainingState | None],
    data: RankingDataset,
    draws: Draws,
    device: torch.device,
    index_device: torch.device,
) -> Iterator[Chunk]:
    """An epoch of every member; an entry None is a place that nobody holds, and repeats its first neighbour's batches.

    Rows go to `index_device`, all else to `device`. The members' generators are left where a training alone would
    leave them.
    """
    train_rows = data.rows("train")
    alive = [member for member in members if member is not None]
    batch_queries = alive[0].recipe.train.batch_queries
    orders = {id(m): train_rows[torch.randperm(len(train_rows), generator=m.generator).numpy()] for m in alive}
    holders = [alive[0] if member is None else member for member in members]
    steps = math.ceil(len(train_rows) / batch_queries)
    for first in range(0, steps, STEPS_AT_ONCE):
        own = {
            id(m): _Own(m, orders[id(m)], data.candidates, draws, range(first, min(first + STEPS_AT_ONCE, steps)))
            for m in alive
        }
        yield _chunk([own[id(member)] for member in holders], members, first, steps, device, index_device)


class _Own:
    """One member's part of a chunk."""

    def __init__(
        self, member: TrainingState, order: Rows, candidates: npt.NDArray[np.int64], draws: Draws, steps: range
    ) -> None:
        size = member.recipe.train.batch_queries
        self.rows = [order[step * size : (step + 1) * size] for step in steps]
        self.lengths = [int(candidates[rows].max()) for rows in self.rows]
        counts = [draws.count(len(rows), length) for rows, length in zip(self.rows, self.lengths, strict=True)]
        self.begins = [0, *np.cumsum(counts).tolist()]
        # One call: torch's CPU generator gives uniform numbers one by one, whatever the shapes they are asked in.
        self.numbers = torch.rand(self.begins[-1], generator=member.generator)


def _chunk(
    own: list[_Own],
    members: Sequence[TrainingState | None],
    first: int,
    steps: int,
    device: torch.device,
    index_device: torch.device,
) -> Chunk:
    count = len(own[0].rows)
    pad = bucket if device.type == "cuda" else int
    shapes = [(len(own[0].rows[i]), pad(max(o.lengths[i] for o in own))) for i in range(count)]
    places = torch.tensor(
        [
            [[o.begins[i] for o in own], [o.lengths[i] for o in own], [_key(member, first + i) for member in members]]
            for i in range(count)
        ]
    )
    longest = max(len(o.numbers) for o in own)
    numbers = torch.zeros(len(own), max(1, longest))
    for row, o in zip(numbers, own, strict=True):
        row[: len(o.numbers)] = o.numbers
    rates = [[_rates(member, first + i, steps) for member in members] for i in range(count)]
    flat = torch.from_numpy(np.stack([np.concatenate(o.rows) for o in own]))
    rows = torch.split(_to(flat, index_device), [queries for queries, _ in shapes], dim=1)
    return Chunk(
        steps=[Step(first + i, i, *shape) for i, shape in enumerate(shapes)],
        rows=list(rows),
        places=_to(places, device),
        numbers=_to(numbers, device),
        rates=_to(torch.tensor(rates, dtype=torch.float32).transpose(1, 2).contiguous(), device),
    )


def _rates(member: TrainingState | None, step: int, steps: int) -> tuple[float, float]:
    """Learning rate and reversal strength of a member's step; an empty place learns nothing."""
    if member is None:
        return 0.0, 0.0
    train = member.recipe.train
    progress = (member.epoch * steps + step + 1) / (train.epochs * steps)
    reversal = 2.0 / (1.0 + math.exp(-10.0 * progress)) - 1.0  # as in `train_step`
    return train.learning_rate * learning_rate_at(progress, train.warmup), reversal


def _key(member: TrainingState | None, step: int) -> int:
    """A number of a member's seed, epoch and step: the same whoever is beside it; 31 bits."""
    return 0 if member is None else zlib.crc32(f"{member.seed} {member.epoch} {step}".encode()) >> 1


def _to(x: Tensor, device: torch.device) -> Tensor:
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x


def laid_out(numbers: Tensor, begin: Tensor, lengths: Tensor, queries: int, length: int) -> Tensor:
    """Uniform numbers of B × own length a member, as `[S, B, L]`; -1 beyond a member's own length.

    `numbers` `[S, n]`, `begin` and `lengths` `[S]`. A sample or a shuffle never takes a place that is not real before
    one that is, so the value there is of no matter as long as it is the smallest.
    """
    row = torch.arange(queries, device=numbers.device)[:, None] * lengths[:, None, None]
    column = torch.arange(length, device=numbers.device)
    inside = column < lengths[:, None, None]
    index = torch.where(inside, begin[:, None, None] + row + column, 0)
    found = numbers.gather(1, index.flatten(1)).view(index.shape)
    return torch.where(inside, found, -1.0)
