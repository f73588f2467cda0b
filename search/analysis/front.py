"""The Pareto front of finished trials, its hypervolume, and the order in which a meeting reads it."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import moocore
import numpy as np
import numpy.typing as npt

from search.run_store.job import TrialRecord
from spaces import Phase

Points = npt.NDArray[np.float64]


def costs(phase: Phase, records: Sequence[TrialRecord]) -> Points:
    """`[n, O]`: bounded objectives, all to be minimised."""
    rows = [phase.objective_values(record.numbers) for record in records]
    signs = [-1.0 if o.direction == "maximize" else 1.0 for o in phase.objectives]
    return np.array(rows, dtype=np.float64).reshape(-1, len(signs)) * signs


def pareto_front(phase: Phase, records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The finished trials that no finished trial dominates (equal points all stay), best first.

    Best first: most gates passed, then the smallest sum of relative gate violations, then the largest nDCG gain.
    """
    finished = [r for r in records if r.finished]
    points = costs(phase, finished)
    complete = np.asarray(np.isfinite(points).all(axis=1))
    finished = [r for r, ok in zip(finished, complete, strict=True) if ok]
    if not finished:
        return []
    kept = moocore.is_nondominated(points[complete], keep_weakly=True)
    front = [r for r, keep in zip(finished, np.asarray(kept), strict=True) if keep]
    return sorted(front, key=lambda record: _merit(phase, record))


def _merit(phase: Phase, record: TrialRecord) -> tuple[float, float, float, str]:
    passed, _ = gates_passed(phase, record)
    missed = sum(
        max(0.0, phase.constraints(record.numbers)[gate.name]) / (abs(gate.threshold) or 1.0) for gate in phase.steering
    )
    return -passed, missed, -record.numbers.get("ndcg_gain", -inf), record.trial_id


def gates_passed(phase: Phase, record: TrialRecord) -> tuple[int, int]:
    """How many of the gates that the search can see this trial's validation numbers meet, and of how many."""
    violations = phase.constraints(record.numbers)
    return sum(v <= 0.0 for v in violations.values()), len(violations)


def hypervolume(phase: Phase, records: Sequence[TrialRecord]) -> float:
    """Share of the box between the phase's reference point and its best corner that the finished trials dominate.

    An objective without a bound has a corner that is no limit (`Objective.corner`): beyond it more than 1 is reached.
    """
    points = costs(phase, [r for r in records if r.finished])
    return _dominated_share(phase, points[np.isfinite(points).all(axis=1)])


def _dominated_share(phase: Phase, points: Points) -> float:
    signs = np.array([-1.0 if o.direction == "maximize" else 1.0 for o in phase.objectives])
    reference = np.array([o.reference for o in phase.objectives]) * signs
    corner = np.array([o.corner for o in phase.objectives]) * signs
    inside = points[(points < reference).all(axis=1)]
    if len(inside) == 0:
        return 0.0
    scale = reference - corner
    return float(moocore.hypervolume((inside - corner) / scale, ref=np.ones(len(scale))))


class GrowingFront:
    """The front of a search while it goes on: every finished trial is held against the front alone.

    `len(front)` and `hypervolume` are those of `pareto_front` and `hypervolume` on all trials so far.
    """

    def __init__(self, phase: Phase, records: Sequence[TrialRecord] = ()) -> None:
        self._phase = phase
        self._points: Points = np.empty((0, len(phase.objectives)))
        self._gains: npt.NDArray[np.float64] = np.empty(0)
        self._hypervolume: float | None = 0.0
        for record in records:
            self.add(record)

    def add(self, record: TrialRecord) -> None:
        """Count a trial that has ended; one that has not finished, or lacks an objective, changes nothing."""
        if not record.finished:
            return
        point = costs(self._phase, [record])[0]
        no_worse = (self._points <= point).all(axis=1)
        if not np.isfinite(point).all() or (no_worse & (self._points < point).any(axis=1)).any():
            return
        stays = ~((self._points >= point).all(axis=1) & (self._points > point).any(axis=1))
        self._points = np.vstack([self._points[stays], point])
        self._gains = np.append(self._gains[stays], record.numbers.get("ndcg_gain", -inf))
        if not no_worse.any():  # an equal point adds nothing
            self._hypervolume = None

    def __len__(self) -> int:
        return len(self._points)

    @property
    def best_gain(self) -> float:
        """The largest nDCG gain on the front, NaN while it is empty."""
        return float(self._gains.max()) if len(self._gains) else float("nan")

    @property
    def hypervolume(self) -> float:
        """See `hypervolume`; computed when the front has changed."""
        if self._hypervolume is None:
            self._hypervolume = _dominated_share(self._phase, self._points)
        return self._hypervolume
