"""Whole runs on planted data whose truth is known: the verdict must be the one that the truth demands.

Small sizes of two presets; all five, at full size and over seeds, are in `benchmarks/calibration.py`.
"""

import json

import pandas as pd
import pytest

from fusion_models.data import RankingDataset
from search.options import RunOptions
from search.pipeline.phase import run_phase

pytestmark = pytest.mark.timeout(1800)
"""Ray's processes are nice, so beside other lanes a run of a minute may take ten."""
QUICK = ("model.layers=1", "train.epochs=6", "model.text_tokens=1")


def decided(data, results, console, phase="phase1"):
    options = RunOptions(phase=phase, data=data, trials=3, results=str(results), set=QUICK, ablation=False)
    folder = run_phase(options, console)
    ids = pd.read_csv(folder.path / "trials.csv")["trial_id"]
    assert ids.is_unique  # deciding trainings are made in several stages of one name
    return json.loads((folder.path / "decision.json").read_text())


def gate(decision, name):
    return next(g for g in decision["gates"] if g["name"] == name)


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """For every time this process asks for the test split's queries: whether a finalist was on disk."""
    seen = []
    rows = RankingDataset.rows

    def watched(self, split):
        if split == "test":
            seen.append((tmp_path / "phase1" / "finalist.json").exists())
        return rows(self, split)

    monkeypatch.setattr(RankingDataset, "rows", watched)
    return seen


@pytest.mark.slow
def test_an_image_of_noise_is_archived_and_passes_no_visual_gate(tmp_path, shared_ray, console, opened):
    decision = decided(
        "planted:no-visual?queries=2600&candidates=12&validation_fraction=0.12&test_fraction=0.55", tmp_path, console
    )
    assert decision["verdict"] == "ARCHIVE"
    assert gate(decision, "visual_masking_drop")["status"] == "fail"
    assert decision["archive_rules"][0]["ci_high"] < 0.005
    assert opened
    assert all(opened)


@pytest.mark.slow
def test_three_easy_modalities_that_all_matter_are_go(tmp_path, shared_ray, console):
    decision = decided(
        "planted:healthy?queries=1200&candidates=12&validation_fraction=0.15&test_fraction=0.45", tmp_path, console
    )
    assert decision["verdict"] == "GO", decision["reasons"]
    assert not decision["fragile"]
    assert {g["status"] for g in decision["gates"]} <= {"pass", "not applicable"}
