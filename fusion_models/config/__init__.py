"""What one training is made of: frozen, keyword-only dataclasses that fail when they are built.

A `Recipe` joins the three parts that a search varies. Its flat form (`{"model.width": 32, ...}`) is what travels
through a study, a table (`config.model.width`) and the `--set KEY=VALUE` flag. There, what belongs to a modality has
its name: `model.text_tokens` for each of the dataset's, and `loss.visual_importance` where `visual` is the suspect.

Knows the names of modalities; nothing of data, models or losses.
"""

from fusion_models.config.loss import LOSS_TERMS, NEED_SEVERAL, NEEDED_EVIDENCE, LossConfig
from fusion_models.config.model import V1, Flat, ModelConfig
from fusion_models.config.reading import near
from fusion_models.config.recipe import Recipe, Scalar
from fusion_models.config.train import TrainConfig

__all__ = [
    "LOSS_TERMS",
    "NEEDED_EVIDENCE",
    "NEED_SEVERAL",
    "V1",
    "Flat",
    "LossConfig",
    "ModelConfig",
    "Recipe",
    "Scalar",
    "TrainConfig",
    "near",
]
