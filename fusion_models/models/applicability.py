"""Which loss terms a recipe asks for that its model or dataset cannot have."""

from __future__ import annotations

from fusion_models.config import LOSS_TERMS, NEED_SEVERAL, NEEDED_EVIDENCE, Recipe
from fusion_models.models.own.reference import EVIDENCE, OwnModel, is_own, own_model
from fusion_models.models.variants import share_kind_of


def inapplicable(recipe: Recipe) -> dict[str, str]:
    """Flat key of each setting that cannot apply -> why; empty where all is well."""
    model, loss, train, flat = recipe.model, recipe.loss, recipe.train, recipe.flat()
    has_shares = share_kind_of(model.variant) != "gradient_times_input"
    own = own_model(model.variant) if is_own(model.variant) else None
    gives, encoders = (own.gives, own.has_encoders) if own is not None else (frozenset(EVIDENCE), True)
    has = f"model.modalities is {'+'.join(model.modalities)}"
    checks: list[tuple[str, float, bool, str]] = [
        *(
            (key, flat[key], set(needed) <= set(model.modalities), f"needs {' and '.join(needed)}, but {has}")
            for key, needed in recipe.needed_modalities().items()
        ),
        *((key, flat[key], len(model.modalities) > 1, f"needs two modalities, but {has}") for key in NEED_SEVERAL),
        *(
            (key, flat[key], needed in gives, f"reads what is {needed}, which {model.variant} does not give")
            for key, needed in NEEDED_EVIDENCE.items()
        ),
        (
            "loss.adversarial",
            loss.adversarial,
            ("projected" if loss.adversarial_form == "reversal" else "fused") in gives,
            f"reads what is projected (literal: fused), which {model.variant} does not give",
        ),
        (
            recipe.key("loss.suspect_importance"),
            loss.suspect_importance,
            loss.suspect_importance_form != "literal" or "projected" in gives,
            f"in its literal form reads what is projected, which {model.variant} does not give",
        ),
        (
            "loss.orthogonality",
            loss.orthogonality,
            loss.adversarial_form == "reversal",
            "needs loss.adversarial_form reversal: the literal form has no shared and private parts",
        ),
        (
            "loss.adversarial",
            loss.adversarial,
            model.width >= 2 or loss.adversarial_form == "literal",
            f"needs two halves of a token, but model.width is {model.width}",
        ),
        (
            "loss.attention_entropy",
            loss.attention_entropy,
            has_shares,
            f"needs attention or a gate, but model.variant is {model.variant}",
        ),
        (
            "train.gradient_modulation",
            train.gradient_modulation,
            loss.unimodal > 0.0,
            "reads the unimodal heads, but loss.unimodal is 0",
        ),
        (
            "train.gradient_modulation",
            train.gradient_modulation,
            encoders,
            f"slows each modality's encoder, and {model.variant} has no encoder_parameters",
        ),
    ]
    found: dict[str, str] = {}
    for key, value, applies, reason in checks:
        if value > 0.0 and not applies:
            found.setdefault(key, reason)
    return found


def require_applicable(recipe: Recipe) -> None:
    """Raise ValueError that names every setting that cannot apply."""
    found = inapplicable(recipe)
    if found:
        reasons = "; ".join(f"{key} {reason}" for key, reason in found.items())
        raise ValueError(f"{reasons}. Set {', '.join(found)} to 0 or change what stands in the way")


def terms_off(own: OwnModel, like: Recipe | None = None) -> list[str]:
    """Flat keys of settings that a module of one's own cannot have, whatever the recipe: it returns too little.

    `like`: a recipe of the dataset's modalities and suspect, by which keys are named.
    """
    like = Recipe() if like is None else like
    every = dict.fromkeys([like.key(f"loss.{term}") for term in LOSS_TERMS], 1.0)
    recipe = like.with_own(own.defaults()).updated(every | {"model.variant": own.reference})
    found = inapplicable(recipe.updated({"train.gradient_modulation": 1.0}))
    return [*found, *([like.key("train.suspect_learning_rate_scale")] if not own.has_encoders else [])]
