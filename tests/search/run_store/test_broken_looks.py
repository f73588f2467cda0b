"""Looks where their file is broken, or there is no folder for it."""

import pwd

import pytest

from search.run_store.folder import RunFolder, RunFolderError
from search.run_store.looks import count_look, require_looks

SHOP = "s3://team/shop"


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """A state folder of the test's own."""
    path = tmp_path / "state"
    monkeypatch.setenv("FUSION_SEARCH_STATE", str(path))
    return path


def run(path):
    """A run folder that says when it started."""
    folder = RunFolder(path)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.write({"start": "2026-01-01T00:00:00+00:00"})
    return folder


def test_a_user_without_a_home_has_no_memory_beyond_results(tmp_path, monkeypatch):
    """As a uid without a passwd entry in a container."""
    for name in ("FUSION_SEARCH_STATE", "XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    assert [count_look(run(tmp_path / name), "abc", SHOP).number for name in ("phase3", "again")] == [1, 2]


def test_a_state_folder_in_an_unknown_home_is_a_mistake(tmp_path, monkeypatch):
    monkeypatch.setenv("FUSION_SEARCH_STATE", "~nobody-of-that-name/state")
    with pytest.raises(RunFolderError, match=r"\$FUSION_SEARCH_STATE is ~nobody-of-that-name/state"):
        require_looks(run(tmp_path / "phase3"))


BROKEN = {"half": b'{"abc": [{"run": ', "not text": b"\xff\xfe{}", "a list": b"[]", "other": b'{"abc": {"run": "a"}}'}


@pytest.mark.parametrize("where", ["beside", "state"])
@pytest.mark.parametrize("how", [*BROKEN, "a folder"])
def test_looks_that_cannot_be_read_are_named_and_never_forgotten(tmp_path, state, where, how):
    folder = run(tmp_path / "results" / "phase3")
    broken = (state if where == "state" else tmp_path / "results") / "test_looks.json"
    broken.parent.mkdir(exist_ok=True)
    if how == "a folder":
        broken.mkdir()
    else:
        broken.write_bytes(BROKEN[how])
    for asked in (lambda: require_looks(folder), lambda: count_look(folder, "abc", SHOP)):
        with pytest.raises(RunFolderError) as caught:
            asked()
        assert str(caught.value).startswith(str(broken))
        assert "\n" not in str(caught.value)
    assert broken.is_dir() or broken.read_bytes() == BROKEN[how]
