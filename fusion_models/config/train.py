"""How a recipe is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fusion_models.config.requirement import require


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long and how fast."""

    epochs: int = 12
    patience: int = 4
    """Epochs without a better validation nDCG before the training ends by itself."""
    batch_queries: int = 32
    """Of one step, over all workers together: the batch does not change with their number."""
    slice_queries: int = 0
    """Queries that pass through a worker's ranker at once, where memory is short; 0: its whole share of the batch.

    The same gradient for one more forward pass.
    """
    learning_rate: float = 3e-3
    suspect_learning_rate_scale: float = 1.0
    """Of the suspect's encoder: `train.visual_learning_rate_scale` in the flat form, where that is the suspect."""
    weight_decay: float = 1e-3
    warmup: float = 0.1
    """Fraction of all steps over which the rate rises, before its cosine descent."""
    gradient_clip: float = 1.0
    modality_dropout: float = 0.0
    """Probability that a query's modality is replaced by its learned null token."""
    gradient_modulation: float = 0.0
    """OGM-style: strength of the slow-down of the modality that is ahead; 0 is off."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 autocast on a GPU that has it, float32 elsewhere."""
    members: int = 1
    """Trainings of this recipe that make the ranker which is released: the mean of their within-query standardised
    scores. One training makes one member."""
    start: Literal["fresh", "weights"] = "fresh"
    """What a training begins with: fresh weights, or those that a run is given (`--weights`), as far as they fit."""

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch_queries", "members"):
            require(getattr(self, name) >= 1, f"train.{name} must be >= 1, got {getattr(self, name)}")
        for name in ("learning_rate", "suspect_learning_rate_scale", "gradient_clip"):
            require(getattr(self, name) > 0.0, f"train.{name} must be > 0, got {getattr(self, name)}")
        require(self.slice_queries >= 0, f"train.slice_queries must be >= 0, got {self.slice_queries}")
        require(self.weight_decay >= 0.0, f"train.weight_decay must be >= 0, got {self.weight_decay}")
        require(0.0 <= self.warmup < 1.0, f"train.warmup must be in [0, 1), got {self.warmup}")
        require(
            0.0 <= self.modality_dropout < 1.0,
            f"train.modality_dropout must be in [0, 1), got {self.modality_dropout}",
        )
        require(
            self.gradient_modulation >= 0.0,
            f"train.gradient_modulation must be >= 0, got {self.gradient_modulation}",
        )
