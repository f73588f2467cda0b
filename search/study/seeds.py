"""Which seeds a training may have: what chooses and what decides never share one.

A training that helped to choose the finalist is lucky on average. So the trainings that decide have seeds of their own,
in each phase, and are never taken over from an earlier one (docs/decisions/008).
"""

from __future__ import annotations

from spaces import ROADMAP_STEPS

SHORT_LIST_SEEDS = 10_000
"""The short list is trained with seeds from here on, far from any that the search used."""
DECIDING_SEEDS = 20_000
"""And the arms that decide from here on, a thousand apart from phase to phase."""
MOST_ON_SHORT_LIST = 3
"""Trainings of each recipe of the short list."""


def deciding_seed(phase: str, index: int) -> int:
    """Seed of deciding training `index` (0, 1, ...) of every arm of a phase."""
    steps = list(ROADMAP_STEPS)
    place = steps.index(phase) if phase in steps else len(steps)
    return DECIDING_SEEDS + 1_000 * place + index
