"""One trial: a Tune Trainable that steps the training generator, one epoch a step, or several short ones."""

from __future__ import annotations

import contextlib
import faulthandler
import time
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from search.execution.failures import NODE
from search.execution.job_training import JobTraining
from search.execution.remote_calls import IDLE_SECONDS, run_remote_call

STDERR = 2
"""The descriptor: Ray puts objects of its own in place of sys.stderr."""


class FusionTrial(tune.Trainable):  # type: ignore[misc]
    """Trains one job in this process. Reused for the next job, so that torch and the data are loaded once.

    A training that fails by itself says so in its last result and ends like any other; only a process that dies, or
    whose device answers no more (which ends it), is an error to Ray, and so only that is tried again, from the
    checkpoint that was written after its last step: an epoch, or as many short ones as `report_seconds` hold. A step
    that takes longer than an epoch may ends the process, from a thread that needs nothing of Python to do so.

    A trial without a job makes a call (`remote_calls`), which may take as long as it takes, or waits for what comes
    next.
    """

    def setup(self, config: dict[str, Any]) -> None:
        torch.set_num_threads(max(1, int(config["cpus"])))
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._config = config
        self._training = JobTraining(config) if config["job"] is not None else None
        self._limit: float = config["epoch_limit"]
        self._ready = False

    def step(self) -> dict[str, Any]:
        if self._config["remote_call"] is not None:
            run_remote_call(Path(self._config["remote_call"]))
            return {"done": True}
        faulthandler.dump_traceback_later(self._limit, exit=True, file=STDERR)
        try:
            result = self._wait() if self._training is None else self._train(self._training)
            return result | {NODE: ray.get_runtime_context().get_node_id()}
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _train(self, training: JobTraining) -> dict[str, Any]:
        at_least = min(self._config["report_seconds"], self._limit / 2)  # the limit is an epoch's
        return training.step(at_least=at_least, pauses=self._config["pauses"])

    def _wait(self) -> dict[str, Any]:
        if not self._ready:
            self._ready = True
            with contextlib.suppress(Exception):  # the job that cannot open its data says so
                self._config["data"].open()
        time.sleep(IDLE_SECONDS)
        return {}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing for Ray to keep: checkpoints live in the run folder, where a resumed run finds them."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See `save_checkpoint`."""
