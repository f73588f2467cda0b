from dataclasses import replace

import pytest
import random_batches as random
import torch

from fusion_models.config import LOSS_TERMS, Recipe
from fusion_models.losses import RANKING_LOSSES, TERMS, Step, modulate_gradients, total_loss
from fusion_models.losses.modulation import modulation_coefficients
from fusion_models.models import build_ranker

SMALL = {"model.width": 8, "model.heads": 2, "model.layers": 1, "model.dropout": 0.0}
LITERAL = {
    "loss.visual_importance_form": "literal",
    "loss.attention_entropy_form": "literal",
    "loss.adversarial_form": "literal",
    "loss.reconstruction_form": "cosine",
}


def built(**changes):
    recipe = Recipe().updated(SMALL | changes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_ranker(recipe, random.schema(), random.statistics()), recipe


def stepped(model, batch, config, seed=None):
    generator = torch.Generator() if seed is None else torch.Generator().manual_seed(seed)
    return Step(forward=model, batch=batch, config=config, out=model(batch), generator=generator)


def test_every_term_of_the_configuration_has_a_function():
    assert tuple(TERMS) == LOSS_TERMS
    assert set(RANKING_LOSSES) == {"listnet", "lambdarank", "approx_ndcg", "neural_ndcg", "ranknet"}


@pytest.mark.parametrize("forms", [{}, LITERAL], ids=["corrected", "literal"])
def test_total_is_the_weighted_sum_of_its_parts(forms):
    terms = [t for t in LOSS_TERMS if not (forms and t == "orthogonality")]
    weights = {Recipe().key(f"loss.{t}"): 0.1 * (i + 1) for i, t in enumerate(terms)}
    model, recipe = built(**weights, **forms)
    b = random.batch()
    total, parts = total_loss(stepped(model, b, recipe.loss, seed=0))
    named = ["visual_importance" if t == "suspect_importance" else t for t in terms]
    assert list(parts) == ["ranking", *named, "total"]
    expected = parts["ranking"] + sum(getattr(recipe.loss, t) * parts[n] for t, n in zip(terms, named, strict=True))
    torch.testing.assert_close(total, expected)
    assert parts["total"] is total


def test_a_weight_of_zero_computes_nothing(monkeypatch):
    def never(step):
        raise AssertionError("a term without a weight was computed")

    for name in TERMS:
        monkeypatch.setitem(TERMS, name, never)
    model, recipe = built()
    b = random.batch()
    total, parts = total_loss(replace(stepped(model, b, recipe.loss), forward=never))
    assert set(parts) == {"ranking", "total"}
    assert total is parts["ranking"]


def test_numbers_are_values_not_structure():
    """A temperature or a weight in another recipe changes the loss of one and the same model."""
    model, recipe = built(**{"loss.variance": 1.0})
    b = random.batch()
    other = recipe.updated({"loss.variance": 2.0, "loss.temperature": 0.5}).loss
    one, _ = total_loss(stepped(model, b, recipe.loss))
    two, _ = total_loss(stepped(model, b, other))
    assert one.item() != two.item()


def test_modulation_scales_the_encoders_alone():
    model, recipe = built(**{"loss.unimodal": 1.0, "train.gradient_modulation": 0.5})
    b = random.batch()
    step = stepped(model, b, recipe.loss)
    out = step.out
    total_loss(step)[0].backward()
    before = {n: p.grad.clone() for n, p in model.named_parameters()}
    coefficients = modulate_gradients(model, out, b, strength=0.5)
    torch.testing.assert_close(coefficients, modulation_coefficients(out.auxiliary["unimodal"], b, strength=0.5))
    assert (coefficients < 1).any()
    scale = dict(zip(model.modalities, coefficients, strict=True))
    for name, parameter in model.named_parameters():
        modality = name.split(".")[2] if name.startswith("projections.encoders") else None
        torch.testing.assert_close(parameter.grad, before[name] * (scale[modality] if modality else 1.0))
