"""A module of somebody's own inside the house: what it sees, what is off, training, ensembles, stacks, export."""

import dataclasses

import pytest
import torch

from fusion_models.config import Recipe
from fusion_models.evaluation import Blanking, evaluate
from fusion_models.export import (
    eager_scorer,
    export_program,
    input_names,
    largest_difference,
    list_inputs,
    program_scorer,
)
from fusion_models.models import Ensemble, build_ranker, inapplicable
from fusion_models.models.own import own_model
from fusion_models.process_group import ALONE
from fusion_models.training import contents, load, restore, save, start, train
from fusion_models.training.own_loop import own_epochs
from fusion_models.training.stack import why_alone

TOWERS, FIXED, FUSION, LOOP = (
    "two_towers:TwoTowers",
    "broken_rankers:Fixed",
    "broken_rankers:MeanFusion",
    "broken_rankers:OwnLoop",
)
EVERYTHING = {
    "loss.unimodal": 0.3,
    "loss.contrastive": 0.1,
    "loss.reconstruction": 0.1,
    "loss.adversarial": 0.1,
    "loss.visual_importance": 0.1,
    "loss.decorrelation": 0.5,
    "loss.variance": 0.1,
    "train.modality_dropout": 0.2,
    "train.gradient_modulation": 0.3,
}


def recipe(reference, changes=None):
    base = Recipe().with_own(own_model(reference).defaults())
    return base.updated({"model.variant": reference, "train.epochs": 2} | (changes or {}))


def ranker(reference, data, changes=None, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_ranker(recipe(reference, changes), data.schema, data.statistics).eval()


def test_a_recipe_carries_settings_of_ones_own():
    one = recipe(TOWERS, {"own.width": "32"})
    assert one.flat()["own.width"] == 32
    assert Recipe.from_flat(one.flat()) == one
    with pytest.raises(ValueError, match=r"unknown configuration key 'own.depth'; did you mean"):
        one.updated({"own.depth": 2})
    with pytest.raises(ValueError, match=r"own.width must be a whole number, got '2.5'|own.width must be a int"):
        one.updated({"own.width": "2.5"})


def test_terms_that_need_more_than_it_returns_say_so(small_data):
    with pytest.raises(ValueError, match=r"loss.unimodal reads what is projected, which broken_rankers:Fixed does not"):
        ranker(FIXED, small_data, {"loss.unimodal": 0.3})
    assert set(inapplicable(recipe(FIXED, EVERYTHING))) >= {"loss.unimodal", "loss.reconstruction", "loss.variance"}
    assert "loss.decorrelation" not in inapplicable(recipe(FIXED, EVERYTHING))
    assert inapplicable(recipe(TOWERS, EVERYTHING)) == {}


@pytest.mark.parametrize("reference", [TOWERS, FIXED, FUSION])
def test_what_a_recipe_leaves_out_is_not_seen(reference, small_data):
    whole = recipe(reference, {"model.context": "v1"})
    left = ranker(reference, small_data, whole.restricted(("visual", "metadata")).flat())
    batch = small_data.gather(small_data.rows("train")[:6])
    other = batch._replace(
        features=batch.features | {"text": torch.randn_like(batch.features["text"])}, v1=torch.randn_like(batch.v1)
    )
    with torch.no_grad():
        assert torch.equal(left(batch).scores, left(other).scores)  # V1 reads the text, and goes with it
        assert left(batch).projected.shape[2] == 2
        seen = ranker(reference, small_data, whole.flat())
        assert not torch.equal(seen(batch).scores, seen(other).scores)


def test_a_dropped_modality_gives_way_to_the_mean(small_data):
    model = ranker(TOWERS, small_data)
    batch = small_data.gather(small_data.rows("train")[:4])
    keep = torch.tensor([[True, True, True], [True, False, True]] * 2)
    mean = model.feature_mean("text").expand_as(batch.features["text"])
    with torch.no_grad():
        found, plain = model(batch, keep=keep).scores, model(batch).scores
        without = model(batch._replace(features=batch.features | {"text": mean})).scores
    torch.testing.assert_close(found[::2], plain[::2])
    torch.testing.assert_close(found[1::2][batch.valid[1::2]], without[1::2][batch.valid[1::2]])


def test_every_term_trains_it_and_a_resumed_training_is_the_same(small_data, tmp_path):
    of = recipe(TOWERS, EVERYTHING | {"model.context": "tuned_v1"})
    whole = start(of, small_data, seed=1)
    told = [epoch.parts for epoch in train(whole, small_data)]
    state = start(of, small_data, seed=1)
    first = next(train(state, small_data)).parts
    save(state, tmp_path / "checkpoint")
    again = [epoch.parts for epoch in train(load(tmp_path / "checkpoint", of, small_data, seed=1), small_data)]
    assert [first, *again] == told
    assert {"unimodal", "contrastive", "reconstruction", "adversarial", "visual_importance"} <= set(told[0])


def test_its_own_loop_is_stepped_epoch_by_epoch(small_data):
    of = recipe(LOOP, {"train.epochs": 3})
    state = start(of, small_data, seed=0)
    assert isinstance(state.optimiser, torch.optim.SGD)
    epochs = list(train(state, small_data))
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
    assert epochs[-1].parts["loss"] < epochs[0].parts["loss"]
    other = start(of, small_data, seed=0)
    next(train(other, small_data))
    resumed = start(of, small_data, seed=0)
    restore(resumed, contents(other))
    assert [epoch.parts for epoch in train(resumed, small_data)] == [epoch.parts for epoch in epochs[1:]]


def test_shares_are_read_from_gradients_where_it_has_none(small_data):
    kinds = ("zero", "mean", "shuffle_within")
    found = evaluate(ranker(FIXED, small_data), small_data, "validation", Blanking(kinds=kinds))
    assert found.outputs.share_kind == "gradient_times_input"
    assert found.shares.shape[1:] == (1, 3)
    torch.testing.assert_close(torch.from_numpy(found.shares.sum(-1)), torch.ones(len(found.shares), 1).double())
    assert {kind for _, kind in found.masked} == {"zero", "mean", "shuffle_within"}


@pytest.mark.parametrize("reference", [TOWERS, FUSION])
@pytest.mark.parametrize("context", ["v1", "tuned_v1"])
def test_trainings_make_an_ensemble_that_exports(reference, context, small_data):
    members = [start(recipe(reference, {"model.context": context}), small_data, seed=s).model for s in (0, 1)]
    lists = small_data.gather(small_data.rows("train")[:5])
    for one in (members[0].eval(), Ensemble(members).eval()):
        names = input_names(one)
        assert "v1" in names
        program = export_program(one)
        assert largest_difference(eager_scorer(one), program_scorer(program, names), lists) < 1e-5
    assert len(list_inputs(lists, names)) == len(names)


def test_what_cannot_share_kernels_trains_alone(small_data):
    def alone(reference):
        return why_alone(start(recipe(reference), small_data, seed=0), small_data)

    assert alone(FUSION) == ""
    assert "item" in alone("broken_rankers:HostFusion")
    assert "a ranker of somebody's own, which trains alone" in alone(TOWERS)


def test_the_hash_is_of_what_is_written(tmp_path, monkeypatch):
    package = tmp_path / "team_model"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "net.py").write_text("from torch import nn\nclass Net(nn.Module):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    own = own_model("team_model.net:Net")
    before = own.sha256()
    assert [path.name for path in own.files()] == ["__init__.py", "net.py"]
    assert dataclasses.replace(own).sha256() == before
    (package / "helper.py").write_text("x = 1\n")
    assert own.sha256() != before


def drawn_by_its_loop(data, device, epochs, past=None):
    """What a loop of one's own draws in its epochs, from the start or from the state that another training left."""
    state = start(recipe("broken_rankers:DrawsInItsLoop"), data, seed=3)
    state.device = torch.device(device)
    if past is not None:
        state.random_state, state.epoch = past
    steps = own_epochs(state, data, ALONE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch.seed())
        found = [next(steps) for _ in range(epochs)]
    return found, (state.random_state, epochs)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_random_numbers_of_a_loop_of_ones_own_follow_from_the_training_s_seed(device, small_data):
    whole, _ = drawn_by_its_loop(small_data, device, 4)
    first, past = drawn_by_its_loop(small_data, device, 2)
    rest, _ = drawn_by_its_loop(small_data, device, 2, past)
    drawn = [epoch["drawn"] for epoch in [*first, *rest]]
    assert drawn == [epoch["drawn"] for epoch in whole]
    assert len(set(drawn)) == 4
    if device == "cuda":  # the generators of all devices are seeded, each epoch anew
        assert [epoch["seed"] for epoch in [*first, *rest]] == [epoch["seed"] for epoch in whole]
