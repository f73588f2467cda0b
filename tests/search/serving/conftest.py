"""A ranker's weights as a run leaves them, and requests that fit the dataset."""

import json

import pytest
import torch
from safetensors.torch import save_file

from fusion_models.config import Recipe
from fusion_models.models import build_ranker
from search.artifacts import RECIPE, WEIGHTS


@pytest.fixture(scope="session")
def checkpoint(small_data, tmp_path_factory):
    """Weights of a ranker as a run leaves them (untrained: what is tested here is the way of its scores)."""
    folder = tmp_path_factory.mktemp("checkpoint")
    recipe = Recipe.from_flat({"model.width": 16, "model.layers": 1, "model.heads": 2})
    torch.manual_seed(0)
    model = build_ranker(recipe, small_data.schema, small_data.statistics)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / WEIGHTS)
    (folder / RECIPE).write_text(json.dumps({"recipe": recipe.flat(), "seed": 0, "numbers": {}}))
    return folder


@pytest.fixture(scope="session")
def request_of(small_data):
    """A valid request for a query row of the dataset."""

    def make(row, **more):
        span = slice(small_data.offset[row], small_data.offset[row + 1])
        candidates = [
            {"item": str(small_data.item_ids[item]), "v1_score": float(score)}
            for item, score in zip(small_data.judged_item[span], small_data.v1[span], strict=True)
        ]
        return {"query": {"id": str(small_data.query_ids[row])}, "candidates": candidates} | more

    return make
