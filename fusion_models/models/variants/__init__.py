"""Every fusion variant by name; one a file. May use the rest of `fusion_models.models`, never losses or training."""

from __future__ import annotations

from fusion_models.config import Recipe
from fusion_models.models.fusion import Fusion
from fusion_models.models.own.reference import is_own, own_model
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


def fusion_class(variant: str) -> type[Fusion] | None:
    """The fusion of this name, ours or somebody's own (`package.module:Class`); None for a whole ranker of one's own.

    Raises ValueError, naming ours, where there is none of this name.
    """
    if is_own(variant):
        cls = own_model(variant).cls
        return cls if issubclass(cls, Fusion) else None
    if variant not in VARIANTS:
        raise ValueError(f"model.variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
    return VARIANTS[variant]


def build_fusion(recipe: Recipe, owner: tuple[int, ...]) -> Fusion:
    """The fusion that a recipe names; `owner` as for `Fusion`."""
    variant = recipe.model.variant
    cls = fusion_class(variant)
    assert cls is not None, variant
    if is_own(variant) and own_model(variant).settings is not None:
        return cls(recipe.model, owner, settings=own_model(variant).settings_of(recipe))  # type: ignore[call-arg]
    return cls(recipe.model, owner)


def share_kind_of(variant: str) -> str:
    """What the shares of a variant are, or of somebody's own module."""
    cls = fusion_class(variant)
    return own_model(variant).share_kind if cls is None else cls.share_kind
