"""The host of a stack without Ray: a device that is lost ends its process, once its trials have heard of it."""

import threading

import pytest

from search.execution.file_transfer import DataTicket
from search.execution.job_training import DeviceLostError, JobTraining
from search.execution.stacks import stack_host
from search.execution.stacks.stack_host import StackHost
from search.run_store.job import Job
from spaces import PHASES

JOB = Job(trial_id="one", name="one", recipe=PHASES["phase1"].base.flat(), seed=3)


def test_a_lost_device_ends_the_host_and_tells_its_trials(small_data, tmp_path, monkeypatch):
    def breaks(self, **more):
        raise DeviceLostError("its GPU answered it no more")

    ended = threading.Event()
    monkeypatch.setattr(stack_host, "LAST_WORDS_SECONDS", 0.05)
    monkeypatch.setattr(stack_host.os, "_exit", lambda code: ended.set())
    monkeypatch.setattr(JobTraining, "step", breaks)
    host = StackHost(1, 0.0, 60.0)
    config = {"job": JOB.plain(), "data": DataTicket(source=small_data.source), "gpus": 0.0, "pauses": []}
    with pytest.raises(DeviceLostError):
        host.step(config | {"checkpoints": str(tmp_path)}, "first", 0.0, host.process_name())
    assert ended.wait(10)


def test_a_step_for_a_process_that_is_dead_is_not_taken(tmp_path):
    host = StackHost(1, 0.0, 60.0)
    assert host.process_name() == host.process_name() != StackHost(1, 0.0, 60.0).process_name()
    config = {"job": JOB.plain(), "checkpoints": str(tmp_path), "pauses": []}
    assert host.step(config, "first", 0.0, StackHost(1, 0.0, 60.0).process_name()) is None
