"""Projections, attention, one fusion variant a file, heads."""

from fusion_models.models.applicability import inapplicable
from fusion_models.models.ensemble import Ensemble, Ranker
from fusion_models.models.output import RankerOutput
from fusion_models.models.ranker import FusionRanker, build_ranker
from fusion_models.models.variants import VARIANTS

__all__ = ["VARIANTS", "Ensemble", "FusionRanker", "Ranker", "RankerOutput", "build_ranker", "inapplicable"]
