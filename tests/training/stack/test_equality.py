"""A member of a stack trains as it would alone: losses within 1e-4 over 100 steps, dropout off."""

import numpy as np
import pytest
import torch

from fusion_models.config import Recipe
from fusion_models.data import open_dataset
from fusion_models.models import VARIANTS
from fusion_models.training import start, train
from fusion_models.training.stack import train_stack
from fusion_models.training.stack.network import StackedRanker, StepNumbers
from fusion_models.training.stack.tables import HostTables, Tables
from fusion_models.training.warm_start import warm_start

BASE = Recipe().updated(
    {
        "model.variant": "concat_mlp",
        "model.width": 8,
        "model.heads": 4,
        "model.layers": 2,
        "model.dropout": 0.0,
        "train.epochs": 10,
        "train.patience": 10,
        "train.batch_queries": 6,
    }
)
"""100 steps: ten epochs of ten batches of `data`, the last of each short."""
OWN = (
    {"train.learning_rate": 3e-3, "loss.temperature": 1.0},
    {"train.learning_rate": 2e-3, "loss.temperature": 0.7, "train.weight_decay": 0.1, "train.warmup": 0.3},
    {"train.learning_rate": 4e-3, "train.gradient_clip": 0.05, "train.visual_learning_rate_scale": 0.2},
)
"""What the three members differ in, beside seed and order."""


@pytest.fixture(scope="module")
def data(_own_cache):
    """Lists of 3 to 9 candidates, so that members' batches are padded differently."""
    return open_dataset("planted?queries=130&candidates=6&candidates_spread=0.5")


def assert_equal_to_alone(recipes, data, tolerance=1e-4, weights=None):
    """`weights`: what all start from."""
    states, alone = ([start(recipe, data, seed=seed) for seed, recipe in enumerate(recipes)] for _ in range(2))
    for state in (*states, *alone):
        warm_start(state.model, weights or {})
    alone = [list(train(state, data)) for state in alone]
    places = {id(state): place for place, state in enumerate(states)}
    stacked = [[] for _ in states]
    for found in train_stack(states, data):
        for state, result in found:
            stacked[places[id(state)]].append(result)
    for mine, theirs in zip(stacked, alone, strict=True):
        assert [r.epoch for r in mine] == [r.epoch for r in theirs]
        for one, other in zip(mine, theirs, strict=True):
            assert one.parts == pytest.approx(other.parts, abs=tolerance)
            np.testing.assert_array_equal(one.evaluation.rows, other.evaluation.rows)
            assert one.finished == other.finished
    return states


def members(changes):
    return [BASE.updated(changes | own) for own in OWN]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant(variant, data):
    assert_equal_to_alone(members({"model.variant": variant, "model.visual_tokens": 2}), data)


def test_confirmed_columns(data):
    states = assert_equal_to_alone(members({"model.columns": "confirmed"}), data)
    kept = [encoder.kept for encoder in states[0].model.screened_encoders().values()]
    assert any((columns == 0).any() for columns in kept)


def test_products_plain_and_signed(data, monkeypatch):
    def found(data, modality):
        one = torch.eye(data.schema.width(modality))
        return {"left": one[:, :2], "right": one[:, 2:4], "signed": torch.tensor([True, False])}

    monkeypatch.setattr("fusion_models.screening.confirmed_products", found)
    states = assert_equal_to_alone(members({"model.products": 3}), data)
    units = states[0].model.product_units()["visual"]
    assert units.signed.tolist() == [False, False, True]
    assert units.left[:, [0, 2]].any(dim=0).all()


@pytest.mark.parametrize("ranking", ["lambdarank", "approx_ndcg", "neural_ndcg", "ranknet"])
def test_every_ranking_loss(ranking, data):
    assert_equal_to_alone(members({"loss.ranking": ranking}), data)


TERMS = {
    "reliance": {"loss.visual_importance": 0.5},
    "literal image": {"loss.visual_importance": 0.2, "loss.visual_importance_form": "literal"},
    "masking": {"loss.visual_importance": 0.2, "loss.visual_importance_form": "masking"},
    "variance": {"loss.variance": 0.3},
    "entropy": {"loss.attention_entropy": 0.3, "model.variant": "cross_attention"},
    "literal entropy": {
        "loss.attention_entropy": 0.1,
        "loss.attention_entropy_form": "literal",
        "model.variant": "gated_unit",
    },
    "unimodal and modulation": {"loss.unimodal": 0.4, "train.gradient_modulation": 0.5},
    "reconstruction": {"loss.reconstruction": 0.3},
    "cosine reconstruction": {"loss.reconstruction": 0.3, "loss.reconstruction_form": "cosine"},
    "contrast": {"loss.contrastive": 0.3},
    "adversary": {"loss.adversarial": 0.2, "loss.orthogonality": 0.3},
    "literal adversary": {"loss.adversarial": 0.2, "loss.adversarial_form": "literal"},
    "decorrelation": {"loss.decorrelation": 0.4, "loss.decorrelation_target": 0.3},
    "dropped modalities": {"train.modality_dropout": 0.3},
}


@pytest.mark.parametrize("name", TERMS)
def test_every_term(name, data):
    recipes = members(TERMS[name])
    weight = next(key for key in TERMS[name] if key.startswith(("loss.", "train.")))
    recipes[1] = recipes[1].updated({weight: 0.5 * TERMS[name][weight]})
    assert_equal_to_alone(recipes, data)


@pytest.mark.usefixtures("_own_cache")
def test_every_term_at_once_with_pictures():
    terms = {key: value for changes in TERMS.values() for key, value in changes.items() if "form" not in key}
    short = {"train.batch_queries": 32, "train.epochs": 2, "model.variant": "gated_unit", "model.layers": 1}
    recipes = [recipe.updated(short) for recipe in members(terms)[:2]]
    states = assert_equal_to_alone(recipes, open_dataset("clipart"))
    assert states[0].model.thumbnail is not None


@pytest.mark.parametrize("variant", ["cross_attention", "low_rank_tensor"])
def test_bfloat16_reaches_the_activations_and_costs_little(variant, data):
    recipes = members({"train.precision": "bfloat16", "model.variant": variant, "train.epochs": 3})
    assert_equal_to_alone(recipes, data, tolerance=2e-3)
    ranker = StackedRanker(recipes, data, torch.device("cpu"))
    kinds = set()
    for module in ranker.template.modules():
        if isinstance(module, torch.nn.Linear) and module is not ranker.template.score_head:
            module.register_forward_hook(lambda _, inputs, out: kinds.add(out.dtype))
    model = start(recipes[0], data, seed=0).model
    weights = ranker.row(dict(model.named_parameters())).repeat(3, 1)
    batch = Tables(data, torch.device("cpu")).gather(torch.from_numpy(data.rows("train")[:4]).repeat(3, 1), 9)
    ranker.gradients(weights, batch, StepNumbers([], torch.zeros(3), torch.zeros(3)), None)
    assert kinds == {torch.bfloat16}


def test_with_tables_that_stay_on_the_host(data, monkeypatch):
    monkeypatch.setattr("fusion_models.training.stack.tables.fits", lambda *_: False)
    used = []
    gather = HostTables.gather
    monkeypatch.setattr(HostTables, "gather", lambda self, *a: used.append(1) or gather(self, *a))
    assert_equal_to_alone(members({"loss.contrastive": 0.2}), data)
    assert len(used) > 100


def test_weights_and_moments_are_those_of_training_alone(data):
    recipes = members({})
    states = assert_equal_to_alone(recipes, data)
    for seed, (recipe, state) in enumerate(zip(recipes, states, strict=True)):
        alone = start(recipe, data, seed=seed)
        list(train(alone, data))
        for name, value in alone.model.state_dict().items():
            torch.testing.assert_close(state.model.state_dict()[name], value, atol=1e-4, rtol=1e-3)
        for name, value in alone.best_weights.items():
            torch.testing.assert_close(state.best_weights[name], value, atol=1e-4, rtol=1e-3)
        assert list(state.best_weights) == list(alone.best_weights)
        assert torch.equal(state.generator.get_state(), alone.generator.get_state())
        assert state.best_epoch == alone.best_epoch
        assert state.best_numbers == pytest.approx(alone.best_numbers, abs=1e-3)


@pytest.mark.parametrize("context", ["v1", "tuned_v1"])
def test_weights_with_scales_of_their_own(data, context):
    """What production was scaled by is not what this dataset is."""
    recipes = [BASE.updated({"train.epochs": 3, "model.context": context} | own) for own in OWN]
    weights = start(recipes[0], data, seed=9).model.state_dict()
    weights |= {n: 1.5 * x for n, x in weights.items() if n.endswith((".std", ".mean"))}
    states = assert_equal_to_alone(recipes, data, weights=weights)
    for state in states:
        assert torch.equal(state.model.projections.v1_scale.std, weights["projections.v1_scale.std"])
