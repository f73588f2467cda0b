"""Every fusion variant by name."""

from __future__ import annotations

from fusion_models.models.bottleneck import AttentionBottleneck
from fusion_models.models.concat_mlp import ConcatMLP
from fusion_models.models.cross_attention import CrossAttention
from fusion_models.models.film import FiLM
from fusion_models.models.fusion import Fusion
from fusion_models.models.gated_unit import GatedUnit
from fusion_models.models.late_sum import LateSum
from fusion_models.models.low_rank_tensor import LowRankTensorFusion

VARIANTS: dict[str, type[Fusion]] = {
    "cross_attention": CrossAttention,
    "bottleneck": AttentionBottleneck,
    "gated_unit": GatedUnit,
    "film": FiLM,
    "low_rank_tensor": LowRankTensorFusion,
    "concat_mlp": ConcatMLP,
    "late_sum": LateSum,
}
