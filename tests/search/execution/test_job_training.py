"""A job stepped epoch by epoch, or several short epochs at once: the same training."""

import pytest
import torch

import search.execution.job_training
from fusion_models.training import load, train
from search.execution.file_transfer import DataTicket
from search.execution.job_training import DeviceLostError, JobTraining
from search.run_store.job import Job
from spaces import PHASES

BASE = PHASES["phase1"].base.updated({"model.layers": 1, "train.epochs": 6, "train.patience": 6})
JOB = Job(trial_id="one", name="one", recipe=BASE.flat(), seed=3)
FOR_EVER = 1e9


@pytest.fixture
def training(small_data, tmp_path):
    """Opens the job in a folder of its own; again in the same one, as a process that takes over."""
    tickets = {"job": JOB.plain(), "data": DataTicket(source=small_data.source), "gpus": 0.0}
    return lambda name: JobTraining(tickets | {"checkpoints": str(tmp_path / name)})


def steps(training, **how):
    results = []
    while not results or not results[-1].get("done"):
        results.append(training.step(**how))
    return results


def told(results):
    """Epoch -> what was said of it, whether in a result or in `before`."""
    epochs = [epoch for result in results for epoch in [*result["before"], result]]
    return {epoch["epochs"]: (epoch["parts"], epoch["numbers"]) for epoch in epochs}


def test_short_epochs_come_in_one_result_and_lose_nothing(training):
    single, bundled = steps(training("single")), steps(training("bundled"), at_least=FOR_EVER)
    assert [r["epochs"] for r in single] == [1, 2, 3, 4, 5, 6]
    assert [r["epochs"] for r in bundled] == [6]
    assert told(bundled) == told(single)
    assert bundled[-1]["outcome"] == "finished"


def test_a_result_comes_at_every_pause(training):
    results = steps(training("paused"), at_least=FOR_EVER, pauses=(2, 3))
    assert [r["epochs"] for r in results] == [2, 3, 6]


def test_another_process_goes_on_from_the_last_checkpoint(training, small_data, tmp_path):
    lost = training("lost")
    lost.step()
    lost.step(at_least=FOR_EVER, pauses=(2, 4))  # too soon for another checkpoint
    assert load(tmp_path / "lost" / "one" / "training", BASE, small_data, seed=3).epoch == 1
    lost.step(at_least=0.001, pauses=(4,))
    reached = load(tmp_path / "lost" / "one" / "training", BASE, small_data, seed=3).epoch
    assert reached in (3, 4)
    after, whole = steps(training("lost"), at_least=FOR_EVER), steps(training("whole"), at_least=FOR_EVER)
    assert [r["epochs"] for r in after] == [6]
    assert after[-1]["numbers"] == whole[-1]["numbers"]
    assert told(after) == {epoch: said for epoch, said in told(whole).items() if epoch > reached}


def test_a_checkpoint_at_a_pause_is_reported_before_more_is_trained(training):
    """The process that wrote it may have died before anybody heard of that epoch, at which the search compares."""
    lost = training("lost")
    lost.step(pauses=(2,))
    last = lost.step(pauses=(2,))
    assert last["epochs"] == 2
    results = steps(training("lost"), at_least=FOR_EVER, pauses=(2, 4))
    assert [r["epochs"] for r in results] == [2, 4, 6]
    assert results[0]["numbers"] == last["numbers"]


def test_a_training_that_breaks_keeps_what_it_had_reached(training, monkeypatch):
    def breaks(*arguments, **more):
        epochs = train(*arguments, **more)
        yield from (next(epochs) for _ in range(2))
        raise RuntimeError("the loss is not finite")

    monkeypatch.setattr(search.execution.job_training, "train", breaks)
    (result,) = steps(training("breaks"), at_least=FOR_EVER)
    assert (result["outcome"], result["reason"]) == ("failed", "RuntimeError: the loss is not finite")
    assert [epoch["epochs"] for epoch in result["before"]] == [1, 2]


@pytest.mark.parametrize("where", ["train", "measure", "write_finished"])
def test_a_lost_device_ends_the_process_and_not_the_training(training, monkeypatch, where):
    def breaks(*arguments, **more):
        raise torch.AcceleratorError("CUDA error: device-side assert triggered\nmore lines")

    monkeypatch.setattr(search.execution.job_training, where, breaks)
    with pytest.raises(DeviceLostError, match=r"AcceleratorError: CUDA error: device-side assert triggered$"):
        steps(training("breaks"), at_least=FOR_EVER)


def test_want_of_memory_ends_the_training_and_not_the_process(training, monkeypatch):
    def breaks(*arguments, **more):
        raise torch.AcceleratorError("CUDA error: out of memory")

    monkeypatch.setattr(search.execution.job_training, "train", breaks)
    (result,) = steps(training("breaks"))
    assert (result["outcome"], result["failure"]) == ("failed", "out_of_memory")
