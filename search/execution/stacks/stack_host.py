"""The actor that trains a worker's stack: a thread for each trial, whose epochs meet."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import ray
import torch

from fusion_models.training.stack import Meeting
from search.execution.failures import NODE
from search.execution.job_training import DeviceLostError, JobTraining

STDERR = 2
STACKED = "stacked"
"""In every result: how many trainings the host's last epoch had in one set of kernels."""


LAST_WORDS_SECONDS = 2.0
"""From a device's loss to the end of the process: so long its trials have to hear of it."""


class StackHost:
    """Steps the jobs of several trials. Each call of `step` is one trial's, in a thread of its own; see `Meeting`.

    A trial's configuration, checkpoints and results are those of a trial with a process of its own: a training that
    fails says so in its own last result. Whatever takes longer than an epoch may ends the process, and so does whatever
    kills it or takes its device; then every trial of it is tried again, and goes on from its own checkpoint.
    """

    def __init__(self, cpus: int, gpus: float, epoch_limit: float) -> None:
        torch.set_num_threads(max(1, cpus))
        self._limit = epoch_limit
        self._meeting = Meeting(watch=self._watch, share=min(1.0, gpus) if gpus > 0 else 1.0)
        self._trainings: dict[str, tuple[str, JobTraining]] = {}
        """Of each trial, which try it is, and its training."""
        self._lost = False
        self._process = uuid.uuid4().hex

    def process_name(self) -> str:
        """Name of this process: the host has another after each of its deaths."""
        self.last()
        return self._process

    def step(self, config: dict[str, Any], attempt: str, at_least: float, process: str) -> dict[str, Any] | None:
        """One step of a trial, as `FusionTrial` takes it; the first one of an attempt begins or resumes its training.

        A client that died may have left a step on its way here: the next attempt has nothing to do with it.
        None, and nothing done, where the step was meant for another process of this host.
        """
        trial_id = config["job"]["trial_id"]
        self.last()  # a trial that has heard of a lost device is to meet the host's next process
        if process != self._process:
            return None
        with self._meeting.held(), self._ending_with_the_device():
            known, training = self._trainings.get(trial_id, ("", None))
            if training is None or known != attempt:
                self.forget(trial_id)
                training = JobTraining(config, epochs=self._meeting.train)
                self._trainings[trial_id] = attempt, training
            result = training.step(at_least=min(at_least, self._limit / 2), pauses=config["pauses"])
            if result.get("done") and self._trainings.get(trial_id) == (attempt, training):
                del self._trainings[trial_id]
            stacked = self._meeting.last
        return result | {NODE: ray.get_runtime_context().get_node_id(), STACKED: stacked}

    @contextlib.contextmanager
    def _ending_with_the_device(self) -> Iterator[None]:
        """End the process, for Ray to start another, once its trials have heard that the device is lost."""
        try:
            yield
        except DeviceLostError:
            if not self._lost:
                self._lost = True
                threading.Timer(LAST_WORDS_SECONDS, os._exit, (1,)).start()
            raise

    def last(self) -> None:
        """Return where the process stays; else never."""
        while self._lost:
            time.sleep(LAST_WORDS_SECONDS)

    def forget(self, trial_id: str) -> None:
        """A trial has ended, however it did: nobody waits for it any more."""
        with self._meeting.lock:
            _, training = self._trainings.pop(trial_id, ("", None))
            if training is not None:
                with contextlib.suppress(ValueError):  # a step is on its way: what it asks for is its last epoch
                    training.close()

    def _watch(self, computes: bool) -> None:
        """A thread that needs nothing of Python ends the process where nobody gets on."""
        if computes:
            faulthandler.dump_traceback_later(self._limit, exit=True, file=STDERR)
        else:
            faulthandler.cancel_dump_traceback_later()
