"""One training: the step, the loop (a generator of epoch results), checkpoints.

`state` is all that a training is and what lies in a checkpoint; `accumulation` and `memory` keep it small; `epoch_log`
notes loss parts, `device_errors` reads what went wrong on a device; `own_loop` steps somebody's own loop, `warm_start`
starts from given weights; `stack` trains many in one set of kernels. May use models, losses, data and the evaluation;
knows nothing of a search.
"""

from fusion_models.training.loop import EpochResult, train
from fusion_models.training.state import (
    CheckpointError,
    Contents,
    TrainingState,
    contents,
    discard,
    load,
    previous_checkpoint,
    restore,
    save,
    start,
)
from fusion_models.training.step import DivergedError, train_step

__all__ = [
    "CheckpointError",
    "Contents",
    "DivergedError",
    "EpochResult",
    "TrainingState",
    "contents",
    "discard",
    "load",
    "previous_checkpoint",
    "restore",
    "save",
    "start",
    "train",
    "train_step",
]
