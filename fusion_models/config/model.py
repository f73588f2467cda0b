"""The fusion ranker of a recipe: its size, its tokens, its context."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from fusion_models.config.requirement import require
from fusion_models.modalities import MODALITIES, V1_READS, require_modalities

Flat = dict[str, Any]
"""A recipe's flat form, or some of its keys: `{"model.width": 32, ...}`."""
V1 = "v1"
"""V1's score, among the things that a context may read."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One fusion ranker. The defaults are the roadmap's V2 (8 heads, 4 layers) at a laptop's width."""

    variant: str = "cross_attention"
    """A key of `fusion_models.models.VARIANTS`, or `package.module:Class`: a fusion or a whole ranker of one's own."""
    width: int = 32
    heads: int = 8
    layers: int = 4
    dropout: float = 0.1
    token_dropout: float = 0.0
    """Of the elements of every modality's tokens, before they are fused; `dropout` acts inside the fusion."""
    tokens_each: tuple[tuple[str, int], ...] = tuple((m, 1) for m in MODALITIES)
    """How many tokens each modality of the dataset is projected to, in the dataset's order; `model.NAME_tokens` in the
    flat form, a key a modality."""
    standardise: bool = True
    """Scale each feature by the training split's mean and deviation, inside the model."""
    scale: Literal["block", "feature"] = "block"
    """What shares one deviation: an embedding's features all together, which keeps its geometry, or each by itself.

    Features that are separate quantities (the schema says whose are) are always scaled one by one.
    """
    context: Literal["none", "v1", "tuned_v1"] = "none"
    """What joins the context input (never blanked, never in a share): nothing, V1's score, or a tuned V1's as well.

    A tuned V1 is what V1's team could do alone: trees (LambdaMART) on `context_reads`, out of fold in training. V1's
    own score stands beside theirs where they read it.
    """
    context_reads: tuple[str, ...] = (V1, *V1_READS)
    """What the trees of a tuned V1 read: V1's score (`v1`) and modalities. Without them it says nothing."""
    modalities: tuple[str, ...] = MODALITIES
    """The modalities the ranker is built with; a refit without one leaves it out here."""
    columns: Literal["all", "confirmed"] = "all"
    """Which of a modality's features its encoder projects: all, or those whose covariance with the label the training
    queries confirm (`fusion_models.screening`); all where none is."""
    products: int = 0
    """Products of two projections of a modality's features that its encoder reads beside them: half of them plain, half
    with the sign of the first. They start from those that the training queries confirm, the others at 0."""
    bottleneck_tokens: int = 2
    """Attention bottleneck: how many tokens carry what the modalities tell each other."""
    rank: int = 8
    """Low-rank tensor fusion: rank of the decomposition."""

    def __post_init__(self) -> None:
        require(
            self.width >= 1 and self.layers >= 1,
            f"width and layers must be >= 1, got {self.width}, {self.layers}",
        )
        require(
            self.heads >= 1 and self.width % self.heads == 0,
            f"model.width must be a multiple of model.heads, got width {self.width}, heads {self.heads}",
        )
        for name in ("dropout", "token_dropout"):
            require(0.0 <= getattr(self, name) < 1.0, f"model.{name} must be in [0, 1), got {getattr(self, name)}")
        named = self.of_dataset
        require_modalities(named)
        require(
            len(self.modalities) > 0 and tuple(m for m in named if m in self.modalities) == self.modalities,
            f"model.modalities must be a non-empty subset of {named}, in that order, got {self.modalities}",
        )
        readable = (V1, *named)
        require(
            tuple(r for r in readable if r in self.context_reads) == self.context_reads,
            f"model.context_reads must be a subset of {readable}, in that order, got {self.context_reads}",
        )
        require(
            self.context != "tuned_v1" or len(self.context_reads) > 0,
            f"model.context tuned_v1 needs something to read: name some of {readable} in model.context_reads",
        )
        for modality, count in self.tokens_each:
            require(count >= 1, f"model.{modality}_tokens must be >= 1, got {count}")
        require(self.products >= 0, f"model.products must be >= 0, got {self.products}")
        require(self.bottleneck_tokens >= 1, f"model.bottleneck_tokens must be >= 1, got {self.bottleneck_tokens}")
        require(self.rank >= 1, f"model.rank must be >= 1, got {self.rank}")

    def context_without(self, gone: Collection[str], v1_reads: Collection[str]) -> Flat:
        """Changes (flat keys) that take the modalities `gone` out of the context; none where it does not know them."""
        lost = {*gone, V1} if set(gone) & set(v1_reads) else set(gone)
        if self.context == "none" or (self.context == "v1" and V1 not in lost):
            return {}
        left = tuple(r for r in self.context_reads if r not in lost)
        if self.context == "v1" or not left:
            return {"model.context": "none"}
        return {"model.context_reads": left}

    @property
    def of_dataset(self) -> tuple[str, ...]:
        """All modalities of the dataset, in its order; `modalities` are those of them that the ranker has."""
        return tuple(name for name, _ in self.tokens_each)

    def tokens(self, modality: str) -> int:
        """How many tokens `modality` is projected to."""
        return dict(self.tokens_each)[modality]
