"""A search whose trials train in stacks: its journal is that of one that trains them one by one, but for rounding."""

import contextlib
import dataclasses
import os
import signal
import threading

import psutil
import pytest
import ray
from blocking_pipe import block_one_reader

from fusion_models.training import start, train
from search.execution.file_transfer import DataTicket
from search.execution.stacks.host_pool import HostPool
from search.execution.tuning import TuneSession
from search.options import RunOptions
from search.run_store.artifacts import RECIPE, WEIGHTS
from search.run_store.job import Job
from search.run_store.journal import open_journal
from search.study.search_stage import SearchStage
from search.study.stages import FixedStage
from spaces import PHASES
from spaces.ranges import Choice, Float

SMALL = "planted?queries=160&candidates=8"
BASE = PHASES["phase3"].base.updated(
    {
        "model.layers": 1,
        "model.width": 16,
        "model.dropout": 0.0,
        "train.epochs": 4,
        "train.patience": 4,
        "model.variant": "concat_mlp",
        "loss.unimodal": 0.2,
    }
)
PHASE = dataclasses.replace(
    PHASES["phase3"],
    base=BASE,
    known={},
    ranges={
        "train.learning_rate": Float(low=1e-3, high=4e-3, log=True),
        "loss.unimodal": Float(low=0.1, high=0.4),
        "model.variant": Choice(values=("concat_mlp", "gated_unit")),
    },
)


def options(tmp_path, stack, **changes):
    return RunOptions(phase="phase3", data=SMALL, max_concurrent=4, results=str(tmp_path), stack=stack, **changes)


def trained(tmp_path, stages, asked, small_data, observers=(), **more):
    folders = {"checkpoints": tmp_path / "checkpoints", "tune_folder": tmp_path / "tune"}
    session = TuneSession(asked, DataTicket(source=small_data.source), **folders, report_seconds=0.0, **more)
    session.train(stages, list(observers))


class Reports:
    """What each trial reported, in order."""

    def __init__(self):
        self.of = {}
        self.stacked = []

    def on_epoch(self, stage, job, result):
        assert result["config/job/trial_id"] == job.trial_id
        self.stacked.append(result.get("stacked", 1))
        self.of.setdefault(job.trial_id, []).append((result["epochs"], result["parts/total"]))

    def on_end(self, stage, record, result):
        pass


def searched(tmp_path, stack, small_data, scheduler="none", trials=6):
    tmp_path.mkdir()
    stage, reports = (
        SearchStage(open_journal(tmp_path / "j"), PHASE, sampler="random", trials=trials, seed=1),
        Reports(),
    )
    trained(tmp_path, [stage], options(tmp_path, stack, scheduler=scheduler), small_data, [reports])
    assert (max(reports.stacked) > 1) == (stack != "1")
    return stage, reports.of


def test_a_stacked_searchs_journal_is_that_of_one_by_one_but_for_rounding(tmp_path, small_data, shared_ray):
    one, alone = searched(tmp_path / "one", "1", small_data)
    four, together = searched(tmp_path / "four", "4", small_data)
    first, second = ({r.trial_id: r for r in stage.records()} for stage in (one, four))
    assert first.keys() == second.keys()
    assert len(first) == 6
    for trial_id, record in first.items():
        other = second[trial_id]
        assert (other.state, other.recipe, other.seed, other.epochs) == ("finished", record.recipe, record.seed, 4)
        assert other.numbers.keys() == record.numbers.keys()
        assert other.numbers["ndcg"] == pytest.approx(record.numbers["ndcg"], abs=5e-3)
        assert [e for e, _ in together[trial_id]] == [e for e, _ in alone[trial_id]]
        for (_, mine), (_, theirs) in zip(together[trial_id], alone[trial_id], strict=True):
            assert mine == pytest.approx(theirs, abs=1e-4)
        assert (tmp_path / "four" / "checkpoints" / trial_id / WEIGHTS).is_file()
        assert not (tmp_path / "four" / "checkpoints" / trial_id / "training").exists()
    assert [s.keys() for s in (together, alone)] == [first.keys()] * 2


def test_rungs_stop_stacked_trials_one_by_one(tmp_path, small_data, shared_ray):
    stage, _ = searched(tmp_path / "rungs", "4", small_data, scheduler="moasha", trials=10)
    records = stage.records()
    stopped = [record for record in records if record.state == "stopped"]
    assert stopped
    assert len(stopped) < len(records)
    assert all(r.state_reason.startswith(f"stopped early at the rung of {r.epochs} epochs") for r in stopped)
    assert all(r.state == "finished" for r in records if r not in stopped)
    assert {(r.trial_id, 1) for r in records} <= {(e.trial_id, e.level) for e in stage.rung_entries()}


def job(name, seed=0, **changes):
    return Job(trial_id=name, name=name, recipe=BASE.updated(changes).flat(), seed=seed)


def test_a_trial_that_diverges_or_cannot_be_built_leaves_the_others_alone(tmp_path, small_data, shared_ray):
    unbuildable = BASE.updated({"loss.contrastive": 0.1}).flat() | {"model.modalities": "text+metadata"}
    jobs = [
        job("wild", **{"train.learning_rate": 1e30}),
        job("quiet", seed=1),
        Job(trial_id="unbuilt", name="unbuilt", recipe=unbuildable, seed=0),
        job("calm", seed=2, **{"train.learning_rate": 2e-3}),
    ]
    stage = FixedStage(open_journal(tmp_path / "j"), "baselines", jobs)
    trained(tmp_path, [stage], options(tmp_path, "4"), small_data)
    found = {record.trial_id: record for record in stage.records()}
    assert {name: record.state for name, record in found.items()} == {
        "wild": "failed", "quiet": "finished", "unbuilt": "failed", "calm": "finished"
    }  # fmt: skip
    assert "DivergedError: the loss is not finite at epoch 1, step" in found["wild"].state_reason
    assert "needs visual and text" in found["unbuilt"].state_reason
    for name, seed, rate in (("quiet", 1, BASE.train.learning_rate), ("calm", 2, 2e-3)):
        state = start(BASE.updated({"train.learning_rate": rate}), small_data, seed=seed)
        list(train(state, small_data))
        assert found[name].numbers["ndcg"] == pytest.approx(state.best_ndcg, abs=5e-3)


class HostKiller(Reports):
    """Kills the host, -9, once two trials of it have reported their second epoch."""

    def __init__(self):
        super().__init__()
        self.killed = 0

    def is_host(self, process):
        """Whether a process is a host of this test's, not of one that runs beside it."""
        with contextlib.suppress(psutil.Error):  # it has ended since
            mine = any(parent.pid == os.getpid() for parent in process.parents())
            return mine and "StackHost" in " ".join(process.info["cmdline"] or [])
        return False

    def on_epoch(self, stage, job, result):
        super().on_epoch(stage, job, result)
        at_two = [trial for trial, reports in self.of.items() if reports[-1][0] >= 2]
        if len(at_two) == 2 and not self.killed:
            (self.killed,) = [p.pid for p in psutil.process_iter(["cmdline"]) if self.is_host(p)]
            os.kill(self.killed, signal.SIGKILL)


def test_a_dead_hosts_trials_go_on_from_their_checkpoints_to_the_same_losses(tmp_path, small_data, shared_ray):
    jobs, killer = [job(f"t{seed}", seed=seed) for seed in range(3)], HostKiller()
    stage = FixedStage(open_journal(tmp_path / "j"), "baselines", jobs)
    trained(tmp_path, [stage], options(tmp_path, "4"), small_data, [killer])
    assert killer.killed
    for seed, record in enumerate(stage.records()):
        assert (record.state, record.epochs) == ("finished", 4)
        alone = list(train(start(BASE, small_data, seed=seed), small_data))
        for epoch, total in killer.of[record.trial_id]:
            assert total == pytest.approx(alone[epoch - 1].parts["total"], abs=1e-4)
        epochs = [epoch for epoch, _ in killer.of[record.trial_id]]
        assert len(epochs) <= 5  # at most the epoch that was under way is trained twice, and none before it
        assert (tmp_path / "checkpoints" / record.trial_id / RECIPE).is_file()


def test_a_host_that_hangs_is_killed_and_its_trials_go_on(tmp_path, small_data, shared_ray):
    folder = tmp_path / "checkpoints" / "hung" / "training"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "progress.json")  # whoever reads this checkpoint waits for a writer that never comes
    pipe = threading.Thread(target=block_one_reader, args=(folder / "progress.json",), daemon=True)
    pipe.start()
    stage = FixedStage(open_journal(tmp_path / "j"), "baselines", [job("hung"), job("beside", seed=1)])
    trained(tmp_path, [stage], options(tmp_path, "4"), small_data, epoch_limit=20.0)
    pipe.join(60)
    assert not pipe.is_alive()  # there was a reader, and it has gone
    assert [(r.state, r.epochs) for r in stage.records()] == [("finished", 4)] * 2


def test_a_trial_that_brings_down_every_host_fails_alone(tmp_path, small_data, shared_ray):
    folder = tmp_path / "checkpoints" / "killer" / "training"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "progress.json")  # whoever reads this checkpoint hangs, and so does the host
    jobs = [job("killer"), *(job(f"t{seed}", seed=seed) for seed in range(3))]
    stage = FixedStage(open_journal(tmp_path / "j"), "baselines", jobs)
    trained(tmp_path, [stage], options(tmp_path, "4"), small_data, epoch_limit=12.0)
    found = {record.trial_id: record for record in stage.records()}
    assert {name: record.state for name, record in found.items()} == {
        "killer": "failed", "t0": "finished", "t1": "finished", "t2": "finished"
    }  # fmt: skip
    assert "its process died" in found["killer"].state_reason


@pytest.mark.parametrize("stack", ["1", "4"])
def test_a_trial_that_loses_the_gpu_ends_its_process_and_fails_alone(stack, tmp_path, small_data, shared_ray):
    unknown = BASE.flat() | {"model.variant": "CUDA error: device-side assert triggered"}  # which its error repeats
    jobs = [Job(trial_id="bad", name="bad", recipe=unknown, seed=0), job("t0"), job("t1", seed=1)]
    stage = FixedStage(open_journal(tmp_path / "j"), "baselines", jobs)
    trained(tmp_path, [stage], options(tmp_path, stack), small_data)
    found = {record.trial_id: record for record in stage.records()}
    assert {name: record.state for name, record in found.items()} == {
        "bad": "failed", "t0": "finished", "t1": "finished"
    }  # fmt: skip
    assert "its GPU answered it no more" in found["bad"].state_reason


def test_a_trial_goes_to_the_host_with_most_of_its_structure_and_room(shared_ray):
    pool = HostPool(stack=2, cpus=0, gpus=0.0, epoch_limit=60.0)
    try:
        assert pool.grow(4) == 4
        other = {"model.variant": "film"}
        placed = [pool.place(job(name, **changes))["host"] for name, changes in
                  (("a", {}), ("b", other), ("c", {"train.learning_rate": 1e-3}), ("d", other))]  # fmt: skip
        assert placed[0] == placed[2] != placed[1] == placed[3]
        pool.release("a")
        assert pool.place(job("e", **other))["host"] == placed[0]
        assert ray.get_actor(placed[0])
    finally:
        pool.close()
