"""The front of another run, where its folder is not whole."""

import json
from pathlib import Path

import pytest

from search.pipeline.continuation.warm_start import front_recipes, warm_recipes
from search.run_store.folder import RunFolder, RunFolderError


@pytest.fixture
def front(tmp_path):
    """A run of two trials on the front."""
    run = RunFolder(tmp_path / "phase3")
    for trial in ("0001", "0002"):
        place = run.checkpoints / trial
        place.mkdir(parents=True)
        (place / "recipe.json").write_text(json.dumps({"recipe": {"model.width": 64}, "seed": 1}))
    run.write({"phase": "phase3"})
    (run.path / "pareto.csv").write_text("trial_id,ndcg_gain\n0002,0.1\n0001,0.2\n")
    return run


def test_recipes_of_a_front_keep_its_order(front):
    found = warm_recipes(str(front.path))
    assert list(found) == ["0002 of phase3", "0001 of phase3"]
    assert found == front_recipes(front)


BROKEN = {
    "a recipe that is gone": ("checkpoints/0001/recipe.json", None),
    "a recipe that is cut": ("checkpoints/0001/recipe.json", b'{"recipe": {'),
    "a file without a recipe": ("checkpoints/0001/recipe.json", b'{"seed": 1}'),
    "a recipe of another kind": ("checkpoints/0001/recipe.json", b"[]"),
    "a front that is cut": ("pareto.csv", b'trial_id,ndcg_gain\n"0002,0'),
    "a front that is no text": ("pareto.csv", b"\xff\xfe\x00"),
    "a front without trials": ("pareto.csv", b"ndcg_gain\n1\n"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_what_is_broken_is_named(front, how):
    file, raw = BROKEN[how]
    path: Path = front.path / file
    path.unlink() if raw is None else path.write_bytes(raw)
    with pytest.raises(RunFolderError, match=rf"^--warm-from .*{path} ") as caught:
        warm_recipes(str(front.path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("raw", [b"", b"trial_id,ndcg_gain\n"])
def test_an_empty_front_is_none(front, raw):
    (front.path / "pareto.csv").write_bytes(raw)
    with pytest.raises(RunFolderError, match="has no front"):
        warm_recipes(str(front.path))
