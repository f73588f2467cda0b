"""A checkpoint is there whole or not at all, and nothing of a killed writer stays."""

import errno
import shutil

import pytest
import torch

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


@pytest.fixture(scope="module")
def generations(small_data, tmp_path_factory):
    """A folder with the checkpoints of epoch 1 and 2."""
    path = tmp_path_factory.mktemp("generations")
    state = start(RECIPE, small_data, seed=1)
    for _ in train(state, small_data):
        save(state, path / "training")
    return path, state


@pytest.mark.parametrize("name", ["state.safetensors", "progress.json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_checkpoint_that_cannot_be_read_gives_way_to_the_one_before(generations, small_data, tmp_path, name, damage):
    shutil.copytree(generations[0], tmp_path, dirs_exist_ok=True)
    path = tmp_path / "training" / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :])
    assert load(tmp_path / "training", RECIPE, small_data, seed=1).epoch == 1


def test_a_training_goes_on_from_the_one_before_as_it_did(generations, small_data, tmp_path):
    shutil.copytree(generations[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "training" / "state.safetensors").write_bytes(b"")
    again = load(tmp_path / "training", RECIPE, small_data, seed=1)
    assert [result.epoch for result in train(again, small_data)] == [2]
    for key, value in generations[1].model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[key], value, rtol=0, atol=0)


def test_where_no_generation_can_be_read_the_last_one_is_named(state, small_data, tmp_path):
    for _ in range(2):
        save(state, tmp_path / "training")
        (tmp_path / "training" / "progress.json").write_text("{}")
    with pytest.raises(CheckpointError, match="training cannot be read"):
        load(tmp_path / "training", RECIPE, small_data, seed=1)


def test_a_checkpoint_that_cannot_be_written_leaves_the_others_whole(state, small_data, full_disk):
    save(state, full_disk.path / "training")
    next(train(state, small_data))
    full_disk.fill()
    with pytest.raises(OSError) as raised:  # noqa: PT011 (the number is checked below)
        save(state, full_disk.path / "training")
    assert raised.value.errno in (errno.ENOSPC, None)
    assert "No space left on device" in str(raised.value)
    assert sorted(p.name for p in full_disk.path.iterdir()) == ["filler", "training"]
    assert load(full_disk.path / "training", RECIPE, small_data, seed=1).epoch == 1
