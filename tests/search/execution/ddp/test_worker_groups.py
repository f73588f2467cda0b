"""Trials of two workers from a group that stays up: the numbers of one worker, whatever dies or hangs in between."""

import os
import signal

import psutil
import pytest

from fusion_models.training import start, train
from search.execution.capacity import concurrency
from search.execution.ddp.worker_groups import Shape, close_groups, group_pool
from search.execution.file_transfer import DataTicket
from search.execution.tuning import TuneSession
from search.options import RunOptions
from search.run_store.job import Job
from search.run_store.journal import open_journal
from search.study.stages import FixedStage
from spaces import PHASES

SMALL = "planted?queries=160&candidates=8"
BASE = PHASES["phase3"].base.updated({"model.layers": 1, "model.dropout": 0.0, "train.epochs": 4, "train.patience": 4})
EPOCH_LIMIT = 25.0
pytestmark = pytest.mark.timeout(1800)


def job(name, **changes):
    return Job(trial_id=name, name=name, recipe=BASE.updated(changes).flat(), seed=3)


def options(tmp_path, **changes):
    return RunOptions(phase="phase3", data=SMALL, results=str(tmp_path), workers_per_trial=2, **changes)


class Saboteur:
    """An observer that does something to the workers of some jobs after their first epoch."""

    def __init__(self, board):
        self.board = board
        self.left = {"killed": self.kill_a_worker, "hung": self.stop_a_worker, "abandoned": self.kill_the_client}
        self.epochs = {}
        self.groups = {}

    def on_epoch(self, stage, job, result):
        import ray

        self.epochs.setdefault(job.trial_id, []).append(result["epochs"])
        (pids,) = ray.get(self.board.pids.remote())
        self.groups.setdefault(job.trial_id, set()).add(tuple(pids.values()))
        act = self.left.pop(job.trial_id, None)
        if act is not None:
            act(pids, result)

    def kill_a_worker(self, pids, result):
        os.kill(pids[1], signal.SIGKILL)

    def stop_a_worker(self, pids, result):
        os.kill(pids[0], signal.SIGSTOP)

    def kill_the_client(self, pids, result):
        assert result["pid"] in {child.pid for child in psutil.Process().children(recursive=True)}
        os.kill(result["pid"], signal.SIGKILL)

    def on_end(self, stage, record, result):
        self.epochs.setdefault(record.trial_id, []).append(record.epochs)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, small_data, shared_ray):
    """Seven jobs through one group."""
    path = tmp_path_factory.mktemp("groups")
    jobs = [
        job("peace"),
        job("killed"),
        job("hung"),
        job("abandoned"),
        job("diverged", **{"train.learning_rate": 1e30}),
    ]
    jobs += [job("impossible", **{"loss.contrastive": 0.1, "model.modalities": "text+metadata"}), job("last")]
    stage = FixedStage(open_journal(path / "study.journal"), "baselines", jobs)
    saboteur = Saboteur(group_pool(Shape(workers=2, cpus=1, gpus=0.0), 1).board)
    try:
        folders = {"checkpoints": path / "checkpoints", "tune_folder": path / "tune"}
        session = TuneSession(options(path), DataTicket(source=small_data.source), **folders, epoch_limit=EPOCH_LIMIT)
        session.train([stage], [saboteur])
    finally:
        close_groups()
    return {record.trial_id: record for record in stage.records()}, saboteur


@pytest.fixture(scope="module")
def alone(small_data):
    """The same training in this process."""
    state = start(BASE, small_data, seed=3)
    for _ in train(state, small_data):
        pass
    return state


@pytest.mark.parametrize("name", ["peace", "killed", "hung", "abandoned", "last"])
def test_two_workers_give_the_numbers_of_one(trained, alone, name):
    record = trained[0][name]
    assert (record.state, record.state_reason) == ("finished", "")
    assert record.numbers["ndcg"] == pytest.approx(alone.best_ndcg, abs=1e-6)
    assert record.numbers["best_epoch"] == alone.best_epoch


@pytest.mark.parametrize("name", ["peace", "hung", "last"])
def test_every_epoch_is_reported_once(trained, name):
    assert trained[1].epochs[name] == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["killed", "abandoned"])
def test_after_a_death_no_epoch_is_reported_twice(trained, name):
    """One may be missing: its checkpoint was written, and its report died with the worker."""
    epochs = trained[1].epochs[name]
    assert epochs == sorted(set(epochs))
    assert (epochs[0], epochs[-1]) == (1, 4)
    assert len(epochs) >= 3


def test_a_group_serves_trial_after_trial_until_a_worker_is_lost(trained):
    groups = trained[1].groups
    assert len(groups["peace"]) == 1
    assert len(groups["killed"]) == len(groups["hung"]) == 2
    assert groups["abandoned"] == groups["last"] < groups["hung"]
    assert groups["peace"].isdisjoint(groups["last"])


def test_what_fails_by_itself_says_so_and_costs_no_worker(trained):
    records = trained[0]
    assert records["diverged"].state == records["impossible"].state == "failed"
    assert records["diverged"].state_reason.startswith("DivergedError: the loss")
    assert records["impossible"].state_reason.startswith("ValueError: loss.contrastive needs visual and text")


@pytest.mark.usefixtures("shared_ray")
def test_a_training_counts_all_its_workers(tmp_path):
    assert concurrency(options(tmp_path)) == 1
    assert concurrency(options(tmp_path, max_concurrent=9)) == 1
    with pytest.raises(ValueError, match="--workers-per-trial 2 asks for more workers than the 1"):
        concurrency(options(tmp_path, cpus_per_worker=2))
