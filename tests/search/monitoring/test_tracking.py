"""MLflow and Weights & Biases, offline: what is written there, and that neither can cost a run anything."""

import contextlib
import dataclasses
import io
import json
import socket
import time
from contextlib import closing
from types import SimpleNamespace

import pytest
from report_folders import decided, record
from rich.console import Console

from search.monitoring.tracking import observer, tracking_for
from search.options import RunOptions
from search.pipeline import trainer
from search.pipeline.trainer import Trainer
from search.run_store.folder import RunFolder
from search.run_store.job import Job


def job(trial):
    return Job(trial_id=trial.trial_id, name=trial.name, recipe=trial.recipe, seed=0)


def drive(folder, name, console, *, end=True):
    """Three trainings as a run tells of them: two epochs bundled, one alone; finished, stopped and failed."""
    tracking = tracking_for(RunOptions(phase="phase3", track=name), folder, console)
    for trial in (record(1), record(2, state="stopped"), record(3, state="failed", reason="ValueError: shape")):
        before = [{"epochs": 1, "numbers": {"ndcg_gain": 0.01}}, {"epochs": 2, "numbers": {"ndcg_gain": 0.02}}]
        tracking.on_epoch(None, job(trial), {"epochs": 3, "numbers/ndcg_gain": 0.03, "before": before})
        tracking.on_end(None, trial, {})
    if end:
        tracking.end()
    return tracking


@pytest.fixture
def folder(tmp_path):
    return decided(tmp_path / "phase3")


@pytest.fixture
def said():
    return Console(file=io.StringIO(), width=300)


def test_mlflow_has_a_parent_and_a_child_a_training(folder, said, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(observer, "PATIENCE", 300.0)
    drive(folder, "mlflow", said)
    assert said.file.getvalue() == ""
    client = MlflowClient(tracking_uri=uri)
    (experiment,) = [e for e in client.search_experiments() if e.name == "fusion-search"]
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    children = {r.data.tags["mlflow.runName"]: r for r in runs if r is not parent}
    assert set(children) == {"t0001", "t0002", "t0003"}
    assert {r.data.tags["mlflow.parentRunId"] for r in children.values()} == {parent.info.run_id}
    states = {name: r.info.status for name, r in children.items()}
    assert states == {"t0001": "FINISHED", "t0002": "KILLED", "t0003": "FAILED"}
    one = children["t0001"]
    assert one.data.params["loss.unimodal"] == "0.3"
    assert one.data.metrics["attention_balance"] == 0.9
    curve = client.get_metric_history(one.info.run_id, "ndcg_gain")
    assert [(m.step, m.value) for m in curve][:3] == [(1, 0.01), (2, 0.02), (3, 0.03)]
    assert children["t0003"].data.tags["mlflow.note.content"] == "ValueError: shape"
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["verdict"] == "PAUSE_AND_FIX"
    assert parent.data.metrics["gate/ndcg_gain"] == 0.04
    files = {f.path for f in client.list_artifacts(parent.info.run_id)}
    assert {"pareto.csv", "decision.json", "confirmed.csv"} <= files
    drive(folder, "mlflow", said)  # as after --resume: the same parent
    runs = client.search_runs([experiment.experiment_id])
    assert len([r for r in runs if "mlflow.parentRunId" not in r.data.tags]) == 1


def test_wandb_writes_offline_runs_of_one_group(folder, said, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr(observer, "PATIENCE", 300.0)
    drive(folder, "wandb", said)
    assert said.file.getvalue() == ""
    runs = sorted((folder.path / "wandb").glob("offline-run-*"))
    assert len(runs) == 4
    of_parent = (b"gate/trainings", b"PAUSE_AND_FIX", b"pareto.csv", b"confirmed.csv")
    of_failed = (b"loss.unimodal", b"state_reason", b"ValueError: shape")
    until = time.monotonic() + 120.0
    while True:  # its own process writes the last of it after it has answered
        written = {run: b"".join(p.read_bytes() for p in run.glob("*.wandb")) for run in runs}
        everything = b"".join(written.values())
        if all(there in everything for there in of_parent + of_failed) or time.monotonic() > until:
            break
        time.sleep(0.1)
    group = json.loads((folder.path / "tracking.json").read_text())["wandb"]
    (parent,) = [text for run, text in written.items() if run.name.endswith(group)]
    assert all(group.encode() in text for text in written.values())
    for there in of_parent:
        assert there in parent
    (failed,) = [text for text in written.values() if b"t0003" in text and text != parent]
    for there in of_failed:
        assert there in failed


@pytest.mark.parametrize("answers", ["nothing listens", "never"])
def test_a_server_that_is_down_or_hangs_costs_a_line(folder, said, monkeypatch, answers):
    monkeypatch.setattr(observer, "PATIENCE", 2.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        if answers == "never":
            server.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        began = time.monotonic()
        drive(folder, "mlflow", said)
        took = time.monotonic() - began
    assert took < 30
    (line,) = said.file.getvalue().splitlines()
    assert line.startswith("mlflow is not written any more, and the run goes on without it: ")


def test_a_tracker_that_dies_midway_is_asked_nothing_more(folder, said):
    class Dying:
        asked = 0

        def begin(self, name, description, known):
            return "1"

        def trial(self, record, curve):
            self.asked += 1
            raise ConnectionResetError("gone")

        def end(self, decision, files):
            self.asked += 1

    tracker = Dying()
    tracking = observer.Tracking(folder, said, "mlflow", lambda: tracker)
    for trial in (record(1), record(2)):
        tracking.on_end(None, trial, {})
    tracking.end()
    assert tracker.asked == 1
    assert said.file.getvalue().count("ConnectionResetError: gone") == 1


class Noting:
    """A tracker that notes what it is told; slow, as a server is."""

    def __init__(self):
        self.told = []

    def begin(self, name, description, known):
        self.told.append(f"begin {known}")
        return known or "parent"

    def trial(self, record, curve):
        time.sleep(0.05)
        self.told.append(record.trial_id)

    def end(self, decision, files):
        self.told.append("end")

    def stop(self):
        self.told.append("stop")


def test_an_interrupted_run_hands_over_what_has_ended_and_a_resumed_one_what_is_missing(folder, said):
    tracker = Noting()
    tracking = observer.Tracking(folder, said, "mlflow", lambda: tracker)
    for trial in (record(1), record(2)):
        tracking.on_end(None, trial, {})
    tracking.stop()
    assert tracker.told == ["begin None", "t0001", "t0002", "stop"]
    tracking.stop()  # from an outer session
    assert tracker.told[-1:] == ["stop"]
    again = Noting()
    tracking = observer.Tracking(folder, said, "mlflow", lambda: again)
    taken = dataclasses.replace(record(5), taken_over="phase1")
    known = [record(1), record(2), record(3), record(4, state="running"), taken]
    tracking.take(known)
    tracking.take(known)  # before each stage
    tracking.on_end(None, record(6), {})
    tracking.end()
    assert again.told == ["begin parent", "t0003", "t0006", "end"]
    assert said.file.getvalue() == ""


def test_nothing_is_sent_twice_to_a_parent_whose_children_were_not_noted(folder, said):
    (folder.path / "tracking.json").write_text('{"mlflow": "of before"}')
    for trial in ("t0001", "t0002"):
        tracker = Noting()
        tracking = observer.Tracking(folder, said, "mlflow", lambda tracker=tracker: tracker)
        tracking.take([record(1), record(2)])
        tracking.on_end(None, dataclasses.replace(record(1), trial_id=trial), {})
        tracking.end()
        assert tracker.told == ["begin of before", trial, "end"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_session_that_ends_by_an_error_stops_its_tracking(folder, said, monkeypatch, error):
    monkeypatch.setattr(trainer, "TuneSession", lambda *given, **more: contextlib.nullcontext())
    monkeypatch.setattr(trainer, "ticket_for", lambda data: None)
    monkeypatch.setattr(trainer, "epoch_limit", lambda *given: None)
    monkeypatch.setattr(Trainer, "_size_stacks", lambda *given: None)
    monkeypatch.setattr(Trainer, "training_seconds", 1.0)
    asked, options = [], RunOptions(phase="phase3")
    own = Trainer(SimpleNamespace(folder=folder), None, None, options, said)
    own.tracking = SimpleNamespace(stop=lambda: asked.append("stop"))
    with pytest.raises(error), own.tuning():
        raise error
    assert asked == ["stop"]
    with own.tuning():
        pass
    assert asked == ["stop"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_run_that_ends_by_an_error_after_its_trainings_leaves_no_parent_that_seems_to_go_on(folder, said, error):
    tracker = Noting()
    tracking = observer.Tracking(folder, said, "mlflow", lambda: tracker)
    tracking.on_end(None, record(1), {})
    with pytest.raises(error), tracking.stopped_by_errors():
        raise error
    assert tracker.told == ["begin None", "t0001", "stop"]


def test_nothing_is_tracked_unless_it_is_asked_for(folder, said):
    tracking = tracking_for(RunOptions(phase="phase3"), folder, said)
    tracking.on_epoch(None, job(record(1)), {"epochs": 1})
    tracking.on_end(None, record(1), {})
    tracking.end()
    assert not (folder.path / "tracking.json").exists()


def test_a_tracker_that_is_not_installed_is_named_before_anything_runs(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"--track wandb needs its extra: pip install 'fusion-search\[wandb\]'"):
        RunOptions(phase="phase3", track="wandb")


def test_a_run_folder_without_a_decision_has_no_gates(tmp_path, said):
    class Kept:
        def begin(self, name, description, known):
            return name

        def trial(self, record, curve):
            self.curve = curve

        def end(self, decision, files):
            self.said = decision, files

    folder, kept = RunFolder(tmp_path), Kept()
    folder.write({"phase": "phase1"})
    tracking = observer.Tracking(folder, said, "wandb", lambda: kept)
    tracking.on_end(None, record(1), {})
    tracking.end()
    assert kept.said == ({}, [])
    assert kept.curve == []
