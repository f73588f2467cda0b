"""Ranking losses and auxiliary terms; the weighted sum returns (total, parts)."""

from fusion_models.losses.draws import Drawn
from fusion_models.losses.modulation import modulate_gradients, modulation_coefficients
from fusion_models.losses.multitask import THUMBNAIL_DOCUMENTS, sample_documents
from fusion_models.losses.ranking import RANKING_LOSSES
from fusion_models.losses.total import TERMS, sum_of_terms, total_loss

__all__ = [
    "RANKING_LOSSES",
    "TERMS",
    "THUMBNAIL_DOCUMENTS",
    "Drawn",
    "modulate_gradients",
    "modulation_coefficients",
    "sample_documents",
    "sum_of_terms",
    "total_loss",
]
