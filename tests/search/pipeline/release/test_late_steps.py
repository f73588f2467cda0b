"""Phase 4 ends in a decision where a late step of it fails."""

import contextlib
import json
from types import SimpleNamespace

import pytest
from run_context import run_in

from search.options import RunOptions
from search.pipeline.confirmation.finalist import Finalist
from search.pipeline.release import production
from search.pipeline.release.from_phase3 import Chosen
from search.pipeline.release.runtime_variants import TimingSize
from search.run_store.folder import RunFolder
from spaces import PHASE4


def failing(*_, **__):
    raise ZeroDivisionError("here")


LATE = {"_ablation": "the ablation failed", "rollout_plan": "the plan of the rollout failed"}


@pytest.fixture
def run(tmp_path, small_data, monkeypatch):
    """Of which everything but the late steps is left out."""
    run = run_in(RunFolder(tmp_path), RunOptions(phase="phase4"), PHASE4, small_data)
    monkeypatch.setattr(run.trainer, "train", lambda stages: None)
    monkeypatch.setattr(run.trainer, "tuning", contextlib.nullcontext)
    for name, instead in {
        "adopt": lambda *_: None,
        "ray_session": lambda *_: contextlib.nullcontext(),
        "read_judged": lambda _: None,
        "check_integrity": lambda *_: [],
        "_ablation": lambda *_: (None, None),
        "_missing_ablations": lambda _: [],
        "measure_variants": lambda *_: SimpleNamespace(released=None, fastest=None),
    }.items():
        monkeypatch.setattr(production, name, instead)
    monkeypatch.setattr(production, "_write", lambda run, decision, checks, variants, plan, looks: None)
    return run


@pytest.mark.parametrize("broken", LATE)
def test_a_late_step_that_fails_costs_itself(broken, run, tmp_path, monkeypatch):
    monkeypatch.setattr(production, broken, failing)
    (run.folder.path / "rollout.json").write_text("{}")
    finalist = Finalist(trial_id="t0001", recipe=PHASE4.base.flat(), seeds=(0, 1))
    chosen = Chosen(folder=RunFolder(tmp_path / "phase3"), finalist=finalist, verdict="GO")
    decision = production._validate(run, chosen, TimingSize(), contextlib.ExitStack())
    assert decision.verdict == "PAUSE_AND_FIX"
    assert f"{LATE[broken]} (ZeroDivisionError: here)" in run.console.file.getvalue()
    assert (run.folder.path / "rollout.json").exists() == (broken != "rollout_plan")
    assert json.dumps(decision.as_json())
