"""What a phase of a roadmap is told beyond its options: where it stands, what decides it, what was trained before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fusion_models.config import Flat
from fusion_models.data.sources import HALVED
from search.run_store.folder import RunFolder
from search.run_store.looks import DECIDING_HALF, DECIDING_SPLIT

TEST_PHASES = ("phase3", "phase4")
"""The phases of a roadmap that may open the test split; those before them decide on the half of validation."""


@dataclass(frozen=True, kw_only=True)
class RoadmapStep:
    """One phase's place in a roadmap. Every phase of it searches on the same half of validation."""

    phase: str
    folder: RunFolder
    """The roadmap's."""
    earlier: tuple[RunFolder, ...] = ()
    """Runs of the phases before, in order."""
    warm: dict[str, Flat] | None = None
    """The front of the last of them."""

    @property
    def deciding(self) -> str:
        """The split on which this phase decides."""
        return DECIDING_SPLIT if self.phase in TEST_PHASES else DECIDING_HALF

    def described(self) -> dict[str, Any]:
        """For run.json."""
        return {
            "folder": self.folder.path.name,
            "after": [run.path.name for run in self.earlier],
            "searches_on": "a hashed half of validation",
            "decides_on": self.deciding,
        }


def halved(data: str) -> str:
    """The data as every phase of a roadmap opens it."""
    return data if data.endswith(HALVED) else data + HALVED
