"""The size of a stack is chosen by what stacks of a few sizes take."""

import pytest
import torch

from fusion_models.config import Recipe
from fusion_models.data import open_dataset
from fusion_models.training.stack import Stack, sizing
from fusion_models.training.stack.sizing import Sized, best_size, measured_sizes

CPU = torch.device("cpu")
SMALL = Recipe().updated({"model.variant": "concat_mlp", "model.width": 8, "model.layers": 1})


@pytest.fixture(scope="module")
def data(_own_cache):
    return open_dataset("planted?queries=130&candidates=6")


def sized(*given):
    return [Sized(members=members, seconds=seconds, bytes=size) for members, seconds, size in given]


@pytest.mark.parametrize(
    ("found", "size"),
    [
        (sized((1, 1.0, 10), (4, 1.2, 20), (16, 2.0, 40)), 16),
        (sized((1, 1.0, 10), (4, 1.2, 20), (16, 2.0, 101)), 4),
        (sized((1, 1.0, 10), (4, 1.2, 20), (16, 4.7, 40)), 4),
        (sized((1, 1.0, 10), (4, 3.9, 20), (16, 8.0, 40)), 16),
        (sized((1, 1.0, 10), (4, 4.0, 20)), 1),
        (sized((1, 1.0, 200)), 1),
        ([], 1),
    ],
)
def test_the_largest_that_fits_and_pays(found, size):
    assert best_size(found, 100) == size


def test_every_size_is_measured_as_far_as_memory_goes(data, monkeypatch):
    probe = Stack.probe

    def probed(self, steps):
        if len(self.members) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return probe(self, steps)

    monkeypatch.setattr(Stack, "probe", probed)
    found = measured_sizes(SMALL, data, CPU, [1, 2, 3, 4])
    assert [each.members for each in found] == [1, 2]
    assert all(each.seconds > 0 for each in found)


def test_an_epoch_is_told_from_some_of_its_steps(data, monkeypatch):
    monkeypatch.setattr(sizing, "STEPS", 2)
    recipe = SMALL.updated({"train.batch_queries": 4})
    clock = iter(float(second) for second in range(100))
    monkeypatch.setattr(Stack, "_clock", lambda self: next(clock))
    steps = -(-len(data.rows("train")) // 4)
    (found,) = measured_sizes(recipe, data, CPU, [1])
    assert found.seconds == pytest.approx(steps / 2 + 1)
