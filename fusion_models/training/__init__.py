"""The step, the loop (a generator of epoch results), checkpoints."""

from fusion_models.training.loop import EpochResult, train
from fusion_models.training.state import CheckpointError, TrainingState, discard, load, save, start
from fusion_models.training.step import DivergedError, train_step

__all__ = [
    "CheckpointError",
    "DivergedError",
    "EpochResult",
    "TrainingState",
    "discard",
    "load",
    "save",
    "start",
    "train",
    "train_step",
]
