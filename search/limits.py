"""How long an epoch may take before its process counts as hung."""

from __future__ import annotations

from fusion_models.data import RankingDataset
from search.options import RunOptions
from spaces import Phase

SHORTEST_LIMIT = 600.0
TIMES_EXPECTED = 50.0
"""A searched recipe may cost ten times the base one, on a machine that others load, and the last epoch measures too."""


def epoch_limit(options: RunOptions, data: RankingDataset, phase: Phase) -> float:
    """Seconds: the option, or fifty times what an epoch of the base recipe should take, ten minutes at the least."""
    if options.epoch_limit_seconds is not None:
        return options.epoch_limit_seconds
    from search.plan import seconds_a_training  # the plan knows runs, and runs know this

    expected = seconds_a_training(data, phase) / phase.base.train.epochs
    return max(SHORTEST_LIMIT, TIMES_EXPECTED * expected)
