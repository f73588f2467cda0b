"""One trial of a stack: a Tune Trainable that has a host step the job, and needs nothing itself."""

from __future__ import annotations

import contextlib
import time
import uuid
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError

from search.execution.failures import NODE
from search.execution.job_training import DeviceLostError
from search.execution.nodes import machines_gone

RESTART_SECONDS = 0.5
"""How long to wait before a host is looked for again that is not up."""


class StackedTrial(tune.Trainable):  # type: ignore[misc]
    """The client of a stack's host; see `StackHost`. Reused for the next job, as `FusionTrial` is.

    A host that dies is an error to Ray, as the death of a trial's own process is: the trial is tried again, and its
    job goes on from its checkpoint, in the host that Ray starts anew. Where another trial is known to have brought the
    host down (see `Turns`), it goes on at once and no try of its own is spent.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._config = {name: config[name] for name in ("job", "data", "checkpoints", "gpus", "pauses")}
        self._at_least: float = config["report_seconds"]
        self._name: str = config["host"]
        self._host, self._turns = ray.get_actor(config["host"]), ray.get_actor(config["turns"])
        self._epochs, self._node = 0, ""
        self._attempt = ""

    def step(self) -> dict[str, Any]:
        trial_id = self._config["job"]["trial_id"]
        while True:
            self._attempt = self._attempt or uuid.uuid4().hex
            process = self._process_of_host()
            while not ray.get(self._turns.turn.remote(self._name, process, trial_id, self._epochs)):
                pass
            try:
                step = self._host.step.remote(self._config, self._attempt, self._at_least, process)
                result: dict[str, Any] | None = ray.get(step)
            except (RayActorError, DeviceLostError) as error:
                if isinstance(error, DeviceLostError):
                    self._outlast()
                gone = bool(self._node) and bool(machines_gone([self._node]))
                died = self._turns.died.remote(self._name, process, trial_id, with_machine=gone)
                if ray.get(died) != "innocent":
                    raise
                self._attempt = ""
            else:
                if result is None:  # the process has died since, and the host is in another
                    continue
                self._epochs, self._node = result["epochs"], result[NODE]
                return result

    def _process_of_host(self) -> str:
        """Which process the host is in: after its death it is started anew, which takes a while."""
        while True:
            with contextlib.suppress(RayActorError):
                process: str = ray.get(self._host.process_name.remote())
                return process
            time.sleep(RESTART_SECONDS)

    def _outlast(self) -> None:
        """A host that has lost its device says so before it dies."""
        with contextlib.suppress(RayActorError):
            ray.get(self._host.last.remote())

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing for Ray to keep: see `FusionTrial`."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See `save_checkpoint`."""
