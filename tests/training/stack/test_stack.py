"""Members come and go between epochs, each by its own patience or divergence; checkpoints go both ways."""

import copy

import numpy as np
import pytest
import torch

from fusion_models.config import Recipe
from fusion_models.data import open_dataset
from fusion_models.evaluation import NO_BLANKING, Blanking, evaluate
from fusion_models.metrics import BLANKS
from fusion_models.training import DivergedError, load, save, start, train
from fusion_models.training.stack import Stack, differences, structure, train_stack
from fusion_models.training.stack.evaluation import StackedEvaluation
from fusion_models.training.stack.member_dropout import MemberDropout
from fusion_models.training.stack.network import StackedRanker
from fusion_models.training.stack.tables import Tables

BASE = Recipe().updated(
    {
        "model.variant": "gated_unit",
        "model.width": 8,
        "model.heads": 4,
        "model.layers": 1,
        "model.dropout": 0.0,
        "train.epochs": 6,
        "train.patience": 6,
        "train.batch_queries": 16,
        "loss.unimodal": 0.2,
    }
)


@pytest.fixture(scope="module")
def data(_own_cache):
    return open_dataset("planted?queries=130&candidates=6&candidates_spread=0.5")


def totals(results):
    return [result.parts["total"] for result in results]


def alone(recipe, data, seed):
    return totals(train(start(recipe, data, seed=seed), data))


def test_each_member_has_its_own_number_of_epochs_and_its_own_patience(data):
    recipes = [BASE.updated({"train.epochs": n, "train.patience": p}) for n, p in ((2, 6), (6, 1), (5, 6))]
    states = [start(recipe, data, seed=seed) for seed, recipe in enumerate(recipes)]
    sizes, last = [], {}
    for found in train_stack(states, data):
        sizes.append(len(found))
        last |= {id(state): result for state, result in found}
    expected = [len(alone(recipe, data, seed)) for seed, recipe in enumerate(recipes)]
    assert [last[id(state)].epoch for state in states] == expected
    assert all(last[id(state)].finished and state.finished for state in states)
    assert sizes == [sum(count > epoch for count in expected) for epoch in range(len(sizes))]


def test_a_member_that_diverges_leaves_alone(data):
    wild = BASE.updated({"train.learning_rate": 1e30, "train.warmup": 0.0, "train.gradient_clip": 1e30})
    states = [start(BASE, data, seed=0), start(wild, data, seed=1), start(BASE, data, seed=2)]
    results = list(train_stack(states, data))
    _, error = results[0][1]
    with pytest.raises(DivergedError) as expected:
        list(train(start(wild, data, seed=1), data))
    assert isinstance(error, DivergedError)
    assert str(error) == str(expected.value)
    assert [len(found) for found in results] == [3] + [2] * 5
    for state, seed in ((states[0], 0), (states[2], 2)):
        mine = [r for found in results for s, r in found if s is state]
        assert totals(mine) == pytest.approx(alone(BASE, data, seed), abs=1e-4)


def test_a_member_may_join_and_leave_at_any_epochs_end(data):
    first, second, third = (start(BASE, data, seed=seed) for seed in range(3))
    stack = Stack(data)
    stack.join(first)
    stack.join(second)
    found = stack.epoch()
    stack.leave(second)
    stack.join(third)
    while stack.members:
        found += stack.epoch()
    for state, seed in ((first, 0), (third, 2)):
        assert totals(r for s, r in found if s is state) == pytest.approx(alone(BASE, data, seed), abs=1e-4)
    rest = totals(train(second, data))
    assert second.epoch == 6
    assert totals(r for s, r in found if s is second) + rest == pytest.approx(alone(BASE, data, 1), abs=1e-4)


def test_an_empty_place_is_kept_and_taken_by_the_next(data):
    recipes = [BASE.updated({"train.learning_rate": rate, "loss.unimodal": rate * 100}) for rate in (1e-3, 2e-3, 3e-3)]
    states = [start(recipe, data, seed=seed) for seed, recipe in enumerate(recipes)]
    late = start(BASE.updated({"train.gradient_clip": 0.1, "train.weight_decay": 0.2}), data, seed=7)
    stack = Stack(data)
    stack.keeps_places = True
    for state in states:
        stack.join(state)
    found = stack.epoch()
    built = stack._built
    stack.leave(states[0])
    found += stack.epoch()
    stack.join(late)
    found += stack.epoch()
    assert stack._built is built
    assert built.places == [late, *states[1:]]
    while stack.members:
        found += stack.epoch()
    for state, seed in ((states[1], 1), (states[2], 2), (late, 7)):
        expected = alone(state.recipe, data, seed)
        assert totals(r for s, r in found if s is state) == pytest.approx(expected, abs=1e-4)


def test_a_place_is_not_given_to_a_member_whose_dropout_its_layers_cannot_have(data):
    stack, other = Stack(data), start(BASE.updated({"model.dropout": 0.5}), data, seed=2)
    stack.keeps_places = True
    states = [start(BASE, data, seed=seed) for seed in range(2)]
    for state in states:
        stack.join(state)
    stack.epoch()
    built = stack._built
    stack.leave(states[0])
    stack.join(other)
    stack.epoch()
    assert stack._built is not built
    assert isinstance(stack._built.ranker.template.fusion.blocks[0].dropout, MemberDropout)


def test_a_member_of_another_structure_is_refused_by_the_key(data):
    stack = Stack(data)
    stack.join(start(BASE, data, seed=0))
    other = BASE.updated({"model.width": 16, "loss.unimodal": 0.0, "train.learning_rate": 1.0})
    assert differences(BASE, other) == ["loss.unimodal", "model.width"]
    with pytest.raises(ValueError, match=r"loss\.unimodal, model\.width differ"):
        stack.join(start(other, data, seed=0))
    assert len(stack.members) == 1


def test_numbers_are_no_part_of_the_structure_and_all_else_is():
    numbers = {"train.learning_rate": 1.0, "model.dropout": 0.5, "loss.unimodal": 0.7, "train.epochs": 3}
    assert structure(BASE) == structure(BASE.updated(numbers))
    for key, value in {"loss.variance": 0.1, "model.variant": "film", "train.modality_dropout": 0.1}.items():
        assert structure(BASE) != structure(BASE.updated({key: value}))
    for key in BASE.flat():
        assert key.split(".")[0] in ("model", "loss", "train")


def test_a_checkpoint_of_a_stack_goes_on_alone_and_back_in_a_stack(data, tmp_path):
    recipe = BASE.updated({"train.modality_dropout": 0.3, "loss.contrastive": 0.2})
    expected = [alone(recipe, data, seed) for seed in range(2)]
    states = [start(recipe, data, seed=seed) for seed in range(2)]
    stacked = [[], []]
    for epoch, found in enumerate(train_stack(states, data)):
        for place, (_, result) in enumerate(found):
            stacked[place].append(result)
        if epoch == 1:
            break
    for seed, state in enumerate(states):
        save(state, tmp_path / str(seed))
    again = load(tmp_path / "0", recipe, data, seed=0)
    assert totals(stacked[0]) + totals(train(again, data)) == pytest.approx(expected[0], abs=1e-4)
    again = [load(tmp_path / str(seed), recipe, data, seed=seed) for seed in range(2)]
    rest = [[], []]
    for found in train_stack(again, data):
        for place, (_, result) in enumerate(found):
            rest[place].append(result)
    for place in range(2):
        assert totals(stacked[place]) + totals(rest[place]) == pytest.approx(expected[place], abs=1e-4)


def test_an_evaluation_and_every_blank_are_those_of_a_ranker_alone(data):
    for variant in ("cross_attention", "late_sum"):
        recipe = BASE.updated({"model.variant": variant})
        models = [start(recipe, data, seed=seed).model for seed in range(3)]
        ranker = StackedRanker([recipe] * 3, data, torch.device("cpu"))
        weights = torch.stack([ranker.row(dict(model.named_parameters())) for model in models])
        split = StackedEvaluation(
            data, Tables(data, torch.device("cpu")), "validation", device=torch.device("cpu"), channels=24
        )
        together = split(ranker, weights)
        masked = split.masked(ranker, weights, blanks=("visual", "text"), kinds=BLANKS)
        for model, one, blanks in zip(models, together, masked, strict=True):
            theirs = evaluate(model, data, "validation", NO_BLANKING)
            assert one.numbers() == pytest.approx(theirs.numbers(), abs=1e-5)
            for name in ("rows", "documents", "ndcg", "v1_ndcg", "shares"):
                np.testing.assert_allclose(
                    getattr(one, name), getattr(theirs, name), atol=1e-4, rtol=1e-4, err_msg=name
                )
            for name in ("scores", "value_shares"):
                mine, other = getattr(one.outputs, name), getattr(theirs.outputs, name)
                assert (mine is None) == (other is None)
                if mine is not None:
                    np.testing.assert_allclose(mine, other, atol=1e-4, rtol=1e-4, err_msg=name)
            expected = evaluate(model, data, "validation", Blanking(("visual", "text"), BLANKS)).masked
            assert list(blanks) == list(expected)
            for key, values in expected.items():
                np.testing.assert_allclose(blanks[key], values, atol=1e-3, err_msg=str(key))


def test_a_stack_with_dropout_repeats_itself(data):
    recipes = [BASE.updated({"model.dropout": p, "train.epochs": 2}) for p in (0.1, 0.4)]

    def run():
        states = [start(recipe, data, seed=seed) for seed, recipe in enumerate(recipes)]
        return [[totals([r]) for _, r in found] for found in train_stack(states, data)]

    once = run()
    torch.rand(3)
    assert run() == once


def test_an_epoch_works_out_no_value_shares(data):
    state = start(BASE.updated({"model.variant": "cross_attention"}), data, seed=0)
    ((_, result),) = next(train_stack([state], data))
    assert result.evaluation.outputs.value_shares is None
    assert result.evaluation.outputs.shares is not None


def test_a_state_that_is_synced_is_not_changed_by_later_epochs(data):
    state = start(BASE, data, seed=0)
    stack = Stack(data)
    stack.join(state)
    stack.join(start(BASE, data, seed=1))
    stack.epoch()
    stack.sync(state)
    kept = copy.deepcopy(state.model.state_dict())
    stack.epoch()
    for name, value in state.model.state_dict().items():
        assert torch.equal(value, kept[name])
