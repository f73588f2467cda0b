"""One trial: a Tune Trainable that steps the training generator, one epoch a step."""

from __future__ import annotations

import faulthandler
from typing import Any

import ray
import torch
from ray import tune

from search.deaths import NODE
from search.job_training import JobTraining

STDERR = 2
"""The descriptor: Ray puts objects of its own in place of sys.stderr."""


class FusionTrial(tune.Trainable):  # type: ignore[misc]
    """Trains one job in this process. Reused for the next job, so that torch and the data are loaded once.

    A training that fails by itself says so in its last result and ends like any other; only a process that dies is an
    error to Ray, and so only that is tried again, from the checkpoint that was written after its last epoch. An epoch
    that takes longer than its limit ends the process, from a thread that needs nothing of Python to do so.
    """

    def setup(self, config: dict[str, Any]) -> None:
        torch.set_num_threads(max(1, int(config["cpus"])))
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._training = JobTraining(config)
        self._limit: float = config["epoch_limit"]

    def step(self) -> dict[str, Any]:
        faulthandler.dump_traceback_later(self._limit, exit=True, file=STDERR)
        try:
            return self._training.step() | {NODE: ray.get_runtime_context().get_node_id()}
        finally:
            faulthandler.cancel_dump_traceback_later()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing for Ray to keep: checkpoints live in the run folder, where a resumed run finds them."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See `save_checkpoint`."""
