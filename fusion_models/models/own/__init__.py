"""Somebody's own module in place of this project's family: a fusion, or a whole ranker.

`interface` is what such a module is given and returns, `reference` finds it by its import name and reads its settings,
ranges and source, `ranker` makes a whole ranker look like one of ours. May use what `fusion_models.models` may.
"""

from fusion_models.models.own.interface import Inputs, Ranked, Training, TrainingBatch, Widths
from fusion_models.models.own.reference import OwnModel, OwnModelError, is_own, own_model

__all__ = [
    "Inputs",
    "OwnModel",
    "OwnModelError",
    "Ranked",
    "Training",
    "TrainingBatch",
    "Widths",
    "is_own",
    "own_model",
]
