"""Recipes: flat and back, and errors that name the key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion_models.config import LossConfig, ModelConfig, Recipe
from fusion_models.modalities import V1_READS


@given(
    width=st.integers(1, 16),
    tokens=st.integers(1, 12),
    rate=st.floats(1e-6, 1.0),
    modalities=st.sampled_from([("visual",), ("text", "metadata"), ("visual", "text", "metadata")]),
)
def test_a_recipe_survives_its_flat_form_even_as_text(width, tokens, rate, modalities):
    recipe = Recipe().updated(
        {
            "model.width": 8 * width,
            "model.text_tokens": tokens,
            "train.learning_rate": rate,
            "model.modalities": modalities,
        }
    )
    assert Recipe.from_flat(recipe.flat()) == recipe
    assert Recipe.from_flat({k: str(v) for k, v in recipe.flat().items()}) == recipe


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.widht": 3}, "did you mean model.width"),
        ({"modell.width": 3}, "unknown configuration key"),
        ({"model.width": "wide"}, "model.width must be a int"),
        ({"model.width": 3.5}, "whole number"),
        ({"model.width": 12}, "multiple of model.heads"),
        ({"model.standardise": "perhaps"}, "must be true or false"),
        ({"loss.ranking": "hinge"}, "must be one of listnet"),
        ({"loss.unimodal": -1}, "must be >= 0"),
        ({"loss.unimodal": "nan"}, "must not be NaN"),
        ({"model.modalities": "text+visual"}, "non-empty subset"),
        ({"train.epochs": 0}, "train.epochs must be >= 1"),
        ({"train.members": 0}, "train.members must be >= 1"),
        ({"model.context": "v2"}, "must be one of none, v1, tuned_v1"),
        ({"model.context_reads": "text+v1"}, "subset of .*, in that order"),
        ({"model.context": "tuned_v1", "model.context_reads": ""}, "needs something to read"),
        ({"model.v1_in_context": True}, "unknown configuration key"),
        ({"loss.orthogonality": 0.1}, "set loss.adversarial too"),
    ],
)
def test_a_bad_value_is_refused_by_name(changes, said):
    with pytest.raises(ValueError, match=said):
        Recipe().updated(changes)


def restricted(context, modalities, v1_reads=V1_READS, **changes):
    recipe = Recipe().updated({"model.context": context, **changes}).restricted(modalities, v1_reads)
    assert Recipe.from_flat({k: str(v) for k, v in recipe.flat().items()}) == recipe
    return recipe.model.context, recipe.model.context_reads


def test_a_refit_without_what_v1_reads_loses_v1_raw_and_in_the_trees():
    """Else no text could ever earn anything: V1's score would hand it back."""
    whole = ("v1", "text", "metadata")
    assert restricted("v1", ("text", "metadata")) == ("v1", whole)
    assert restricted("v1", ("visual", "metadata"))[0] == "none"
    assert restricted("v1", ("text",))[0] == "none"
    assert restricted("tuned_v1", ("text", "metadata")) == ("tuned_v1", whole)
    assert restricted("tuned_v1", ("visual", "metadata")) == ("tuned_v1", ("metadata",))
    assert restricted("tuned_v1", ("visual", "text")) == ("tuned_v1", ("text",))
    assert restricted("tuned_v1", ("visual",))[0] == "none"
    assert restricted("none", ("visual",)) == ("none", whole)


def test_what_v1_reads_is_told_by_whoever_restricts():
    whole = {"model.context_reads": ("v1", "visual", "text")}
    assert restricted("v1", ("text", "metadata"), ("visual",))[0] == "none"
    assert restricted("v1", ("visual",), ())[0] == "v1"
    assert restricted("tuned_v1", ("text", "metadata"), ("visual", "text"), **whole) == ("tuned_v1", ("text",))
    assert restricted("tuned_v1", ("visual", "text"), ("visual", "text"), **whole) == (
        "tuned_v1",
        ("v1", "visual", "text"),
    )
    assert restricted("tuned_v1", ("visual",), (), **whole) == ("tuned_v1", ("v1", "visual"))


def test_what_was_never_in_the_recipe_is_not_taken_from_its_context():
    recipe = Recipe().updated({"model.context": "v1", "model.modalities": ("visual", "metadata")})
    assert recipe.restricted(("visual", "metadata")) == recipe
    assert recipe.restricted(("visual",)).model.context == "none"


def test_configs_are_keyword_only():
    with pytest.raises(TypeError):
        ModelConfig("late_sum")
    with pytest.raises(TypeError):
        LossConfig("listnet")
