"""Out of memory is told apart from other deaths where Ray says so; so is a refused allocation in any form."""

import errno
import os
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError

from fusion_models.data import DataError
from search.execution import failures
from search.execution.failures import cause_of_failure
from search.execution.job_training import cause_of
from search.run_store.job import Cause, TrialRecord


def starved(cause):
    return TrialRecord(
        trial_id="t", stage="search", name="t", state="failed", state_reason=cause.reason, failure=cause.failure,
        epochs=0, seed=0, recipe={},
    ).out_of_memory  # fmt: skip


def test_an_allocation_that_the_machine_refuses_is_out_of_memory():
    with pytest.raises(RuntimeError) as refused:  # torch has no class of its own for it on a processor
        torch.empty(2**50, dtype=torch.uint8)
    assert starved(cause_of(refused.value))
    with pytest.raises(MemoryError) as python:
        bytearray(2**60)
    assert starved(cause_of(python.value))
    assert starved(cause_of(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")))
    assert not starved(cause_of(RuntimeError("shapes do not match")))


def caused(error, cause):
    """An error as a library hands it on."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk_full"),
        (caused(DataError("the cache folder is full"), OSError(errno.ENOSPC, "")), "disk_full"),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "disk_full"),
        (OSError(errno.EIO, "Input/output error"), "machine"),
        (ConnectionResetError(), "machine"),
        (caused(DataError("cannot be read"), TimeoutError()), "machine"),
        (SafetensorError("I/O error: Stale file handle (os error 116)"), "machine"),
        (
            RuntimeError("[enforce fail at inline_container.cc:603] . PytorchStreamWriter failed writing file"),
            "machine",
        ),
        (RuntimeError("shapes do not match"), None),
        (ValueError("epoch 3, step 5: the loss is nan"), None),
        (DataError("rows are missing."), None),
    ],
)
def test_what_is_the_machines_is_told_from_what_is_the_trainings(error, failure):
    assert cause_of(error).failure == failure


@pytest.mark.parametrize("said", ["", "search.execution.job_training.DeviceLostError: its GPU is gone: x"])
def test_a_process_that_died_is_the_machines(said, monkeypatch):
    monkeypatch.setattr(failures, "_last_error", lambda trial: said)
    trial, watch = SimpleNamespace(trial_id="t", last_result=None), failures.FailureWatch()
    watch.on_trial_error(None, trial)
    assert watch.why_died("t").failure == "machine"


def test_a_death_that_ray_does_not_explain_has_no_cause():
    assert cause_of_failure("") == Cause(reason="")
    assert not starved(cause_of_failure("The actor died unexpectedly before finishing this task."))


def test_a_process_whose_device_is_lost_says_so():
    error = "ray::FusionTrial.train()\n  File\nsearch.execution.job_training.DeviceLostError: its GPU is gone: x"
    assert cause_of_failure(error) == Cause(reason="because its GPU is gone: x")


RUN = """
    import sys
    from pathlib import Path
    from search.execution.cluster import ray_session
    from search.execution.file_transfer import DataTicket
    from search.execution.tuning import TuneSession
    from search.run_store.job import Job
    from search.run_store.journal import open_journal
    from search.options import RunOptions
    from search.study.stages import FixedStage
    from spaces import PHASES

    folder, source = Path(sys.argv[1]), sys.argv[2]
    options = RunOptions(phase="phase1", data=source, scheduler=sys.argv[3], max_concurrent=1)
    job = Job(trial_id="big", name="big", recipe=PHASES["phase1"].base.updated({"train.epochs": 1}).flat(), seed=0)
    with ray_session(options):
        stage = FixedStage(open_journal(folder / "study.journal"), "baselines", [job])
        data = DataTicket(source=source)
        TuneSession(options, data, checkpoints=folder / "c", tune_folder=folder / "t").train([stage], [])
    (record,) = stage.records()
    print("STATE", record.state, record.out_of_memory, record.state_reason)
"""


def test_a_worker_killed_by_rays_memory_monitor_is_out_of_memory(tmp_path, small_data):
    """Ray of its own, whose monitor finds every worker too large: its limit is below what the machine already uses."""
    environment = os.environ | {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"}
    command = [sys.executable, "-c", textwrap.dedent(RUN), str(tmp_path), small_data.source, "none"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)
    said = [line for line in done.stdout.splitlines() if line.startswith("STATE")]
    assert said, done.stdout + done.stderr
    assert said[0].startswith("STATE failed True out of memory: Ray's memory monitor killed its process"), said
