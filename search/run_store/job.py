"""What one training is told, and what is known of it afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fusion_models.config import Flat, Recipe

State = Literal["finished", "stopped", "failed", "running"]
Failure = Literal["out_of_memory", "disk_full", "machine"]
"""What kind of failure it was, where that is known. `out_of_memory`: the trial's own allocation, or its process killed
by Ray's memory monitor. `machine`: a file that the system refused, a process that died, a device that was lost.

All of them are the machine's, not the training's: another time the same training may go well.
"""
RoleKind = Literal["search", "alone", "confirm", "refit", "base", "ablation", "labels"]


class NoRoomError(RuntimeError):
    """A disk is full on which trainings leave their rankers: whatever is trained next would fail alike.

    No mistake in what was asked: the same command, or `--resume`, goes on once there is room.
    """


@dataclass(frozen=True)
class Role:
    """What a training is for. A name is for people; this is what a program asks."""

    kind: RoleKind = "search"
    """`alone`: a reference ranker of one modality. `refit`: the finalist's recipe on some of its modalities.

    `base`: the base recipe, whole or on some of its modalities. `labels`: on labels that are not the given ones.
    """
    modalities: tuple[str, ...] = ()
    """What a reference ranker or a refit is built with; empty where the kind does not ask."""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why a training failed: a sentence for people, and the kind of failure where it is known."""

    reason: str
    failure: Failure | None = None


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
    items: Literal["all", "without cold"] = "all"
    """Whether the items that cold lists are read on (`fusion_models.data.views.cold`) are left out of the training."""
    labels: Literal["given", "permuted", "random"] = "given"
    """What is trained on: the data's labels, or others (`views.relabelled`) that the seed decides."""
    role: Role = Role()

    def plain(self) -> dict[str, Any]:
        """Values that JSON knows; `from_plain` gives the same job again."""
        return vars(self) | {"role": {"kind": self.role.kind, "modalities": list(self.role.modalities)}}

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> Job:
        """The job that `plain` wrote down."""
        said = plain["role"]
        return Job(**(dict(plain) | {"role": Role(said["kind"], tuple(said["modalities"]))}))

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
    items: Literal["all", "without cold"] = "all"
    """What it was trained on; see `Job.items`."""
    role: Role = Role()
    failure: Failure | None = None
    """Of a failed trial, where the kind is known."""
    taken_over: str | None = None
    """The run that trained it and its trial there, `phase1, trial t0003`; None: trained by this run."""

    @property
    def out_of_memory(self) -> bool:
        """Failed for want of memory, by itself: a trial that was not run since another one had is none."""
        return self.state == "failed" and self.failure == "out_of_memory"

    @property
    def by_the_machine(self) -> bool:
        """Failed for what is no fault of the training: it may go well another time."""
        return self.state == "failed" and self.failure is not None

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
    failure: Failure | None = None
    taken_over: str | None = None
    """As of `TrialRecord`."""


def below(flat: dict[str, Any], prefix: str) -> dict[str, float]:
    """The entries of a flattened result under `prefix/`."""
    return {key.removeprefix(f"{prefix}/"): value for key, value in flat.items() if key.startswith(f"{prefix}/")}
