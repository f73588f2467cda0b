"""One trial: a Tune Trainable that steps the training generator, one epoch a step."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from ray import tune

from fusion_models.data import RankingDataset, open_dataset
from fusion_models.data.relabelled import relabelled
from fusion_models.data.sources import HALVED
from fusion_models.training import CheckpointError, EpochResult, TrainingState, discard, load, save, start, train
from search.artifacts import finish
from search.job import OUT_OF_MEMORY, Job

ERROR_LENGTH = 500
ALLOCATOR = "DefaultCPUAllocator: can't allocate memory"
"""What torch says, as a plain RuntimeError, where the machine has no more memory to promise."""


@functools.lru_cache(maxsize=2)
def _dataset(source: str, cache: str | None) -> RankingDataset:
    """Opened once a process: an actor trains many trials on it."""
    return open_dataset(source, cache=cache)


def job_dataset(source: str, cache: str | None, job: Job) -> RankingDataset:
    """What a job is trained on. Where its labels are not the given ones, half of validation is held back from it."""
    if job.labels == "given":
        return _dataset(source, cache)
    halved = source if source.endswith(HALVED) else f"{source}{HALVED}"
    return relabelled(_dataset(halved, cache), job.labels, job.seed)


class FusionTrial(tune.Trainable):  # type: ignore[misc]
    """Trains one job in this process. Reused for the next job, so that torch and the data are loaded once.

    A training that fails by itself says so in its last result and ends like any other; only a process that dies is an
    error to Ray, and so only that is tried again, from the checkpoint that was written after its last epoch.
    """

    def setup(self, config: dict[str, Any]) -> None:
        torch.set_num_threads(max(1, int(config["cpus"])))
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._job = Job(**config["job"])
        self._folder = Path(config["checkpoints"]) / self._job.trial_id
        self._source = (config["source"], config["cache"])
        self._device = torch.device("cuda" if config["gpus"] > 0 else "cpu")
        self._data: RankingDataset | None = None
        self._state: TrainingState | None = None
        self._epochs: Iterator[EpochResult] | None = None
        self._numbers: dict[str, float] = {}
        self._seconds = 0.0

    def step(self) -> dict[str, Any]:
        began = time.perf_counter()
        try:
            result = self._train_epoch()
        except Exception as error:
            self._epochs = None  # what it holds in memory goes before the next trial comes
            result = {"outcome": "failed", "reason": _reason(error), "done": True}
        self._seconds += time.perf_counter() - began
        epochs = self._state.epoch if self._state is not None else 0
        return result | {"numbers": self._numbers, "epochs": epochs, "seconds": self._seconds}

    def _train_epoch(self) -> dict[str, Any]:
        if self._data is None:
            self._data = job_dataset(*self._source, self._job)
        data = self._data
        if self._state is None or self._epochs is None:
            self._state = self._open(data)
            self._epochs = train(self._state, data)
        epoch = next(self._epochs, None)
        if epoch is None:  # its checkpoint was written after the last epoch, and then the process died
            self._numbers = finish(self._state, data, self._job, self._folder)
            return {"outcome": "finished", "reason": "", "done": True}
        self._numbers = self._state.best_numbers
        result: dict[str, Any] = {"parts": epoch.parts, "epoch_ndcg": epoch.evaluation.mean_ndcg}
        if epoch.finished:
            self._numbers = finish(self._state, data, self._job, self._folder)
            return result | {"outcome": "finished", "reason": "", "done": True}
        save(self._state, self._folder / "training")
        return result

    def _open(self, data: RankingDataset) -> TrainingState:
        recipe = self._job.to_recipe()
        folder = self._folder / "training"
        try:
            return load(folder, recipe, data, seed=self._job.seed, device=self._device)
        except CheckpointError:
            discard(folder)
        return start(recipe, data, seed=self._job.seed, device=self._device)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing for Ray to keep: checkpoints live in the run folder, where a resumed run finds them."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See `save_checkpoint`."""


def _reason(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or ALLOCATOR in str(error):
        return f"{OUT_OF_MEMORY}: {error}"[:ERROR_LENGTH]
    return f"{type(error).__name__}: {error}"[:ERROR_LENGTH]
