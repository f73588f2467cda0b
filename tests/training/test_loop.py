"""Training as a generator: seeded, resumable with an identical continuation, stopped by its own patience."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch

from fusion_models.config import Recipe
from fusion_models.training import CheckpointError, DivergedError, load, loop, save, start, train
from fusion_models.training.step import half_precision, kept_modalities, learning_rate_at

RECIPE = Recipe().updated(
    {
        "model.variant": "concat_mlp",
        "model.width": 16,
        "train.epochs": 4,
        "train.modality_dropout": 0.3,
        "model.dropout": 0.2,
        "loss.unimodal": 0.3,
    }
)


def losses(state, data, epochs=None):
    out = []
    for result in train(state, data):
        out.append((result.parts["total"], result.evaluation.mean_ndcg))
        if epochs is not None and len(out) == epochs:
            break
    return out


def test_two_trainings_of_one_seed_are_equal_and_of_two_seeds_are_not(small_data):
    first, second, other = (losses(start(RECIPE, small_data, seed=s), small_data, 2) for s in (0, 0, 1))
    assert first == second
    assert first != other


def test_a_training_does_not_disturb_its_neighbour(small_data):
    alone = losses(start(RECIPE, small_data, seed=0), small_data, 2)
    state, neighbour = start(RECIPE, small_data, seed=0), start(RECIPE, small_data, seed=5)
    together = []
    for mine, _ in zip(train(state, small_data), train(neighbour, small_data), strict=False):
        together.append((mine.parts["total"], mine.evaluation.mean_ndcg))
        torch.rand(7)
        if len(together) == 2:
            break
    assert together == alone


def test_a_resumed_training_continues_identically(small_data, tmp_path):
    whole_state = start(RECIPE, small_data, seed=3)
    whole = losses(whole_state, small_data)
    state = start(RECIPE, small_data, seed=3)
    first = losses(state, small_data, 2)
    save(state, tmp_path / "checkpoint")
    again = load(tmp_path / "checkpoint", RECIPE, small_data, seed=3)
    assert again.best_numbers == state.best_numbers
    assert first + losses(again, small_data) == whole
    for name, value in whole_state.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], value, rtol=0, atol=0)
    assert again.best_epoch == whole_state.best_epoch


def test_a_damaged_checkpoint_is_an_error_that_names_it(small_data, tmp_path):
    state = start(RECIPE, small_data, seed=0)
    save(state, tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "state.safetensors").write_bytes(b"not tensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path / "checkpoint", RECIPE, small_data, seed=0)


def test_a_checkpoint_of_another_recipe_is_refused(small_data, tmp_path):
    save(start(RECIPE, small_data, seed=0), tmp_path / "checkpoint")
    with pytest.raises(CheckpointError, match="another recipe or seed"):
        load(tmp_path / "checkpoint", RECIPE, small_data, seed=1)


def test_saving_leaves_the_last_checkpoint_and_the_one_before(small_data, tmp_path):
    state = start(RECIPE, small_data, seed=0)
    for _ in train(state, small_data):
        save(state, tmp_path / "checkpoint")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".checkpoint.previous", "checkpoint"]
    assert load(tmp_path / "checkpoint", RECIPE, small_data, seed=0).epoch == state.epoch


def test_patience_ends_a_training_that_does_not_improve(small_data):
    recipe = RECIPE.updated({"train.epochs": 50, "train.patience": 2, "train.learning_rate": 1e-12})
    state = start(recipe, small_data, seed=0)
    results = list(train(state, small_data))
    assert results[-1].finished
    assert state.epoch - state.best_epoch == 2
    assert state.epoch < 50


def test_a_loss_that_is_not_finite_says_where(small_data):
    state = start(RECIPE, small_data, seed=0)
    with torch.no_grad():
        next(state.model.parameters()).fill_(math.nan)
    with pytest.raises(DivergedError, match="epoch 1, step 1 of"):
        next(train(state, small_data))


@pytest.mark.parametrize("looks", [True, False], ids=["each step", "each epoch"])
@pytest.mark.parametrize(("step", "part"), [(1, "ranking"), (3, "unimodal"), (5, "ranking")])
def test_a_loss_that_is_not_finite_is_named_whenever_it_is_looked_at(step, part, looks, small_data, monkeypatch):
    taken, take, steps = [], loop.train_step, math.ceil(len(small_data.rows("train")) / 10)

    def poisoned(*arguments, **more):
        parts = take(*arguments, **more)
        taken.append(1)
        if len(taken) < steps + step:
            return parts
        return parts | {name: parts[name] + float("nan") for name in (part, "total")}

    monkeypatch.setattr(loop, "train_step", poisoned)
    monkeypatch.setattr(loop, "_looks_each_step", lambda device: looks)
    epochs = train(start(RECIPE.updated({"train.batch_queries": 10}), small_data, seed=0), small_data)
    next(epochs)
    with pytest.raises(DivergedError, match=rf"at epoch 2, step {step} of {steps} \(in {part}\)"):
        next(epochs)
    assert len(taken) == steps + (step if looks else steps)


def test_looking_once_an_epoch_changes_nothing(small_data, monkeypatch):
    each = losses(start(RECIPE, small_data, seed=0), small_data)
    monkeypatch.setattr(loop, "_looks_each_step", lambda device: False)
    assert losses(start(RECIPE, small_data, seed=0), small_data) == each


def test_reading_ahead_keeps_the_order_and_what_is_raised():
    def items():
        yield from range(5)
        raise ValueError("no more")

    found = []
    with pytest.raises(ValueError, match="no more"):
        found.extend(loop._read_ahead(items()))
    assert list(loop._read_ahead(iter(range(3)))) == [0, 1, 2]


def test_training_learns_what_is_planted(small_data):
    state = start(RECIPE.updated({"train.epochs": 6}), small_data, seed=0)
    results = list(train(state, small_data))
    assert state.best_ndcg > results[0].evaluation.v1_ndcg.mean() - 0.2
    assert results[-1].parts["total"] < results[0].parts["total"]


def test_the_rate_rises_and_falls():
    rates = [learning_rate_at(p, 0.1) for p in (0.0, 0.05, 0.1, 0.55, 1.0)]
    assert rates == pytest.approx([0.0, 0.5, 1.0, 0.5, 0.0])


@pytest.mark.parametrize(("major", "half"), [(7, False), (8, True), (9, True)])
def test_auto_is_bfloat16_on_a_gpu_that_has_it_and_not_where_it_is_emulated(major, half, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=major))
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)
    assert half_precision("auto", SimpleNamespace(is_cuda=True)) == half
    assert not half_precision("auto", torch.zeros(1))


def test_dropped_modalities_never_leave_a_query_without_any():
    keep = kept_modalities(5000, 3, 0.9, torch.Generator().manual_seed(0))
    assert keep.any(dim=1).all()
    rare = kept_modalities(20_000, 3, 0.2, torch.Generator().manual_seed(0))
    assert rare.float().mean().item() == pytest.approx(0.8, abs=0.01)


def test_a_recipe_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECIPE.train.epochs = 3
