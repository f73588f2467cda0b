"""Every fusion variant by name; one a file. May use the rest of `fusion_models.models`, never losses or training."""

from __future__ import annotations

from fusion_models.models.fusion import Fusion
from fusion_models.models.variants.bottleneck import AttentionBottleneck
from fusion_models.models.variants.concat_mlp import ConcatMLP
from fusion_models.models.variants.cross_attention import CrossAttention
from fusion_models.models.variants.film import FiLM
from fusion_models.models.variants.gated_unit import GatedUnit
from fusion_models.models.variants.late_sum import LateSum
from fusion_models.models.variants.low_rank_tensor import LowRankTensorFusion

VARIANTS: dict[str, type[Fusion]] = {
    "cross_attention": CrossAttention,
    "bottleneck": AttentionBottleneck,
    "gated_unit": GatedUnit,
    "film": FiLM,
    "low_rank_tensor": LowRankTensorFusion,
    "concat_mlp": ConcatMLP,
    "late_sum": LateSum,
}
