"""What one training is told, and what is known of it afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from fusion_models.config import Flat, Recipe

State = Literal["finished", "stopped", "failed", "running"]
OUT_OF_MEMORY = "out of memory"
"""How the reason of a trial begins that failed for want of memory."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training to be done. Plain values only, so that it can travel as JSON."""

    trial_id: str
    name: str
    """What it is for: `base`, `balanced`, `sampled`, `visual alone`, ..."""
    recipe: Flat
    seed: int
    detail: Literal["brief", "full"] = "brief"
    """How much is measured after the training: `full` adds the slow blanks (training mean, shuffles)."""
    latency: bool = False
    """Whether scoring is timed after the training: for what a front compares."""
    labels: Literal["given", "permuted", "random"] = "given"
    """What is trained on: the data's labels, or others (see `fusion_models.data.relabelled`) that the seed decides."""

    def to_recipe(self) -> Recipe:
        """The recipe, checked."""
        return Recipe.from_flat(self.recipe)


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial as the journal knows it."""

    trial_id: str
    stage: str
    name: str
    state: State
    state_reason: str
    epochs: int
    seed: int
    recipe: Flat
    numbers: dict[str, float] = field(default_factory=dict)
    seconds: float = float("nan")

    @property
    def out_of_memory(self) -> bool:
        """Failed for want of memory: its own allocation, or its process killed by Ray's memory monitor."""
        return self.state == "failed" and self.state_reason.startswith(OUT_OF_MEMORY)

    @property
    def finished(self) -> bool:
        """Trained to its end: only such a trial may stand on a front."""
        return self.state == "finished"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a trial ended."""

    state: State
    reason: str
    epochs: int
    numbers: dict[str, float]
    seconds: float


def below(flat: dict[str, Any], prefix: str) -> dict[str, float]:
    """The entries of a flattened result under `prefix/`."""
    return {key.removeprefix(f"{prefix}/"): value for key, value in flat.items() if key.startswith(f"{prefix}/")}
