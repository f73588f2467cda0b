"""Recipes: flat and back, and errors that name the key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion_models.config import LossConfig, ModelConfig, Recipe


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
        ({"loss.orthogonality": 0.1}, "set loss.adversarial too"),
    ],
)
def test_a_bad_value_is_refused_by_name(changes, said):
    with pytest.raises(ValueError, match=said):
        Recipe().updated(changes)


def test_configs_are_keyword_only():
    with pytest.raises(TypeError):
        ModelConfig("late_sum")
    with pytest.raises(TypeError):
        LossConfig("listnet")
