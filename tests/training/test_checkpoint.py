"""A checkpoint is there whole or not at all, and nothing of a killed writer stays."""

import pytest

from fusion_models.config import Recipe
from fusion_models.training import CheckpointError, discard, load, save, start, train

RECIPE = Recipe().updated({"model.layers": 1, "train.epochs": 2})


@pytest.fixture
def state(small_data):
    state = start(RECIPE, small_data, seed=1)
    next(train(state, small_data))
    return state


def test_a_writer_killed_between_its_renames_leaves_the_previous_checkpoint(state, small_data, tmp_path):
    save(state, tmp_path / "training")
    (tmp_path / "training").rename(tmp_path / ".training.previous")
    assert load(tmp_path / "training", RECIPE, small_data, seed=1).epoch == 1


def test_no_checkpoint_says_so(small_data, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        load(tmp_path / "training", RECIPE, small_data, seed=1)


def test_discard_leaves_nothing_of_a_killed_writer_and_everything_else(state, tmp_path):
    save(state, tmp_path / "training")
    (tmp_path / ".training.12345").mkdir()
    (tmp_path / ".training.previous").mkdir()
    (tmp_path / "weights.safetensors").touch()
    discard(tmp_path / "training")
    assert [p.name for p in tmp_path.iterdir()] == ["weights.safetensors"]
    discard(tmp_path / "training")
