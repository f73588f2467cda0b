"""Projections, attention, one fusion variant a file, heads, the ensemble.

`trainable` is what one training makes: our family joined in `ranker`, or somebody's own module (`own`). `variants`
names every variant, `applicability` says which settings a recipe cannot have, `trees` evaluates a tuned V1 inside the
model. May use config and data's batches, never losses or training.
"""

from fusion_models.models.applicability import inapplicable
from fusion_models.models.ensemble import Ensemble, Ranker
from fusion_models.models.output import RankerOutput
from fusion_models.models.ranker import FusionRanker, build_ranker
from fusion_models.models.trainable import TrainableRanker
from fusion_models.models.variants import VARIANTS

__all__ = [
    "VARIANTS",
    "Ensemble",
    "FusionRanker",
    "Ranker",
    "RankerOutput",
    "TrainableRanker",
    "build_ranker",
    "inapplicable",
]
