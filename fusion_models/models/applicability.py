"""Which loss terms a recipe asks for that its model or dataset cannot have."""

from __future__ import annotations

from collections.abc import Iterator

from fusion_models.config import LOSS_TERMS, NEED_SEVERAL, NEEDED_EVIDENCE, Recipe
from fusion_models.models.own.reference import EVIDENCE, OwnModel, is_own, own_model
from fusion_models.models.variants import share_kind_of

Check = tuple[str, bool, str]
"""Flat key of a setting, whether it can apply, and what to say where it cannot."""


def inapplicable(recipe: Recipe) -> dict[str, str]:
    """Flat key of each setting that cannot apply -> why; empty where all is well."""
    flat = recipe.flat()
    found: dict[str, str] = {}
    for key, applies, reason in (*_of_modalities(recipe), *_of_returned(recipe), *_of_settings(recipe)):
        if flat[key] > 0.0 and not applies:
            found.setdefault(key, reason)
    return found


def _of_modalities(recipe: Recipe) -> Iterator[Check]:
    """What a setting needs of the ranker's modalities."""
    modalities = recipe.model.modalities
    has = f"model.modalities is {'+'.join(modalities)}"
    for key, needed in recipe.needed_modalities().items():
        yield key, set(needed) <= set(modalities), f"needs {' and '.join(needed)}, but {has}"
    for key in NEED_SEVERAL:
        yield key, len(modalities) > 1, f"needs two modalities, but {has}"


def _of_returned(recipe: Recipe) -> Iterator[Check]:
    """What a setting reads beside the scores. A module of one's own may return less of it than ours does."""
    loss, variant = recipe.loss, recipe.model.variant
    own = own_model(variant) if is_own(variant) else None
    gives, encoders = (own.gives, own.has_encoders) if own is not None else (frozenset(EVIDENCE), True)
    for key, needed in NEEDED_EVIDENCE.items():
        yield key, needed in gives, f"reads what is {needed}, which {variant} does not give"
    yield (
        "loss.adversarial",
        ("projected" if loss.adversarial_form == "reversal" else "fused") in gives,
        f"reads what is projected (literal: fused), which {variant} does not give",
    )
    yield (
        recipe.key("loss.suspect_importance"),
        loss.suspect_importance_form != "literal" or "projected" in gives,
        f"in its literal form reads what is projected, which {variant} does not give",
    )
    yield (
        "loss.attention_entropy",
        share_kind_of(variant) != "gradient_times_input",
        f"needs attention or a gate, but model.variant is {variant}",
    )
    yield (
        "train.gradient_modulation",
        encoders,
        f"slows each modality's encoder, and {variant} has no encoder_parameters",
    )


def _of_settings(recipe: Recipe) -> Iterator[Check]:
    """What a setting needs of other settings."""
    loss, width = recipe.loss, recipe.model.width
    yield (
        "loss.orthogonality",
        loss.adversarial_form == "reversal",
        "needs loss.adversarial_form reversal: the literal form has no shared and private parts",
    )
    yield (
        "loss.adversarial",
        width >= 2 or loss.adversarial_form == "literal",
        f"needs two halves of a token, but model.width is {width}",
    )
    yield "train.gradient_modulation", loss.unimodal > 0.0, "reads the unimodal heads, but loss.unimodal is 0"


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
