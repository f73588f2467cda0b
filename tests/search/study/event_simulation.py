"""A cluster without training: learning curves that are known beforehand meet the rungs in the order of their time."""

import heapq
from dataclasses import dataclass

import numpy as np

from search.study.rungs import Rungs


@dataclass(frozen=True)
class Curve:
    """What a training reports, epoch by epoch."""

    trial_id: str
    costs: np.ndarray
    """`[E, O]`, to be minimised."""
    violations: np.ndarray
    """`[E, C]`, <= 0 holds."""
    seconds: float = 1.0
    """An epoch's."""


@dataclass(frozen=True)
class Outcome:
    """What became of the trials."""

    epochs: dict[str, int]
    stopped: set[str]
    entries: tuple

    @property
    def total_epochs(self):
        return sum(self.epochs.values())


def simulate(curves, rungs: Rungs, *, workers: int) -> Outcome:
    """Train every curve on `workers` workers, in order, as far as the rungs let it."""
    waiting = list(reversed(curves))
    events = []
    epochs, stopped, entries = {}, set(), []

    def start(now):
        if waiting:
            curve = waiting.pop()
            heapq.heappush(events, (now + curve.seconds, curve.trial_id, 1, curve))

    for _ in range(workers):
        start(0.0)
    while events:
        now, trial_id, epoch, curve = heapq.heappop(events)
        epochs[trial_id] = epoch
        finished = epoch == len(curve.costs)
        reached = rungs.max_t if finished else epoch
        entries += rungs.report(trial_id, reached, curve.costs[epoch - 1], curve.violations[epoch - 1])
        last = rungs.last(trial_id)
        if finished:
            start(now)
        elif last is not None and not last.kept:
            stopped.add(trial_id)
            start(now)
        else:
            heapq.heappush(events, (now + curve.seconds, trial_id, epoch + 1, curve))
    return Outcome(epochs, stopped, tuple(entries))
