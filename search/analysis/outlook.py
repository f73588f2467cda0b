"""What would settle a gate that is open, as probabilities, and what this design could have shown."""

from __future__ import annotations

import math

from fusion_models.metrics import Interval
from fusion_models.metrics.intervals.planning import detectable, probability_settled

MORE_TRAININGS = 12
"""Of every arm: the most that a run goes on to by itself."""
MORE_QUERIES = 2
"""Times the queries that there are."""


def outlook(interval: Interval, threshold: float) -> str:
    """How likely more trainings, more queries or both are to settle it, and what is shown as things stand."""
    part = interval.variance
    if not math.isfinite(interval.low) or part.queries < 2:
        return "more trainings: an interval is not known with these"
    queries = (part.queries, MORE_QUERIES * part.queries)
    said = []
    if part.arms:
        trainings = (part.seeds, max(MORE_TRAININGS, 2 * part.seeds))
        grid = probability_settled(interval, threshold, trainings=trainings, queries=queries)
        said = [f"{trainings[1]} trainings an arm {grid[1, 0]:.0%}", f"both {grid[1, 1]:.0%}"]
        twice = grid[0, 1]
    else:
        twice = probability_settled(interval, threshold, queries=queries)[0, 1]
    said.insert(1, f"{MORE_QUERIES} times the queries {twice:.0%}")
    shown = detectable(part, level=interval.level)
    return f"chance to settle it: {', '.join(said)}; shown with 80 % power here: {shown:.2g} beyond the threshold"
