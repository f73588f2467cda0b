"""The Pareto front of finished trials, its hypervolume, and the order in which a meeting reads it."""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
import numpy.typing as npt

from search.job import TrialRecord
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
        max(0.0, phase.constraints(record.numbers)[gate.name]) / (abs(gate.threshold) or 1.0)
        for gate in phase.gates
        if gate.steers
    )
    return -passed, missed, -record.numbers["ndcg_gain"], record.trial_id


def gates_passed(phase: Phase, record: TrialRecord) -> tuple[int, int]:
    """How many of the gates that the search can see this trial's validation numbers meet, and of how many."""
    violations = phase.constraints(record.numbers)
    return sum(v <= 0.0 for v in violations.values()), len(violations)


def hypervolume(phase: Phase, records: Sequence[TrialRecord]) -> float:
    """Share of the box between the phase's reference point and its best corner that the finished trials dominate.

    Objectives without a bound take 0.10 beyond 0 as their corner, so that 1 is out of reach but the scale is readable.
    """
    finished = [r for r in records if r.finished]
    points = costs(phase, finished)
    points = points[np.isfinite(points).all(axis=1)]
    signs = np.array([-1.0 if o.direction == "maximize" else 1.0 for o in phase.objectives])
    reference = np.array([o.reference for o in phase.objectives]) * signs
    corner = np.array([o.bound if o.bound is not None else 0.10 for o in phase.objectives]) * signs
    inside = points[(points < reference).all(axis=1)]
    if len(inside) == 0:
        return 0.0
    scale = reference - corner
    return float(moocore.hypervolume((inside - corner) / scale, ref=np.ones(len(scale))))
