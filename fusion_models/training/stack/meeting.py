"""Brings trainings of several threads together in stacks, epoch by epoch.

Each thread holds a generator such as `train` gives. Once every member of a stack has asked for its next epoch, the
thread that asked last trains it for all. A member that does not ask for a while is left out until it asks again.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterator

import torch

from fusion_models.data import RankingDataset
from fusion_models.training.loop import EpochResult, train
from fusion_models.training.stack.groups import Groups
from fusion_models.training.stack.network import StackedRanker, StepNumbers
from fusion_models.training.stack.plan import draws_of
from fusion_models.training.stack.stack import Outcome
from fusion_models.training.stack.structure import Structure, buffers_digest, structure
from fusion_models.training.stack.tables import HostTables
from fusion_models.training.state import TrainingState
from fusion_models.tuned_v1 import seen_by

WAIT_SECONDS = 2.0
"""How long an epoch waits for a member that has not asked: it may be writing a checkpoint, or be gone. Time in which
somebody computes does not count: nobody can ask then."""


_Key = tuple[Structure, Hashable, torch.device]


class Meeting:
    """Where the trainings of one process meet; `train` stands in for `fusion_models.training.train`."""

    def __init__(
        self,
        *,
        wait_seconds: float = WAIT_SECONDS,
        watch: Callable[[bool], None] | None = None,
        share: float = 1.0,
    ) -> None:
        """`watch` is told True when somebody begins to compute, and anew at every epoch, and False when he has done:
        a clock for what hangs. `share`: what part of a GPU is this process's."""
        self._share = share
        self.lock = threading.Condition(threading.RLock())
        """Held by whoever computes, so that threads neither share random numbers nor launch at once; let go of while
        waiting for others. A caller that computes beside the epochs holds it too."""
        self._wait_seconds = wait_seconds
        self._watch = watch or (lambda computes: None)
        self._mine = threading.local()
        self._busy, self._since = 0.0, 0.0
        """Seconds for which somebody has computed, up to the one who does now, and when he began."""
        self.last = 0
        """How many members the last epoch had."""
        self._tables: dict[_Key, _Table] = {}
        self._alone: dict[_Key, str] = {}
        """Structures that were tried -> why they cannot be stacked; empty where they can."""

    def train(self, state: TrainingState, data: RankingDataset) -> Iterator[EpochResult]:
        """As `train`, with whoever else is at it; alone where the ranker cannot be stacked.

        Raises DivergedError as `train` does, and what an epoch raised that `Groups` could do nothing about, in each of
        its members.
        """
        shared = *structure(state.recipe), ("buffers", buffers_digest(state.model))
        key = shared, _known(data), state.device
        with self.lock:
            if key not in self._alone:
                self._alone[key] = why_alone(state, data)
            alone = self._alone[key]
        if alone:
            yield from self._alone_in_turn(train(state, data))
            return
        with self.lock:
            table = self._tables.setdefault(key, _Table(Groups(data, state.device, share=self._share)))
            table.users += 1
        try:
            while not state.finished:
                outcome = self._epoch(table, state)
                if isinstance(outcome, Exception):
                    raise outcome
                yield outcome
        finally:
            with self.lock:
                if not sys.is_finalizing():  # PyTorch is being taken apart: there is nothing to go on with
                    table.forget(state)
                table.users -= 1
                if table.users == 0:
                    del self._tables[key]
                self.lock.notify_all()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The lock, and the clock that goes while somebody has it; a thread may hold it twice."""
        with self.lock:
            outer: int = getattr(self._mine, "depth", 0)
            self._mine.depth = outer + 1
            if outer == 0:
                self._since = time.monotonic()
            self._watch(True)
            try:
                yield
            finally:
                self._mine.depth = outer
                if outer == 0:
                    self._busy += time.monotonic() - self._since
                self._watch(outer > 0)

    @property
    def _idle(self) -> float:
        """A clock, for whoever holds the lock, that goes while nobody computes: only then can others ask."""
        return self._since - self._busy

    def _wait(self, seconds: float) -> None:
        """Let go of the lock for so long, or until somebody says that there is news."""
        self._watch(False)
        self._busy += time.monotonic() - self._since
        self.lock.wait(seconds)
        self._since = time.monotonic()
        self._watch(True)

    def _alone_in_turn(self, epochs: Iterator[EpochResult]) -> Iterator[EpochResult]:
        while True:
            with self.held():
                result = next(epochs, None)
            if result is None:
                return
            yield result

    def _epoch(self, table: _Table, state: TrainingState) -> Outcome | Exception:
        with self.held():
            table.ask(state)
            self.lock.notify_all()
            until = self._idle + self._wait_seconds
            while id(state) not in table.outcomes:
                left = until - self._idle
                if table.complete or left <= 0:
                    self.last = len(table.asked)
                    self._watch(True)
                    table.run()
                    self.lock.notify_all()
                else:
                    self._wait(left)
            return table.outcomes.pop(id(state))


class _Table:
    """The members of one structure and dataset: who is expected, who has asked, what came of it."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self.users = 0
        """Threads that are at it, whether they have asked yet or not."""
        self.expected: dict[int, TrainingState] = {}
        self.asked: dict[int, TrainingState] = {}
        self.outcomes: dict[int, Outcome | Exception] = {}

    @property
    def complete(self) -> bool:
        """Everybody who is expected has asked."""
        return self.asked.keys() == self.expected.keys()

    def ask(self, state: TrainingState) -> None:
        self.expected[id(state)] = self.asked[id(state)] = state

    def forget(self, state: TrainingState) -> None:
        for held in (self.expected, self.asked, self.outcomes):
            held.pop(id(state), None)
        self._groups.leave(state)

    def run(self) -> None:
        """One epoch of everybody who has asked; who has not is no longer waited for."""
        asked, self.asked = self.asked, {}
        self.expected = dict(asked)
        try:
            self.outcomes |= self._groups.epoch(list(asked.values()))
        except Exception as error:  # nobody may wait for an outcome that does not come
            self.outcomes |= dict.fromkeys(asked, error)


def _known(data: RankingDataset) -> Hashable:
    """What tells lists, labels, splits and metric of a dataset from another's: two objects of one may meet."""
    tuned = None if data.tuned_v1 is None else data.tuned_v1[0]
    return type(data), data.identity, data.splits, len(data.judged_item), data.metric, tuned


def why_alone(state: TrainingState, data: RankingDataset) -> str:
    """Why a training cannot share kernels, in the words of what was tried; empty where it can.

    A step of two members is tried and thrown away: a ranker that reads its numbers on the host, or changes buffers in
    place, cannot be called for several at once.
    """
    if state.recipe.train.slice_queries > 0:
        return "train.slice_queries: its batches pass through in slices, since memory is short"
    try:
        with torch.random.fork_rng(devices=[state.device] if state.device.type == "cuda" else []):
            _try_two(state, data)
    except Exception as error:  # whatever somebody's own fusion raises where it is called for several at once
        return f"{type(error).__name__}: {error}"
    return ""


def _try_two(state: TrainingState, data: RankingDataset) -> None:
    """Forward and backward of two copies of a training on two queries."""
    device, rows = state.device, data.rows("train")[:2]
    length = int(data.candidates[rows].max())
    ranker = StackedRanker([state.recipe] * 2, data, device, like=state.model)
    weights = ranker.row(dict(state.model.named_parameters())).repeat(2, 1)
    tables = HostTables(seen_by(state.model, data), device)
    batch = tables.gather(torch.from_numpy(rows).repeat(2, 1), length)
    draws = draws_of(state.recipe, pictures=ranker.template.thumbnail is not None)
    drawn = torch.rand(2, len(rows), length, device=device)
    chances = [drawn.new_ones(2, len(rows), draws.keep)] if draws.keep else []
    chances += [drawn] * draws.per_document
    pictures = tables.pictures() if ranker.template.thumbnail is not None else None
    given = StepNumbers(chances, torch.zeros(2, device=device), torch.arange(2, device=device))
    ranker.gradients(weights, batch, given, pictures)
