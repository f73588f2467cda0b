"""A finished run's finalist gets more trainings and a further, counted look; the verdict of before is kept."""

import json

import pandas as pd
import pytest

from search.options import RunOptions
from search.pipeline.phase import run_phase
from search.run_store.folder import RunFolder, RunFolderError


def trainings(folder, stage):
    table = pd.read_csv(folder / "trials.csv")
    return table[table["stage"] == stage].set_index("trial_id")


def test_settling_keeps_what_was_trained_and_numbers_the_verdict(finished, console, monkeypatch, tmp_path):
    from mlflow import MlflowClient

    uri = (tmp_path / "mlruns").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a new database takes 20 s to make
    folder = finished / "phase1"
    first, finalist = json.loads((folder / "decision.json").read_text()), (folder / "finalist.json").read_text()
    before, searched = trainings(folder, "deciding"), trainings(folder, "search")

    asked = RunOptions(phase="phase1", results=f"local://{finished}", settle=True, max_seeds=5, track="mlflow")
    run_phase(asked, console)  # on a URI, so that what is read below is what was mirrored
    second, after = json.loads((folder / "decision.json").read_text()), trainings(folder, "deciding")
    assert json.loads((folder / "verdicts" / "1" / "decision.json").read_text()) == first
    assert second["look"]["number"] == first["look"]["number"] + 1
    assert (folder / "finalist.json").read_text() == finalist
    assert second["finalist"] == first["finalist"]
    assert set(before.index) < set(after.index)
    pd.testing.assert_frame_equal(after.loc[before.index], before)
    pd.testing.assert_frame_equal(trainings(folder, "search"), searched)
    assert next(g for g in first["gates"] if g["key"] == "trainings")["status"] == "fail"
    assert next(g for g in second["gates"] if g["key"] == "trainings")["status"] == "pass"
    (further,) = json.loads((folder / "run.json").read_text())["verdicts"]
    assert (further["number"], further["by"]) == (2, "--settle")
    assert "Verdict 2 of this run, by --settle; earlier: verdicts/1." in (folder / "report.html").read_text()
    assert "verdict 2" in console.file.getvalue()
    client = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("fusion-search").experiment_id])
    children = {run.data.tags["mlflow.runName"] for run in runs if "mlflow.parentRunId" in run.data.tags}
    assert {t for t in children if not t.startswith("confirm-")} == set(after.index) - set(before.index)
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert parent.data.tags["verdict"] == second["verdict"]


def test_only_a_finished_run_of_one_phase_is_settled(tmp_path, console):
    with pytest.raises(RunFolderError, match="no finished run"):
        run_phase(RunOptions(phase="phase1", results=str(tmp_path), settle=True), console)
    with pytest.raises(ValueError, match="--settle"):
        RunOptions(phase="roadmap", settle=True)
    with pytest.raises(ValueError, match="--fresh"):
        RunOptions(phase="phase1", settle=True, fresh=True)


def test_a_verdict_that_was_begun_another_way_is_ended_first(finished, console):
    folder = RunFolder(finished / "phase1")
    folder.write((folder.read() or {}) | {"further": {"number": 2, "by": "--extend", "start": "now"}})
    with pytest.raises(RunFolderError, match="has begun verdict 2 by --extend: end that one first"):
        run_phase(RunOptions(phase="phase1", results=str(finished), settle=True), console)


def test_a_settling_that_cannot_open_its_data_begins_no_verdict(finished, console):
    folder = RunFolder(finished / "phase1")
    folder.write((folder.read() or {}) | {"fingerprint": "of other data"})
    with pytest.raises(ValueError, match="holds other data than when"):
        run_phase(RunOptions(phase="phase1", results=str(finished), settle=True), console)
    assert "further" not in (folder.read() or {})  # else --extend would ask to end it first
    assert not folder.verdicts.exists()
