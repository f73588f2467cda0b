"""The roadmap's phases. Gates and objectives carry the roadmap's numbers; fractions are fractions."""

from __future__ import annotations

from fusion_models.config import Recipe
from spaces.phase import Gate, Objective, Phase
from spaces.ranges import Choice, Float, Positive, Range, Weight

ATTENTIVE = ("cross_attention", "bottleneck")
"""Variants with an attention of their own, on which the entropy term can act."""

OBJECTIVES = (
    Objective(name="ndcg_gain", direction="maximize", reference=-0.10),
    Objective(name="visual_masking_drop", direction="maximize", bound=0.15, reference=-0.05),
    Objective(name="attention_max_share", direction="minimize", bound=0.40, reference=1.0),
    Objective(name="v1_correlation", direction="minimize", bound=0.70, reference=1.0),
)

BASE = Recipe().updated(
    {
        "model.text_tokens": 12,
        "model.context": "v1",
        "train.members": 4,
        "train.epochs": 10,
        "train.patience": 3,
        "train.learning_rate": 2e-3,
    }
)
"""The roadmap's V2: 8 heads, 4 layers, text in many tokens (uniform attention gives it 0.86), ranking loss alone.

V1's score is among its inputs, outside the three modalities: what makes a V2 that hardly leaves V1's order.
"""

BALANCED = {
    "model.text_tokens": 1,
    "model.scale": "feature",
    "train.visual_learning_rate_scale": 3.0,
    "loss.unimodal": 0.3,
}
"""One token a modality, each feature on its own scale, a faster image encoder and unimodal heads: the strongest simple
cure known here."""

MULTI_TASK = BALANCED | {
    "train.learning_rate": 3e-3,
    "loss.reconstruction": 0.03,
    "loss.contrastive": 0.02,
    "loss.decorrelation": 1.0,
    "loss.decorrelation_target": 0.85,
}
"""The roadmap's second step on top of it."""

WITHOUT_V1 = MULTI_TASK | {"model.context": "none"}
"""And V1's score no longer an input: with it at hand, the text has little left to tell."""

TUNED_V1 = BALANCED | {"model.context": "tuned_v1"}
"""What V1's team could reach alone as an input, so that the fusion learns what lies beyond it."""

SMALL_BATCHES = BALANCED | {"train.batch_queries": 16, "model.token_dropout": 0.3}
"""Where training queries are few: more steps, and tokens that cannot be learnt by heart (docs/log.md, 2026-11-28)."""

SCREENED = SMALL_BATCHES | {"model.columns": "confirmed", "model.products": 8, "train.learning_rate": 4e-3}
"""And of each modality's features the columns and the products that training queries confirm (decision 032).

What cannot be learnt by heart may be learnt faster: twice the rate (docs/log.md, 2026-11-28)."""

LOW_RANK = SCREENED | {
    "model.variant": "low_rank_tensor",
    "model.context": "none",
    "model.scale": "block",
    "model.text_tokens": 4,
    "model.dropout": 0.35,
    "model.token_dropout": 0.15,
    "train.visual_learning_rate_scale": 5.0,
    "train.learning_rate": 5e-3,
}
"""What searches in planted worlds of few queries came to again and again: products of the modalities, strong dropout,
V1's score no input (docs/log.md, 2026-11-28)."""

_REGULARISERS: dict[str, Range] = {
    "train.learning_rate": Float(low=1e-3, high=1e-2, log=True),
    "train.visual_learning_rate_scale": Float(low=1.0, high=10.0, log=True),
    "train.weight_decay": Float(low=1e-4, high=1e-1, log=True),
    "train.batch_queries": Choice(values=(BASE.train.batch_queries, 16, 8)),
    "train.modality_dropout": Float(low=0.0, high=0.4),
    "model.dropout": Float(low=0.0, high=0.4),
    "model.token_dropout": Float(low=0.0, high=0.5),
    "model.text_tokens": Choice(values=(1, 4, BASE.model.tokens("text"))),
    "model.scale": Choice(values=("block", "feature")),
    "loss.temperature": Float(low=0.3, high=3.0, log=True),
    "loss.unimodal": Weight(low=0.03, high=1.0),
    "loss.visual_importance": Weight(low=0.03, high=1.0),
    "loss.attention_entropy": Weight(low=0.03, high=3.0),
}
_MULTI_TASK: dict[str, Range] = {
    "loss.reconstruction": Weight(low=0.01, high=0.5),
    "loss.contrastive": Weight(low=0.01, high=0.5),
    "loss.decorrelation": Weight(low=0.03, high=3.0),
    "loss.decorrelation_target": Float(low=0.7, high=0.95, when={"loss.decorrelation": Positive()}),
}
_ADVERSARIAL: dict[str, Range] = {
    "loss.adversarial": Weight(low=0.01, high=0.3),
    "train.gradient_modulation": Weight(low=0.1, high=1.0, when={"loss.unimodal": Positive()}),
}

VISUAL_DROP = Gate(name="visual_masking_drop", quantity="visual_masking_drop", at_least=0.05)

PHASE1 = Phase(
    name="phase1",
    title="Quick fixes: regularise",
    base=BASE,
    known={"balanced": BALANCED},
    reference=BALANCED,
    ranges=_REGULARISERS,
    objectives=OBJECTIVES,
    gates=(
        VISUAL_DROP,
        Gate(name="attention_max_share", quantity="attention_max_share", at_most=0.60, needs="attention"),
        Gate(name="ndcg_gain", quantity="ndcg_gain", at_least=0.010),
    ),
    ablatable={
        "unimodal heads": {"loss.unimodal": 0.0},
        "visual importance": {"loss.visual_importance": 0.0},
        "attention entropy": {"loss.attention_entropy": 0.0},
        "modality dropout": {"train.modality_dropout": 0.0},
        "faster image encoder": {"train.visual_learning_rate_scale": 1.0},
        "balanced tokens": {"model.text_tokens": BASE.model.tokens("text")},
        "each feature's own scale": {"model.scale": BASE.model.scale},
    },
)

PHASE2 = Phase(
    name="phase2",
    title="Multi-task learning",
    base=BASE,
    known={"balanced": BALANCED, "multi-task": MULTI_TASK},
    reference=BALANCED,
    ranges=_REGULARISERS | _MULTI_TASK,
    objectives=OBJECTIVES,
    gates=(
        Gate(name="v1_correlation", quantity="v1_correlation", at_most=0.90),
        Gate(name="v1_rank_correlation", quantity="v1_spearman_mean", at_most=0.90, steers=False),
        Gate(name="ndcg_gain", quantity="ndcg_gain", at_least=0.015),
        Gate(name="reconstruction_ssim", quantity="reconstruction_ssim", at_least=0.75, steers=False, needs="images"),
    ),
    ablatable={
        **PHASE1.ablatable,
        "visual reconstruction": {"loss.reconstruction": 0.0},
        "contrastive": {"loss.contrastive": 0.0},
        "V1 decorrelation": {"loss.decorrelation": 0.0},
    },
)

PHASE3 = Phase(
    name="phase3",
    title="Adversarial training and architecture",
    base=BASE,
    known={
        "balanced": BALANCED,
        "tuned V1": TUNED_V1,
        "multi-task": WITHOUT_V1,
        "small batches": SMALL_BATCHES,
        "screened": SCREENED,
        "low rank": LOW_RANK,
    },
    reference=BALANCED,
    ranges={
        "model.variant": Choice(
            values=(
                "cross_attention",
                "bottleneck",
                "gated_unit",
                "film",
                "low_rank_tensor",
                "concat_mlp",
                "late_sum",
            )
        )
    }
    | {"model.context": Choice(values=("v1", "none", "tuned_v1"))}
    | {"model.columns": Choice(values=("all", "confirmed")), "model.products": Choice(values=(0, 8))}
    | _REGULARISERS
    | {"model.layers": Choice(values=(1, 2), when={"model.variant": ("bottleneck",)})}  # a layer costs it six of others
    | {"loss.attention_entropy": Weight(low=0.03, high=3.0, when={"model.variant": ATTENTIVE})}
    | _MULTI_TASK
    | _ADVERSARIAL,
    objectives=OBJECTIVES,
    gates=(
        Gate(name="attention_min_share", quantity="attention_min_share", at_least=0.20, needs="attention"),
        Gate(name="attention_max_share", quantity="attention_max_share", at_most=0.40, needs="attention"),
        Gate(name="ndcg_gain", quantity="ndcg_gain", at_least=0.020),
    ),
    late=True,
    ablatable={
        **PHASE2.ablatable,
        "adversarial": {"loss.adversarial": 0.0, "loss.orthogonality": 0.0},
        "gradient modulation": {"train.gradient_modulation": 0.0},
        "fusion variant": {"model.variant": BASE.model.variant},
        "context": {"model.context": BASE.model.context},
        "confirmed columns": {"model.columns": BASE.model.columns},
        "products of features": {"model.products": BASE.model.products},
    },
)

PHASE4 = Phase(
    name="phase4",
    title="Production validation",
    base=BASE,
    known={},
    ranges=PHASE3.ranges,
    objectives=OBJECTIVES,
    gates=(
        Gate(name="integrity checks that do not pass", quantity="integrity_open", at_most=0.0, steers=False),
        Gate(name="ndcg_gain", quantity="ndcg_gain", at_least=0.015, steers=False),
        Gate(name="latency_p95_ms", quantity="latency_p95_ms", at_most=100.0, steers=False),
        Gate(name="components whose ablation is missing", quantity="ablation_open", at_most=0.0, steers=False),
    ),
    ablatable=PHASE3.ablatable,
    trials=0,
    late=True,
)
"""It searches nothing: it reads phase 3's finalist, and its GO means release."""

PHASES: dict[str, Phase] = {"phase1": PHASE1, "phase2": PHASE2, "phase3": PHASE3}
"""The phases that search."""

ROADMAP_STEPS = PHASES | {PHASE4.name: PHASE4}
"""Every phase of the roadmap in order: those that search, and the one that validates what they found."""
