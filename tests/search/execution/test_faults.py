"""Trainings that raise, diverge or are killed: each is recorded with its reason, and the run goes on to its end."""

import dataclasses
import os
import signal
import threading

import pandas as pd
import psutil
import pytest
from blocking_pipe import block_one_reader
from optuna.trial import TrialState
from run_context import run_in

from fusion_models.training import load, start, train
from search.execution.ddp.worker_groups import WORKER_DEATHS
from search.execution.file_transfer import DataTicket
from search.execution.job_training import JobTraining
from search.execution.tuning import TuneSession
from search.options import RunOptions
from search.pipeline.phase import run_phase
from search.run_store.artifacts import RECIPE, WEIGHTS
from search.run_store.folder import RunFolder
from search.run_store.job import Job, NoRoomError
from search.run_store.journal import open_journal
from search.study.search_stage import SearchStage
from search.study.stages import FixedStage
from spaces import PHASES
from spaces.ranges import Choice

SMALL = "planted?queries=160&candidates=8"
BASE = PHASES["phase3"].base.updated({"model.layers": 1, "train.epochs": 4, "train.patience": 4})
RISKY = dataclasses.replace(
    PHASES["phase3"],
    base=BASE,
    known={},
    ranges={
        "train.learning_rate": Choice(values=(BASE.train.learning_rate, 1e30)),
        "loss.contrastive": Choice(values=(0.0, 0.1)),
        "model.modalities": Choice(values=("visual+text+metadata", "text+metadata")),
    },
)
"""A space with points that diverge (a rate of 1e30) and points that cannot be built (contrastive without images)."""


def job(name, **changes):
    return Job(trial_id=name, name=name, recipe=BASE.updated(changes).flat(), seed=3)


class Killer:
    """An observer that kills the process of some jobs, -9, as soon as an epoch of theirs has been reported."""

    def __init__(self, deaths):
        self.left = dict(deaths)
        """Trial id -> how often its process is still to be killed."""
        self.epochs = {}
        """Trial id -> epochs done, report by report, the last of them at its end."""

    def on_epoch(self, stage, job, result):
        self.epochs.setdefault(job.trial_id, []).append(result["epochs"])
        if self.left.get(job.trial_id, 0) > 0:
            self.left[job.trial_id] -= 1
            ours = {child.pid for child in psutil.Process().children(recursive=True)}
            assert result["pid"] in ours
            os.kill(result["pid"], signal.SIGKILL)

    def on_end(self, stage, record, result):
        self.epochs[record.trial_id].append(record.epochs)


def options(tmp_path, **changes):
    return RunOptions(phase="phase3", data=SMALL, max_concurrent=2, results=str(tmp_path), **changes)


def session(path, source, checkpoints=None, **more):
    """A tune session in `path`; checkpoints lie there too, or elsewhere."""
    folders = {"checkpoints": checkpoints or path / "checkpoints", "tune_folder": path / "tune"}
    return TuneSession(options(path), DataTicket(source=source), **folders, **more)


@pytest.fixture(scope="module")
def killed(tmp_path_factory, small_data, shared_ray):
    """Trainings of which one is killed once, one as often as it is tried, and the others are left in peace."""
    path = tmp_path_factory.mktemp("killed")
    jobs = [job("once"), job("always"), job("peace"), job("last")]
    killer = Killer({"once": 1, "always": 1 + WORKER_DEATHS})
    stage = FixedStage(open_journal(path / "study.journal"), "baselines", jobs)
    session(path, small_data.source, report_seconds=0.0).train([stage], [killer])
    return path, stage, killer


def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_numbers(killed, small_data):
    _, stage, killer = killed
    record = next(r for r in stage.records() if r.trial_id == "once")
    assert record.state == "finished"
    assert killer.epochs["once"] == [1, 2, 3, 4]  # none trained twice, none left out
    state = start(BASE, small_data, seed=3)
    for _ in train(state, small_data):
        pass
    assert record.numbers["ndcg"] == pytest.approx(state.best_ndcg, abs=1e-12)
    assert record.numbers["best_epoch"] == state.best_epoch


def test_a_training_killed_as_often_as_it_is_tried_fails_with_the_reason(killed):
    path, stage, killer = killed
    record = next(r for r in stage.records() if r.trial_id == "always")
    assert record.state == "failed"
    assert "its process died" in record.state_reason
    assert killer.epochs["always"] == [1, 2, 3, 3]  # each try went on from the last one's checkpoint
    assert killer.left == {"once": 0, "always": 0}
    assert not (path / "checkpoints" / "always" / WEIGHTS).exists()


def test_the_others_finish_beside_killed_ones_and_leave_only_what_is_promised(killed):
    path, stage, killer = killed
    assert [r.state for r in stage.records()] == ["finished", "failed", "finished", "finished"]
    assert killer.epochs["peace"] == killer.epochs["last"] == [1, 2, 3, 4]
    for name in ("once", "peace", "last"):
        assert (path / "checkpoints" / name / RECIPE).is_file()
        assert [p.name for p in (path / "checkpoints" / name).iterdir() if "training" in p.name] == []


@pytest.fixture(scope="module")
def risky(tmp_path_factory, small_data, shared_ray):
    """A search over a space half of whose points fail, told as a run tells it."""
    path = tmp_path_factory.mktemp("risky")
    folder = RunFolder(path / "phase3")
    folder.prepare(resume=False, fresh=False)
    run = run_in(folder, options(path), RISKY, small_data)
    stage = SearchStage(run.store.journal, RISKY, sampler="random", trials=10, seed=1)
    with run.trainer.tuning(keep=False):
        run.trainer.train([stage])
    return run, stage


def test_every_trial_of_a_risky_space_ends_and_the_run_with_it(risky):
    run, stage = risky
    assert sum("repeats" not in t.user_attrs for t in stage.study.trials) == 10  # what had failed is not run again
    states = [r.state for r in stage.records()]
    assert "running" not in states
    assert states.count("finished") >= 1
    assert states.count("failed") >= 2
    assert (run.folder.path / "pareto.csv").is_file()


def test_what_failed_says_why_and_is_told_as_failed(risky):
    _, stage = risky
    reasons = []
    for record, trial in zip(stage.records(), stage.study.trials, strict=True):
        assert (trial.state == TrialState.FAIL) == (record.state == "failed")
        if record.recipe["loss.contrastive"] > 0 and "visual" not in record.recipe["model.modalities"]:
            assert "ValueError: loss.contrastive needs visual and text" in record.state_reason
            reasons.append("not built")
        elif record.recipe["train.learning_rate"] > 1:
            assert "DivergedError: the loss is not finite at epoch 1, step" in record.state_reason
            assert "a lower train.learning_rate" in record.state_reason
            reasons.append("diverged")
        else:
            assert record.state in ("finished", "stopped")
    assert set(reasons) == {"not built", "diverged"}


def test_data_that_a_worker_cannot_open_is_the_reason_of_its_trial(tmp_path, shared_ray):
    stage = FixedStage(open_journal(tmp_path / "study.journal"), "baselines", [job("lost")])
    session(tmp_path, str(tmp_path / "gone")).train([stage], [])
    (record,) = stage.records()
    assert record.state == "failed"
    assert str(tmp_path / "gone") in record.state_reason


def test_failures_reach_the_tables_and_the_progress(risky):
    run, stage = risky
    table = pd.read_parquet(run.folder.path / "trials.parquet").set_index("trial_id")
    for record in stage.records():
        assert table.loc[record.trial_id, "state"] == record.state
        assert table.loc[record.trial_id, "state_reason"] == record.state_reason
    front = pd.read_csv(run.folder.path / "pareto.csv")
    assert set(table.loc[front["trial_id"], "state"]) == {"finished"}
    assert "failed, DivergedError" in run.console.file.getvalue()


def test_a_run_whose_every_reference_fails_ends_in_one_line_with_the_reason(tmp_path, shared_ray, console):
    asked = RunOptions(
        phase="phase1",
        data=SMALL,
        trials=1,
        epochs=1,
        set=("train.learning_rate=1e30", "model.layers=1"),
        results=str(tmp_path),
        confirm_seeds=0,
    )
    with pytest.raises(ValueError, match=r"no reference ranker could be trained.*DivergedError.*trials\.csv"):
        run_phase(asked, console)


def test_a_training_that_hangs_is_killed_and_goes_on(tmp_path, small_data, shared_ray):
    folder = tmp_path / "checkpoints" / "hung" / "training"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "progress.json")  # whoever reads this checkpoint waits for a writer that never comes
    pipe = threading.Thread(target=block_one_reader, args=(folder / "progress.json",), daemon=True)
    pipe.start()
    stage = FixedStage(open_journal(tmp_path / "study.journal"), "baselines", [job("hung")])
    session(tmp_path, small_data.source, epoch_limit=20.0).train([stage], [])
    pipe.join(60)
    assert not pipe.is_alive()  # there was a reader, and it has gone
    (record,) = stage.records()
    assert (record.state, record.epochs) == ("finished", 4)


def test_a_full_disk_stops_the_stage_in_one_line_and_it_goes_on_later(full_disk, tmp_path, small_data, shared_ray):
    full_disk.fill()
    jobs = [job("full"), job("too")]
    stage = FixedStage(open_journal(tmp_path / "study.journal"), "baselines", jobs)
    with pytest.raises(NoRoomError, match=r"could not be kept \(.*No space left on device.*free some room"):
        session(tmp_path, small_data.source, checkpoints=full_disk.path).train([stage], [])
    assert {record.state for record in stage.records()} == {"running"}
    full_disk.empty()
    stage = FixedStage(open_journal(tmp_path / "study.journal"), "baselines", jobs)
    session(tmp_path, small_data.source, checkpoints=full_disk.path).train([stage], [])
    assert [(record.state, record.epochs) for record in stage.records()] == [("finished", 4)] * 2


def test_a_training_outlives_a_disk_that_is_full_for_a_while(full_disk, small_data):
    config = {"job": job("while").plain(), "data": DataTicket(source=small_data.source), "gpus": 0.0}
    training = JobTraining(config | {"checkpoints": str(full_disk.path)})
    training.step()
    full_disk.fill()
    training.step()
    recipe = job("while").to_recipe()
    assert load(full_disk.path / "while" / "training", recipe, small_data, seed=3).epoch == 1
    full_disk.empty()
    results = [training.step(), training.step()]
    assert results[-1]["outcome"] == "finished"
    assert "no checkpoint after epoch 2: " in results[-1]["reason"]
    assert "No space left on device" in results[-1]["reason"]
