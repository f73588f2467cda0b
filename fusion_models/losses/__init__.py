"""Ranking losses and auxiliary terms; the weighted sum returns (total, parts)."""

from fusion_models.losses.modulation import modulate_gradients
from fusion_models.losses.multitask import THUMBNAIL_DOCUMENTS, sample_documents
from fusion_models.losses.ranking import RANKING_LOSSES
from fusion_models.losses.total import TERMS, total_loss

__all__ = ["RANKING_LOSSES", "TERMS", "THUMBNAIL_DOCUMENTS", "modulate_gradients", "sample_documents", "total_loss"]
