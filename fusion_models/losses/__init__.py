"""Ranking losses and auxiliary terms; the weighted sum returns (total, parts).

`ranking` has the listwise losses, `importance`, `multitask` and `adversarial` the terms, `modulation` what changes
gradients instead, `total` the sum and the table of terms. May use config, data's batches, metrics and what a model
gives out.
"""

from fusion_models.losses.draws import Drawn
from fusion_models.losses.modulation import modulate_gradients, modulation_coefficients
from fusion_models.losses.multitask import THUMBNAIL_DOCUMENTS, sample_documents
from fusion_models.losses.ranking import RANKING_LOSSES
from fusion_models.losses.total import TERMS, Step, Suspect, sum_of_terms, total_loss

__all__ = [
    "RANKING_LOSSES",
    "TERMS",
    "THUMBNAIL_DOCUMENTS",
    "Drawn",
    "Step",
    "Suspect",
    "modulate_gradients",
    "modulation_coefficients",
    "sample_documents",
    "sum_of_terms",
    "total_loss",
]
