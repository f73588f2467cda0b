"""Dropout masks of a stack: as many as each member says, independent of each other, and of who else is in the stack."""

import numpy as np
import pytest
import torch

from fusion_models.config import Recipe
from fusion_models.data import open_dataset
from fusion_models.models import VARIANTS
from fusion_models.models.fusion import Fused
from fusion_models.models.variants.concat_mlp import ConcatMLP
from fusion_models.training import start
from fusion_models.training.stack import train_stack
from fusion_models.training.stack.member_dropout import MemberDropout, document_hashes
from fusion_models.training.stack.network import StackedRanker

BASE = Recipe().updated(
    {
        "model.variant": "concat_mlp",
        "model.width": 8,
        "model.heads": 4,
        "model.layers": 1,
        "model.dropout": 0.3,
        "train.epochs": 3,
        "train.patience": 3,
        "train.batch_queries": 10,
        "train.learning_rate": 3e-3,
    }
)


@pytest.fixture(scope="module")
def data(_own_cache):
    """Lists of 3 to 9 candidates, so that a member's batches are padded as its neighbours ask."""
    return open_dataset("planted?queries=130&candidates=6&candidates_spread=0.5")


def dropped(keys, *, p, layer=0, calls=1, shape=(40, 25, 64)):
    """What each member keeps `[S, queries, length, width]` bool, in the last of `calls` passes."""
    queries, length, width = shape
    module, rows = MemberDropout(layer), document_hashes(torch.tensor(keys), queries, length)
    ones = torch.ones(len(keys), queries * length, width)
    chances = torch.tensor(p if isinstance(p, list) else [p] * len(keys))
    module.calls = calls - 1
    out = torch.func.vmap(
        lambda p, r, x: torch.func.functional_call(module, {"probability": p, "rows": r}, (x,)), randomness="error"
    )(chances, rows, ones)
    kept = out[out > 0]
    assert kept.numel() == 0 or out.max() == pytest.approx(1 / (1 - max(chances.tolist())), rel=1e-5)
    return (out != 0).view(len(keys), *shape)


def test_every_member_drops_as_much_as_it_says():
    shares = 1.0 - dropped([1, 2, 3, 4], p=[0.0, 0.1, 0.5, 0.9]).double().mean(dim=(1, 2, 3))
    assert shares.tolist() == pytest.approx([0.0, 0.1, 0.5, 0.9], abs=0.005)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_documents_channels_members_layers_and_passes_drop_independently(p):
    """Correlations of 64,000 draws: half a per cent is chance, and a few of thousands of pairs see two."""
    masks = {
        "plain": dropped([11], p=p),
        "another step": dropped([12], p=p),
        "another layer": dropped([11], p=p, layer=1),
        "another pass": dropped([11], p=p, calls=2),
    }
    flat = np.stack([mask.flatten().double().numpy() for mask in masks.values()])
    assert np.abs(np.corrcoef(flat) - np.eye(len(flat))).max() < 0.02
    kept = (masks["plain"].flatten(0, 2).double().numpy() - (1 - p)) / (p * (1 - p)) ** 0.5
    for found, draws in ((kept.T @ kept / len(kept), len(kept)), (kept @ kept.T / kept.shape[1], kept.shape[1])):
        between = found[~np.eye(len(found), dtype=bool)]
        assert between.std() == pytest.approx(draws**-0.5, rel=0.1)
        assert abs(between.mean()) < 0.003


def test_of_three_channels_none_is_told_by_the_other_two():
    kept = dropped([5], p=0.5).flatten(0, 2).double().numpy() * 2 - 1
    third = np.einsum("na,nb,nc->abc", kept[:, :20], kept[:, 20:40], kept[:, 40:60]) / len(kept)
    assert third.std() == pytest.approx(len(kept) ** -0.5, rel=0.1)


def test_a_mask_is_the_same_in_whatever_shape_the_batch_is_padded():
    narrow, wide = dropped([7, 8], p=0.4, shape=(10, 9, 16)), dropped([7], p=0.4, shape=(10, 12, 16))
    assert torch.equal(narrow[0], wide[0, :, :9])
    assert not torch.equal(narrow[0], narrow[1])


def losses(recipes, seeds, data):
    states = [start(recipe, data, seed=seed) for recipe, seed in zip(recipes, seeds, strict=True)]
    found = {id(state): [] for state in states}
    for epoch in train_stack(states, data):
        for state, result in epoch:
            found[id(state)].append(result.parts["total"])
    return [found[id(state)] for state in states]


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "own"])
def test_a_member_trains_the_same_whoever_is_beside_it(variant, data):
    """Its neighbours drop more, and so does their padding differ; the reliance term passes every layer twice."""
    terms = {"model.variant": variant, "loss.visual_importance": 0.3, "model.token_dropout": 0.1}
    mine = BASE.updated(terms)
    others = [mine.updated({"model.dropout": p, "model.token_dropout": p / 2}) for p in (0.5, 0.2)]
    (single,) = losses([mine], [0], data)
    assert losses([mine, others[0]], [0, 1], data)[0] == pytest.approx(single, abs=2e-5)
    assert losses([*others, mine], [5, 6, 0], data)[2] == pytest.approx(single, abs=2e-5)
    assert losses([mine.updated({"model.dropout": 0.0})], [0], data)[0] != pytest.approx(single, abs=2e-4)


class Halved(ConcatMLP):
    """A user's variant that drops a half, whatever the recipe says."""

    def __init__(self, config, owner):
        super().__init__(config, owner)
        self.dropping = torch.nn.Dropout(0.5)

    def forward(self, tokens, query):
        return Fused(self.dropping(super().forward(tokens, query).vector))


def test_a_layer_with_a_probability_of_its_own_keeps_it(data, monkeypatch):
    monkeypatch.setitem(VARIANTS, "own", Halved)
    own = BASE.updated({"model.variant": "own"})
    recipes = [own.updated({"model.dropout": p}) for p in (0.1, 0.3)]
    found = StackedRanker(recipes, data, torch.device("cpu"))._dropout
    (name,) = [name for name in found if name.endswith("dropping.probability")]
    assert found.pop(name).tolist() == [0.5, 0.5]
    ours = [p.tolist() for layer, p in found.items() if not layer.startswith("projections.")]
    assert ours
    assert all(p == pytest.approx([0.1, 0.3]) for p in ours)
    none = own.updated({"model.dropout": 0.0})
    (single,) = losses([none], [0], data)
    assert losses([none, recipes[1]], [0, 1], data)[0] == pytest.approx(single, abs=2e-5)
    monkeypatch.setitem(VARIANTS, "own", ConcatMLP)
    assert losses([none], [0], data)[0] != pytest.approx(single, abs=2e-4)
