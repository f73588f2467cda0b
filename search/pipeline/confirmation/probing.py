"""Rankers outside the family, asked what the suspect is worth."""

from __future__ import annotations

from fusion_models.metrics.ensembles import Arm
from search.pipeline.confirmation.gathering import Measured
from search.pipeline.context import Run


def begin_probes(run: Run, split: str, *, cold: bool) -> list[object]:
    """Probes under way."""
    return []


def read_probes(probes: list[object], whole: Measured) -> list[tuple[str, Arm, Arm, bool]]:
    """Name, arm with the suspect, arm without it, and whether the probe counts."""
    return []
