"""How long an epoch may take before its process counts as hung."""

from __future__ import annotations

from search.options import RunOptions
from spaces import Phase

SHORTEST_LIMIT = 600.0
TIMES_EXPECTED = 50.0
"""A searched recipe may cost ten times the base one, on a machine that others load, and the last epoch measures too."""


def epoch_limit(options: RunOptions, phase: Phase, training_seconds: float) -> float:
    """Seconds: the option, or fifty times what an epoch of the base recipe should take, ten minutes at the least."""
    if options.epoch_limit_seconds is not None:
        return options.epoch_limit_seconds
    return max(SHORTEST_LIMIT, TIMES_EXPECTED * training_seconds / phase.base.train.epochs)
