"""One finished run, of which each test takes a copy of its own."""

import io
import shutil

import pytest
from rich.console import Console

from search.options import RunOptions
from search.pipeline.phase import run_phase

SMALL = {
    "phase": "phase1",
    "data": "planted?queries=160&candidates=8",
    "trials": 3,
    "epochs": 1,
    "confirm_seeds": 2,
    "ablation": False,
    "set": ("model.layers=1", "model.text_tokens=1", "train.members=2"),
}


@pytest.fixture(scope="session")
def _finished(tmp_path_factory, shared_ray):
    path = tmp_path_factory.mktemp("finished")
    run_phase(RunOptions(**SMALL, results=str(path)), Console(file=io.StringIO(), width=200))
    return path


@pytest.fixture
def finished(_finished, tmp_path, monkeypatch):
    """RESULTS with a run of three trials in it, phase1, whose two trainings an arm are too few for any gate.

    Looks are counted for this test alone.
    """
    monkeypatch.setenv("FUSION_SEARCH_STATE", str(tmp_path / "state"))
    return shutil.copytree(_finished, tmp_path / "results")
