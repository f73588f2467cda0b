"""One trial of a stack: a Tune Trainable that has a host step the job, and needs nothing itself."""

from __future__ import annotations

import uuid
from typing import Any

import ray
from ray import tune


class StackedTrial(tune.Trainable):  # type: ignore[misc]
    """The client of a stack's host; see `StackHost`. Reused for the next job, as `FusionTrial` is.

    A host that dies is an error to Ray, as the death of a trial's own process is: the trial is tried again, and its
    job goes on from its checkpoint, in the host that Ray starts anew.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._config = {name: config[name] for name in ("job", "data", "checkpoints", "gpus", "pauses")}
        self._at_least: float = config["report_seconds"]
        self._host = ray.get_actor(config["host"])
        self._attempt = uuid.uuid4().hex

    def step(self) -> dict[str, Any]:
        result: dict[str, Any] = ray.get(self._host.step.remote(self._config, self._attempt, self._at_least))
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing for Ray to keep: see `FusionTrial`."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See `save_checkpoint`."""
