"""The weighted loss terms of a recipe, and what each of them needs to apply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fusion_models.config.requirement import require


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """total = ranking + Σ weight · term. A weight of 0 builds and computes nothing.

    A name that begins with `suspect_` has the suspect's own in the flat form: `loss.visual_importance`.
    """

    ranking: Literal["listnet", "lambdarank", "approx_ndcg", "neural_ndcg", "ranknet"] = "listnet"
    temperature: float = 1.0
    """Of the label softmax in ListNet, of the sigmoid or the sort in the smooth nDCG losses."""
    suspect_importance: float = 0.0
    """That ranking is worse without the suspect."""
    suspect_importance_form: Literal["reliance", "literal", "masking"] = "reliance"
    reliance_margin: float = 0.1
    """In units of the ranking loss: how much worse a shuffled suspect should make it."""
    variance: float = 0.0
    """Hinge max(0, 1 - std) on the projected modalities, against collapse."""
    attention_entropy: float = 0.0
    attention_entropy_form: Literal["hinge", "literal"] = "hinge"
    attention_entropy_target: float = 0.95
    """τ of the hinge, a fraction of ln M."""
    unimodal: float = 0.0
    reconstruction: float = 0.0
    """That the suspect's features can be told from the fused vector."""
    reconstruction_form: Literal["mse", "cosine"] = "mse"
    """Of the standardised features; thumbnails, where they show the suspect, add 1 - SSIM."""
    contrastive: float = 0.0
    """That the suspect and its partner (`Recipe.partner`) tell items apart alike."""
    adversarial: float = 0.0
    adversarial_form: Literal["reversal", "literal"] = "reversal"
    orthogonality: float = 0.0
    """Weight of the private-against-shared orthogonality, used with the adversarial term."""
    decorrelation: float = 0.0
    decorrelation_target: float = 0.9
    """Mean within-query rank correlation with V1 below which the hinge is silent."""

    def __post_init__(self) -> None:
        for name in LOSS_TERMS:
            weight = getattr(self, name)
            require(weight >= 0.0, f"loss.{name} is a weight and must be >= 0, got {weight}")
        require(self.temperature > 0.0, f"loss.temperature must be > 0, got {self.temperature}")
        for name in ("attention_entropy_target", "decorrelation_target"):
            value = getattr(self, name)
            require(0.0 <= value <= 1.0, f"loss.{name} must be in [0, 1], got {value}")
        require(
            self.orthogonality == 0.0 or self.adversarial > 0.0,
            "loss.orthogonality keeps the adversarial term's private parts apart: set loss.adversarial too",
        )


LOSS_TERMS: tuple[str, ...] = (
    "suspect_importance",
    "variance",
    "attention_entropy",
    "unimodal",
    "reconstruction",
    "contrastive",
    "adversarial",
    "orthogonality",
    "decorrelation",
)


NEED_SUSPECT: tuple[str, ...] = ("loss.suspect_importance", "loss.reconstruction")
"""Settings that cannot apply without the suspect."""
NEED_PARTNER: tuple[str, ...] = ("loss.contrastive",)
"""Settings that cannot apply without the suspect and its partner."""
NEEDED_EVIDENCE: dict[str, str] = {
    "loss.variance": "projected",
    "loss.unimodal": "projected",
    "loss.contrastive": "projected",
    "loss.orthogonality": "projected",
    "loss.reconstruction": "fused",
}
"""Flat key of a term -> what the ranker must return beside its scores (see `models.own`); ours returns all of it."""
NEED_SEVERAL = ("loss.attention_entropy", "loss.adversarial", "loss.orthogonality", "train.gradient_modulation")
"""Settings that cannot apply to one modality alone, whichever it is."""
POINTLESS_ALONE = ("loss.unimodal", "train.modality_dropout")
"""Settings that can, and tell one modality alone nothing."""
