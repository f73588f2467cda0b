"""An epoch that a stack cannot take is taken with less in common, and every member trains as it would alone."""

import pytest
import torch

from fusion_models.config import Recipe
from fusion_models.data import open_dataset
from fusion_models.training import start, train
from fusion_models.training.stack import Stack
from fusion_models.training.stack import groups as groups_module
from fusion_models.training.stack.groups import Groups

BASE = Recipe().updated(
    {
        "model.variant": "concat_mlp",
        "model.width": 8,
        "model.heads": 4,
        "model.layers": 1,
        "model.dropout": 0.0,
        "train.epochs": 3,
        "train.patience": 3,
    }
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(_own_cache):
    return open_dataset("planted?queries=130&candidates=6")


def alone(data, seed):
    return [result.parts["total"] for result in train(start(BASE, data, seed=seed), data)]


def trained(groups, states):
    """Losses of every member, all of whom ask for every epoch until they have finished or met an error."""
    found = {id(state): [] for state in states}
    while asking := [s for s in states if not s.finished and not isinstance((found[id(s)] or [0])[-1], Exception)]:
        for key, outcome in groups.epoch(asking).items():
            found[key].append(outcome if isinstance(outcome, Exception) else outcome.parts["total"])
    return [found[id(state)] for state in states]


@pytest.fixture
def failing(monkeypatch):
    """Has epochs of stacks with more than `room` members fail, once all their steps are taken; the sizes tried."""

    def of(room, error):
        tried, epoch = [], Stack.epoch

        def failing(self):
            tried.append(len(self.members))
            found = epoch(self)
            if tried[-1] > room:
                raise error
            return found

        monkeypatch.setattr(Stack, "epoch", failing)
        return tried

    return of


@pytest.mark.parametrize(
    ("room", "expected"), [(2, [3, 2, 1] + [2, 1] * 2), (1, [3, 2] + [1] * 9), (0, [3, 2, 1])], ids=str
)
def test_a_stack_without_room_is_halved_down_to_trainings_alone(room, expected, data, failing):
    tried = failing(room, torch.OutOfMemoryError("CUDA out of memory"))
    states = [start(BASE, data, seed=seed) for seed in range(3)]
    for seed, losses in enumerate(trained(Groups(data, CPU), states)):
        assert losses == pytest.approx(alone(data, seed), abs=1e-4)
    assert tried == expected


def test_memory_that_cannot_be_given_back_ends_no_epoch(data, failing, monkeypatch):
    def lost(device):
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(groups_module, "free_memory", lost)
    tried = failing(1, torch.OutOfMemoryError("CUDA out of memory"))
    states = [start(BASE, data, seed=seed) for seed in range(2)]
    for seed, losses in enumerate(trained(Groups(data, CPU), states)):
        assert losses == pytest.approx(alone(data, seed), abs=1e-4)
    assert tried[0] == 2


def test_where_not_even_one_has_room_each_hears_of_it(data, failing, monkeypatch):
    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")
        yield

    failing(0, torch.OutOfMemoryError("CUDA out of memory"))
    monkeypatch.setattr(groups_module, "train", full)
    found = trained(Groups(data, CPU), [start(BASE, data, seed=seed) for seed in range(2)])
    assert [[type(error) for error in mine] for mine in found] == [[torch.OutOfMemoryError]] * 2


def test_a_step_that_cannot_be_recorded_is_taken_unrecorded(data, monkeypatch):
    recording = []

    def recorded(*arguments, graphs, **more):
        recording.append(graphs)
        return Stack(*arguments, graphs=graphs is None, **more)  # which no processor can

    monkeypatch.setattr(groups_module, "Stack", recorded)
    states = [start(BASE, data, seed=seed) for seed in range(2)]
    for seed, losses in enumerate(trained(Groups(data, CPU), states)):
        assert losses == pytest.approx(alone(data, seed), abs=1e-4)
    assert recording == [None, False]


@pytest.mark.parametrize(
    "error", [torch.AcceleratorError("CUDA error: device-side assert triggered"), ValueError("no idea")], ids=repr
)
def test_what_cannot_be_helped_is_told_to_all_at_once(error, data, failing):
    tried = failing(0, error)
    assert trained(Groups(data, CPU), [start(BASE, data, seed=seed) for seed in range(2)]) == [[error]] * 2
    assert tried == [2]
