"""A stack's step on its device: eagerly, or recorded once a shape as a CUDA graph and replayed.

A step of small rankers is hundreds of kernels of microseconds each, which a host cannot launch as fast as a GPU runs
them. A graph is launched as one. It reads and writes fixed memory, so what changes from step to step is copied there.
Shapes: S members, B queries, L padded length.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from fusion_models.data.batch import Batch
from fusion_models.training.stack.network import StackedRanker, StepNumbers
from fusion_models.training.stack.optimiser import StackedAdamW
from fusion_models.training.stack.plan import Chunk, Draws, Step, laid_out
from fusion_models.training.stack.tables import HostTables, Tables

WARM_UP_PASSES = 2
"""Passes before a recording, in which libraries set themselves up; they change no weight."""


class Stepper:
    """Takes steps of one stack; holds nothing that outlasts it."""

    def __init__(
        self, ranker: StackedRanker, optimiser: StackedAdamW, tables: Tables | HostTables, draws: Draws, *, graphs: bool
    ) -> None:
        """`graphs`: record steps; only on a GPU, and only with `Tables`, whose batches are gathered inside the step."""
        self.ranker, self.optimiser, self.tables, self.draws = ranker, optimiser, tables, draws
        self.graphs = graphs and isinstance(tables, Tables)
        self._pictures = tables.pictures() if ranker.template.thumbnail is not None else None
        self._recorded: dict[tuple[int, int], _Recorded] = {}
        self._pool: Any = None
        self._numbers: Tensor | None = None

    def run(self, chunk: Chunk) -> Tensor:
        """Every step of a chunk; the loss parts `[steps, parts, S]`, not waited for."""
        shape = len(chunk.steps), len(self.ranker.part_names), len(self.optimiser.weights)
        log = torch.empty(shape, device=self.optimiser.weights.device)
        if self.graphs:
            self._hold(chunk.numbers)
        for step, batch in self._batches(chunk):
            places, rates = chunk.places[step.place], chunk.rates[step.place]
            if self.graphs:
                log[step.place].copy_(self._replay(step, chunk.rows[step.place], places, rates))
            else:
                log[step.place].copy_(self._take(batch, chunk.numbers, places, rates))
        return log

    def _batches(self, chunk: Chunk) -> Iterator[tuple[Step, Batch | None]]:
        """Each step with its batch: gathered as the step begins, or by a thread that is one step ahead."""
        if self.graphs:
            yield from ((step, None) for step in chunk.steps)
            return
        if isinstance(self.tables, Tables):
            for step in chunk.steps:
                yield step, self.tables.gather(chunk.rows[step.place], step.length)
            return
        with ThreadPoolExecutor(1) as ahead:
            following: Future[Batch] | None = None
            for step, after in zip(chunk.steps, [*chunk.steps[1:], None], strict=True):
                ready = following or ahead.submit(self.tables.gather, chunk.rows[step.place], step.length)
                batch = ready.result()
                following = ahead.submit(self.tables.gather, chunk.rows[after.place], after.length) if after else None
                yield step, batch

    def _take(self, batch: Batch | None, numbers: Tensor, places: Tensor, rates: Tensor) -> Tensor:
        """One step: gradients, then the update; the loss parts `[parts, S]`."""
        assert batch is not None
        gradient, parts = self._gradient(batch, numbers, places, rates)
        self.optimiser.update(gradient, rates[0])
        return parts

    def _gradient(self, batch: Batch, numbers: Tensor, places: Tensor, rates: Tensor) -> tuple[Tensor, Tensor]:
        chances = self._chances(numbers, places[0], places[1], *batch.labels.shape[1:])
        given = StepNumbers(chances, rates[1], places[2])
        return self.ranker.gradients(self.optimiser.weights, batch, given, self._pictures)

    def _chances(self, numbers: Tensor, begin: Tensor, lengths: Tensor, queries: int, length: int) -> list[Tensor]:
        """The step's uniform numbers in the order in which it takes them: `[S, B, M]`, then some `[S, B, L]`."""
        found = []
        if self.draws.keep > 0:
            width = torch.full_like(lengths, self.draws.keep)
            found.append(laid_out(numbers, begin, width, queries, self.draws.keep))
            begin = begin + queries * self.draws.keep
        for _ in range(self.draws.per_document):
            found.append(laid_out(numbers, begin, lengths, queries, length))
            begin = begin + queries * lengths
        return found

    def _hold(self, numbers: Tensor) -> None:
        """Put a chunk's numbers where recorded graphs read them; larger ones need new memory, and new recordings."""
        if self._numbers is None or numbers.shape[1] > self._numbers.shape[1]:
            self._recorded.clear()
            self._pool = None
            self._numbers = numbers.new_zeros(len(numbers), int(numbers.shape[1] * 1.25) + 1)
        self._numbers[:, : numbers.shape[1]].copy_(numbers)

    def _replay(self, step: Step, rows: Tensor, places: Tensor, rates: Tensor) -> Tensor:
        recorded = self._recorded.get((step.queries, step.length))
        if recorded is None:
            recorded = self._recorded[step.queries, step.length] = self._record(step, rows, places, rates)
        recorded.rows.copy_(rows)
        recorded.places.copy_(places)
        recorded.rates.copy_(rates)
        recorded.graph.replay()
        return recorded.parts

    def _record(self, step: Step, rows: Tensor, places: Tensor, rates: Tensor) -> _Recorded:
        assert self._numbers is not None
        assert isinstance(self.tables, Tables)
        held = rows.clone(), places.clone(), rates.clone()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_PASSES):
                self._gradient(self.tables.gather(held[0], step.length), self._numbers, held[1], held[2])
        before = torch.cuda.current_stream()
        before.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                parts = self._take(self.tables.gather(held[0], step.length), self._numbers, held[1], held[2])
        finally:
            torch.cuda.set_stream(before)  # a recording that fails leaves its own stream behind
        self._pool = graph.pool()
        return _Recorded(graph, *held, parts)


class _Recorded:
    """A graph and the memory that it reads and writes."""

    def __init__(self, graph: torch.cuda.CUDAGraph, rows: Tensor, places: Tensor, rates: Tensor, parts: Tensor) -> None:
        self.graph, self.rows, self.places, self.rates, self.parts = graph, rows, places, rates, parts
