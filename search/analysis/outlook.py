"""What would settle a gate that is open, as probabilities, and what this design could have shown."""

from __future__ import annotations

import math
from dataclasses import replace

from fusion_models.metrics import Interval
from fusion_models.metrics.intervals.planning import detectable, look_level, probability_settled

MORE_TRAININGS = 12
"""Of every arm: the most that a run goes on to by itself."""
MORE_QUERIES = 2
"""Times the queries that there are."""


def outlook(interval: Interval, threshold: float, look: int = 0) -> str:
    """How likely more trainings, more queries or both are to settle it, and what is shown as things stand.

    More trainings need a further look at the same queries, whose level is smaller. More queries are other data, which
    nobody has looked at. `look`: the number of this look; 0 where looks spend nothing, so that all have one level.
    """
    part = interval.variance
    if not math.isfinite(interval.low) or part.queries < 2:
        return "more trainings: an interval is not known with these"
    again = replace(interval, level=1.0 - look_level(look + 1)) if look else interval
    anew = replace(interval, level=1.0 - look_level(1)) if look else interval
    more = MORE_QUERIES * part.queries
    said = []
    if part.arms:
        trainings = max(MORE_TRAININGS, 2 * part.seeds)
        settled = probability_settled(again, threshold, trainings=(trainings,))
        both = probability_settled(anew, threshold, trainings=(trainings,), queries=(more,))
        said = [f"{trainings} trainings an arm {settled[0, 0]:.0%}", f"both {both[0, 0]:.0%}"]
    twice = probability_settled(anew, threshold, queries=(more,))
    said.insert(1, f"{MORE_QUERIES} times the queries {twice[0, 0]:.0%}")
    shown = detectable(part, level=interval.level)
    return f"chance to settle it: {', '.join(said)}; shown with 80 % power here: {shown:.2g} beyond the threshold"
