"""A ranker's folder of which a file is gone, cut or of another kind: one line that names the file."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from fusion_models.config import Recipe
from fusion_models.models import build_ranker
from search.run_store.artifacts import RECIPE, WEIGHTS, load_ranker
from search.run_store.folder import RunFolder, RunFolderError
from search.serving.frames import open_ranker


@pytest.fixture(scope="module")
def whole(small_data, tmp_path_factory):
    place = tmp_path_factory.mktemp("whole")
    recipe = Recipe.from_flat({"model.width": 16, "model.layers": 1, "model.heads": 2})
    torch.manual_seed(0)
    save_file(build_ranker(recipe, small_data.schema, small_data.statistics).state_dict(), place / WEIGHTS)
    (place / RECIPE).write_text(json.dumps({"recipe": recipe.flat()}))
    return place


BROKEN = {
    "weights gone": (WEIGHTS, None),
    "weights cut": (WEIGHTS, lambda whole: whole[: len(whole) // 2]),
    "weights empty": (WEIGHTS, lambda whole: b""),
    "weights of text": (WEIGHTS, lambda whole: b"no weights at all"),
    "recipe gone": (RECIPE, None),
    "recipe cut": (RECIPE, lambda whole: whole[:12]),
    "recipe a list": (RECIPE, lambda whole: b"[]"),
    "recipe without its key": (RECIPE, lambda whole: b"{}"),
    "recipe a text": (RECIPE, lambda whole: b'{"recipe": "base"}'),
    "recipe of another version": (RECIPE, lambda whole: b'{"recipe": {"model.gone": 1}}'),
    "recipe of a wrong value": (RECIPE, lambda whole: b'{"recipe": {"model.width": [1]}}'),
}


@pytest.mark.parametrize("how", BROKEN)
def test_the_file_is_named(whole, small_data, tmp_path, how):
    place = shutil.copytree(whole, tmp_path / "ranker")
    load_ranker(place, small_data)
    name, change = BROKEN[how]
    content = (place / name).read_bytes()
    (place / name).unlink()
    if change is not None:
        (place / name).write_bytes(change(content))
    with pytest.raises(ValueError, match=str(place / name)) as caught:
        load_ranker(place, small_data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("trial", [3, "t0003", "../artefact"])
def test_a_trial_that_is_not_there_is_said(whole, small_data, tmp_path, trial):
    folder = RunFolder(tmp_path / "phase1")
    shutil.copytree(whole, folder.checkpoints / "artefact")
    folder.write({"phase": "phase1", "data": small_data.source, "fingerprint": small_data.fingerprint})
    open_ranker(folder.path)
    with pytest.raises(RunFolderError, match=rf"has no trial '?{trial}'?; it has artefact"):
        open_ranker(folder.path, trial)
