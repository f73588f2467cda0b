"""One job trained step by step, by one process or by several: what a Tune actor and a Train worker have in common."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Collection, Generator, Iterator
from typing import Any

import torch
from safetensors.torch import load_file

from fusion_models.config import Recipe
from fusion_models.data import RankingDataset
from fusion_models.data.sources import HALVED
from fusion_models.data.views.cold import without_cold
from fusion_models.data.views.relabelled import relabelled
from fusion_models.process_group import ALONE, ProcessGroup
from fusion_models.training import (
    CheckpointError,
    EpochResult,
    TrainingState,
    contents,
    discard,
    load,
    restore,
    save,
    start,
    train,
)
from fusion_models.training.device_errors import disk_full, lost_device, out_of_memory, refused_by_system
from fusion_models.training.warm_start import warm_start
from search.execution.file_transfer import DataTicket, TrialFolder
from search.run_store.artifacts import measure, write_finished
from search.run_store.job import Cause, Job

ERROR_LENGTH = 500


Epochs = Callable[[TrainingState, RankingDataset], Iterator[EpochResult]]


class JobFailedError(RuntimeError):
    """What rank 0 could not do alone, told to the others."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.reason)
        self.cause = cause


class DeviceLostError(RuntimeError):
    """A process whose device answers no more: it must end, and its trainings go on from their checkpoints elsewhere."""


def job_dataset(ticket: DataTicket, job: Job) -> RankingDataset:
    """What a job is trained on. Where its labels are not the given ones, half of validation is held back from it."""
    if job.items == "without cold":
        return without_cold_items(ticket, job.to_recipe().suspect)
    if job.labels == "given":
        return ticket.open()
    halved = ticket.source if ticket.source.endswith(HALVED) else f"{ticket.source}{HALVED}"
    return relabelled(dataclasses.replace(ticket, source=halved).open(), job.labels, job.seed)


@functools.lru_cache(maxsize=2)
def without_cold_items(ticket: DataTicket, suspect: str) -> RankingDataset:
    """The data whose training lists lack the items that cold lists are read on; made once a process."""
    return without_cold(ticket.open(), suspect=suspect)


class JobTraining:
    """A job in the making. Every process of `process_group` has one and steps it at the same time.

    A training that fails by itself says so in its last result (`outcome`, `reason`) and raises nothing. Raises
    DeviceLostError alone, after which the process can train nothing more.
    """

    def __init__(
        self, config: dict[str, Any], process_group: ProcessGroup = ALONE, *, epochs: Epochs | None = None
    ) -> None:
        """`config`: `job`, `data` (a DataTicket), `checkpoints` (on the driver's machine), `gpus`.

        `epochs` stands in for `train` where the training shares kernels with others.
        """
        self.job = Job.from_plain(config["job"])
        self._ticket: DataTicket = config["data"]
        self._folder = TrialFolder(self._ticket.home, config["checkpoints"], self.job.trial_id)
        self._device = _device(config["gpus"])
        self._distribution = process_group
        self._data: RankingDataset | None = None
        self._state: TrainingState | None = None
        self._train_epochs = epochs or (lambda state, data: train(state, data, process_group=process_group))
        self._epochs: Iterator[EpochResult] | None = None
        self._numbers: dict[str, float] = {}
        self._before: list[dict[str, Any]] = []
        self._unsaved = ""
        self._seconds = 0.0
        self._saved = time.perf_counter()

    def step(self, *, at_least: float = 0.0, pauses: Collection[int] = ()) -> dict[str, Any]:
        """Train one epoch, with its checkpoint; after the last one, measure and write the ranker.

        Where epochs are short, as many as `at_least` seconds hold, but none beyond one of `pauses`; the result is that
        of the last one, and `before` has what the others gave. So long a time lies between two checkpoints, too.
        """
        began = time.perf_counter()
        self._before = []
        try:
            result = self._train(at_least, pauses)
        except Exception as error:
            self.close()  # what it holds in memory goes before the next trial comes
            if lost_device(error):
                raise DeviceLostError(f"its GPU answered it no more: {_first_line(error)}") from error
            cause = cause_of(error)
            result = {"outcome": "failed", "reason": cause.reason, "failure": cause.failure, "done": True}
            result |= {"before": self._before}
        self._seconds += time.perf_counter() - began
        return result | self._now() | {"seconds": self._seconds}

    def close(self) -> None:
        """Leave the training where it is: whoever shares kernels with it waits for it no longer."""
        epochs, self._epochs = self._epochs, None
        if isinstance(epochs, Generator):
            epochs.close()

    def _now(self) -> dict[str, Any]:
        return {"numbers": self._numbers, "epochs": self._state.epoch if self._state is not None else 0}

    def _train(self, at_least: float, pauses: Collection[int]) -> dict[str, Any]:
        until = time.perf_counter() + at_least
        if self._data is None:
            self._data = job_dataset(self._ticket, self.job)
        data = self._data
        if self._state is None or self._epochs is None:
            self._state = self._open(data)
            self._epochs = self._train_epochs(self._state, data)
            if self._state.epoch in pauses:  # read from a checkpoint: whether it was told is not known
                self._numbers = self._state.best_numbers
                return {"before": self._before}
        for epoch in self._epochs:
            self._numbers = self._state.best_numbers
            result: dict[str, Any] = {"parts": epoch.parts, "before": self._before}
            if epoch.finished:
                return result | self._finish(self._state, data)
            if epoch.epoch in pauses or time.perf_counter() >= until:
                if self._distribution.rank == 0 and time.perf_counter() >= self._saved + at_least:
                    self._save(self._state)
                    self._saved = time.perf_counter()
                return result
            self._before.append({"parts": epoch.parts} | self._now())
        return self._finish(self._state, data)  # the process died between its last checkpoint and this

    def _finish(self, state: TrainingState, data: RankingDataset) -> dict[str, Any]:
        evaluation = measure(state, data, self.job, process_group=self._distribution)
        numbers: dict[str, float] = {}
        failed: Cause | None = None
        if self._distribution.rank == 0:
            try:
                numbers = write_finished(evaluation, state, data, self.job, self._folder.path)
                self._folder.send_results()
            except Exception as error:
                if lost_device(error):
                    raise
                failed = cause_of(error)
        numbers, failed = self._distribution.first((numbers, failed))
        if failed is not None:
            raise JobFailedError(failed)
        self._numbers = numbers
        return {"outcome": "finished", "reason": self._unsaved, "done": True}

    def _save(self, state: TrainingState) -> None:
        """A disk that is full costs the checkpoint, not the training; the one before stays whole."""
        try:
            save(state, self._folder.training)
            self._folder.send_checkpoint()
        except OSError as error:
            self._unsaved = f"no checkpoint after epoch {state.epoch}: {error}"[:ERROR_LENGTH]

    def _begin(self, recipe: Recipe, data: RankingDataset) -> TrainingState:
        """A fresh training, from the run's weights where the recipe says so."""
        state = start(recipe, data, seed=self.job.seed, device=self._device)
        if recipe.train.start == "weights":
            warm_start(state.model, load_file(self._folder.start_weights()))
        return state

    def _open(self, data: RankingDataset) -> TrainingState:
        """From the checkpoint, which rank 0 alone reads, or afresh."""
        recipe, found = self.job.to_recipe(), None
        if self._distribution.rank == 0:
            self._folder.fetch()
            try:
                found = load(self._folder.training, recipe, data, seed=self.job.seed, device=self._device)
            except CheckpointError:
                discard(self._folder.training)
        state = found or self._begin(recipe, data)
        if self._distribution.size == 1:
            return state
        read = self._distribution.first(contents(found) if found is not None else None)
        if read is not None and found is None:
            restore(state, read)
        return state


def _device(gpus: float) -> torch.device:
    """The GPU that this process works on, where it was given one."""
    return torch.device("cuda", torch.cuda.current_device()) if gpus > 0 else torch.device("cpu")


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:ERROR_LENGTH]


def cause_of(error: Exception) -> Cause:
    """What is told of an error that ends a training."""
    if isinstance(error, JobFailedError):
        return error.cause
    if out_of_memory(error):
        return Cause(reason=f"out of memory: {error}"[:ERROR_LENGTH], failure="out_of_memory")
    reason = f"{type(error).__name__}: {error}"[:ERROR_LENGTH]
    if disk_full(error):
        return Cause(reason=reason, failure="disk_full")
    return Cause(reason=reason, failure="machine" if refused_by_system(error) else None)
