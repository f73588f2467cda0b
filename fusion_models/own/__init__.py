"""For whoever brings a module of their own: what it is given, what it returns, and the parts that it may be made of.

A *ranker* is a `torch.nn.Module` whose `forward` takes `Inputs` and returns scores `[B, L]` or a `Ranked`. A *fusion*
is a `Fusion`: tokens and query in, `Fused` out. `conformance` checks
either; `python -m fusion_models.check package.module:Class` is its command line. May use all of `fusion_models`.
"""

from fusion_models.config import ModelConfig, TrainConfig
from fusion_models.data.schema import FeatureStatistics
from fusion_models.models.fusion import Fused, Fusion
from fusion_models.models.own import Inputs, OwnModelError, Ranked, Training, TrainingBatch, Widths, own_model
from fusion_models.models.projections import Standardise

__all__ = [
    "FeatureStatistics",
    "Fused",
    "Fusion",
    "Inputs",
    "ModelConfig",
    "OwnModelError",
    "Ranked",
    "Standardise",
    "TrainConfig",
    "Training",
    "TrainingBatch",
    "Widths",
    "own_model",
]
