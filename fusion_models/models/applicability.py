"""Which loss terms a recipe asks for that its model or dataset cannot have."""

from __future__ import annotations

from fusion_models.config import NEED_SEVERAL, NEEDED_MODALITIES, Recipe
from fusion_models.models.variants import VARIANTS


def inapplicable(recipe: Recipe) -> dict[str, str]:
    """Flat key of each setting that cannot apply -> why; empty where all is well."""
    model, loss, train, flat = recipe.model, recipe.loss, recipe.train, recipe.flat()
    has_shares = model.variant in VARIANTS and VARIANTS[model.variant].share_kind != "gradient_times_input"
    has = f"model.modalities is {'+'.join(model.modalities)}"
    checks: list[tuple[str, float, bool, str]] = [
        *(
            (key, flat[key], set(needed) <= set(model.modalities), f"needs {' and '.join(needed)}, but {has}")
            for key, needed in NEEDED_MODALITIES.items()
        ),
        *((key, flat[key], len(model.modalities) > 1, f"needs two modalities, but {has}") for key in NEED_SEVERAL),
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
    ]
    found: dict[str, str] = {}
    for key, value, applies, reason in checks:
        if value > 0.0 and not applies:
            found.setdefault(key, reason)
    return found


def require_applicable(recipe: Recipe) -> None:
    """Raise ValueError that names every setting that cannot apply."""
    if recipe.model.variant not in VARIANTS:
        raise ValueError(f"model.variant must be one of {', '.join(VARIANTS)}, got {recipe.model.variant!r}")
    found = inapplicable(recipe)
    if found:
        reasons = "; ".join(f"{key} {reason}" for key, reason in found.items())
        raise ValueError(f"{reasons}. Set {', '.join(found)} to 0 or change what stands in the way")
