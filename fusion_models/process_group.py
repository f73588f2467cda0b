"""Several processes on one training: numbers joined across them, and each one's shard of a batch.

Every process draws the same random numbers for the whole batch, runs the ranker on its own queries, and computes the
loss of the whole batch from sums over all of them. So N processes take the step that one would take.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


class ProcessGroup:
    """The processes of one training; this class is the single one, for which every sum is already whole."""

    rank: int = 0
    size: int = 1

    def sum(self, x: Tensor) -> Tensor:
        """Sum of a same-shaped tensor over the processes, with gradient.

        Every process must go on from the sum in the same way: the gradient of each is then taken to be that of all.
        """
        return x

    def join(self, items: list[T]) -> list[T]:
        """Everybody's items in the order of ranks; they are pickled, so for numbers a query, not for a step."""
        return items

    def first(self, value: T) -> T:
        """The value that rank 0 holds."""
        return value

    def wrap(self, module: nn.Module) -> nn.Module:
        """`module` with its gradients averaged over the processes while they are computed."""
        return module

    def broken(self) -> list[int]:
        """Ranks that put a number that is not finite into the first sum that was not."""
        return []


ALONE = ProcessGroup()


class TorchProcessGroup(ProcessGroup):
    """The processes of torch's default process group, which must be up; gloo for tensors on a CPU, NCCL on GPUs."""

    def __init__(self) -> None:
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()
        self._mine: Tensor | None = None
        """Whether this process's numbers were finite, up to the first sum that was not."""
        self._all: Tensor | None = None
        """Whether every sum was."""

    def sum(self, x: Tensor) -> Tensor:
        summed: Tensor = _Sum.apply(x, self.size)  # type: ignore[no-untyped-call]
        mine, everybody = torch.isfinite(x.detach()).all(), torch.isfinite(summed.detach()).all()
        if self._mine is not None and self._all is not None:
            mine, everybody = self._mine & (mine | ~self._all), self._all & everybody
        self._mine, self._all = mine, everybody
        return summed

    def join(self, items: list[T]) -> list[T]:
        everybody: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(everybody, items)
        return [item for each in everybody for item in each]

    def first(self, value: T) -> T:
        box: list[Any] = [value if self.rank == 0 else None]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]  # type: ignore[no-any-return]

    def wrap(self, module: nn.Module) -> nn.Module:
        with warnings.catch_warnings():  # torch 2.13 renames the switch, which 2.9 does not know yet
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(module, broadcast_buffers=False)

    def broken(self) -> list[int]:
        mine = self._mine is not None and not bool(self._mine)
        return [rank for rank, broken in enumerate(self.join([mine])) if broken]


class _Sum(torch.autograd.Function):
    """All-reduce whose gradient needs none: the processes' losses are equal, and their gradients are averaged later."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int) -> Tensor:
        ctx.size = size
        total = x.detach().clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.size, None


@dataclass(frozen=True)
class Shard:
    """This process's queries, `first:stop`, of a batch that the processes of a distribution train on together.

    `counts` `[B]`: candidates of every query of the whole batch. Shapes below: B queries of the whole batch, b of this
    process, L the longest list of the whole batch. In a last, short batch a process may have no query: it then carries
    one of another's without a valid document, so that every process takes every step.
    """

    process_group: ProcessGroup = ALONE
    counts: Tensor | None = None
    first: int = 0
    stop: int = 0

    def sum(self, x: Tensor) -> Tensor:
        """See `ProcessGroup.sum`."""
        return self.process_group.sum(x)

    def mean(self, total: Tensor, count: Tensor) -> Tensor:
        """Σ total / Σ count over the processes (0 where nothing is counted), with gradient."""
        if self.counts is None:
            return total / count.clamp(min=1)
        both = self.sum(torch.stack([total.float(), count.to(total.device, torch.float32)]))
        return both[0] / both[1].clamp(min=1)

    def queries(self, batch_queries: int) -> int:
        """B, where this process's batch has `batch_queries`."""
        return batch_queries if self.counts is None else len(self.counts)

    def valid(self, valid: Tensor) -> Tensor:
        """`[B, L]` of the whole batch from this process's `[b, L]`."""
        if self.counts is None:
            return valid
        return torch.arange(valid.shape[-1], device=valid.device) < self.counts.to(valid.device)[:, None]

    def own(self, whole: Tensor) -> Tensor:
        """`[B, ...]` to this process's `[b, ...]`."""
        return whole if self.counts is None else whole[self.first : max(self.stop, self.first + 1)]

    def inside(self, documents: Tensor, length: int) -> Tensor:
        """Which documents (places in the flattened `[B, L]`) are this process's; as places in its own `[b, L]`."""
        if self.counts is None:
            return documents
        own = (documents >= self.first * length) & (documents < self.stop * length)
        return documents[own] - self.first * length

    def pick(self, x: Tensor, documents: Tensor) -> Tensor:
        """Rows `documents` (places in the flattened `[B, L]`) of everybody's `x` `[b, L, ...]`, with gradient."""
        rows = x.flatten(0, 1)
        if self.counts is None:
            return rows[documents]
        place = documents - self.first * x.shape[1]
        own = (place >= 0) & (documents < self.stop * x.shape[1])
        picked = rows.new_zeros(len(documents), *rows.shape[1:]).index_put((own.nonzero()[:, 0],), rows[place[own]])
        return self.sum(picked)


WHOLE = Shard()


def shard_of(process_group: ProcessGroup, counts: Tensor) -> Shard:
    """Rank r's shard of a batch of B queries: neighbours, as even as can be; `counts` `[B]` as in `Shard`."""
    if process_group.size == 1:
        return WHOLE
    queries, rank, size = len(counts), process_group.rank, process_group.size
    return Shard(process_group, counts, queries * rank // size, queries * (rank + 1) // size)


def concatenated(parts: Sequence[Any]) -> Any:
    """Outputs of neighbouring queries joined along their first dimension: tensors, dicts and named tuples of them.

    A tensor without dimensions (a parameter that a head returns) is the same in every part; None stays None.
    """
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        return torch.cat(list(parts)) if first.ndim else first
    if isinstance(first, dict):
        return {name: concatenated([part[name] for part in parts]) for name in first}
    return type(first)(*(concatenated(column) for column in zip(*parts, strict=True)))
