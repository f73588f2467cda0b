"""A training of a process group over NCCL takes the steps of one alone."""

import pytest
import torch
import torch.distributed

from fusion_models.config import Recipe
from fusion_models.process_group import TorchProcessGroup
from fusion_models.training import start, train


@pytest.fixture
def nccl(tmp_path):
    torch.distributed.init_process_group("nccl", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield TorchProcessGroup()
    torch.distributed.destroy_process_group()


def test_a_group_of_one_over_nccl_trains_as_one_alone(small_data, nccl):
    recipe = Recipe().updated(
        {"model.variant": "film", "model.dropout": 0.0, "train.epochs": 2, "train.precision": "float32"}
    )
    alone = [r.parts["total"] for r in train(start(recipe, small_data, seed=0, device="cuda"), small_data)]
    state = start(recipe, small_data, seed=0, device="cuda")
    grouped = [r.parts["total"] for r in train(state, small_data, process_group=nccl)]
    assert grouped == pytest.approx(alone, abs=1e-5)
