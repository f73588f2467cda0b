"""A late step that fails costs itself: a line, a missing file, and no more."""

import io

import pytest
from rich.console import Console
from run_context import run_in

from search.options import RunOptions
from search.pipeline import search_step
from search.pipeline.late import costs_itself
from search.run_store.folder import RunFolder
from spaces import PHASES


@pytest.fixture
def plain():
    return Console(file=io.StringIO(), width=40)


def test_what_is_raised_is_one_line_and_the_old_file_goes(plain, tmp_path):
    old = tmp_path / "evidence.json"
    old.write_text("{}")
    with costs_itself(plain, "evidence.json", files=[old, tmp_path / "never"]):
        raise OSError("no [space] left\non the device")
    said = plain.file.getvalue()
    assert said == "evidence.json failed (OSError: no [space] left on the device); the verdict does not rest on it\n"
    assert not old.exists()


def test_what_goes_well_leaves_all_as_it_is(plain, tmp_path):
    old = tmp_path / "evidence.json"
    with costs_itself(plain, "evidence.json", files=[old]):
        old.write_text("{}")
    assert old.exists()
    assert not plain.file.getvalue()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), OSError("the machine is lost")])
def test_an_interruption_and_what_ends_the_run_pass(plain, error):
    with (
        pytest.raises(type(error)),
        costs_itself(plain, "the ablation", ends_run=lambda found: found is error),
    ):
        raise error


def failing(*_, **__):
    raise ZeroDivisionError("here")


def test_a_front_without_p_on_front_is_a_front(tmp_path, small_data, monkeypatch):
    run = run_in(RunFolder(tmp_path), RunOptions(phase="phase3"), PHASES["phase3"], small_data)
    monkeypatch.setattr(search_step, "p_on_front", failing)
    search_step.write_front(run)
    assert "p_on_front of pareto.csv failed (ZeroDivisionError: here)" in run.console.file.getvalue()
    assert (tmp_path / "pareto.csv").exists()


def test_what_ended_trainings_is_known(tmp_path, small_data, monkeypatch):
    run = run_in(RunFolder(tmp_path), RunOptions(phase="phase3"), PHASES["phase3"], small_data)
    monkeypatch.setattr(run.trainer, "_session", type("Session", (), {"train": failing}))
    stage = type("Stage", (), {"left": 1, "name": "ablation", "records": lambda self: []})()
    with pytest.raises(ZeroDivisionError) as raised:
        run.trainer.train([stage])
    assert run.trainer.stopped_by(raised.value)
    assert not run.trainer.stopped_by(ZeroDivisionError("here"))
