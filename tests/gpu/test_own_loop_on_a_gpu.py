"""A training loop of somebody's own on a GPU draws there what follows from the training's seed, and resumes."""

import sys
from pathlib import Path

import pytest
import torch

from fusion_models.config import Recipe
from fusion_models.data import open_dataset
from fusion_models.training import load, save, start, train

MODULES = Path(__file__).parents[1] / "own" / "modules"
REFERENCE = "broken_rankers:DropsInItsLoop"


@pytest.fixture
def data(monkeypatch):
    monkeypatch.syspath_prepend(MODULES)
    yield open_dataset("planted?queries=160&candidates=8")
    sys.modules.pop("broken_rankers", None)


def test_a_loop_with_dropout_is_the_same_again_and_goes_on_where_it_stopped(data, tmp_path):
    recipe = Recipe().updated({"model.variant": REFERENCE, "train.epochs": 2, "train.patience": 2})
    whole, again, first = (start(recipe, data, seed=0, device="cuda") for _ in range(3))
    for state in (whole, again):
        torch.cuda.manual_seed(int(torch.randint(2**31, ())))  # what went on on the device before
        list(train(state, data))
    torch.cuda.manual_seed(99)
    next(train(first, data))
    save(first, tmp_path / "training")
    resumed = load(tmp_path / "training", recipe, data, seed=0, device="cuda")
    list(train(resumed, data))
    for name, x in whole.model.state_dict().items():
        assert torch.equal(x, again.model.state_dict()[name]), name
        assert torch.equal(x, resumed.model.state_dict()[name]), name
