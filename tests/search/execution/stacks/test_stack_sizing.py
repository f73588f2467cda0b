"""`--stack auto` takes what was measured, on a GPU and nowhere else, and what memory suggests where nothing was."""

import pytest
import ray
from ray.exceptions import RayError

from search.execution import capacity
from search.execution.capacity import keep_stack_size, stack_size
from search.execution.file_transfer import DataTicket
from search.execution.stacks import stack_sizing
from search.execution.stacks.stack_sizing import measure_stack_size
from search.options import RunOptions
from spaces import PHASES

BASE = PHASES["phase1"].base
DATA = DataTicket(source="clipart")


@pytest.fixture
def measured(monkeypatch):
    """What a worker was asked to measure; it finds the largest, or dies where `fails` is set."""

    class Asked(list):
        fails = False

    asked = Asked()

    class Task:
        def remote(self, data, recipe, cpus, share, sizes):
            asked.append((share, sizes))
            if asked.fails:
                raise RayError("no such device")
            return sizes[-1], []

    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 1.0})
    monkeypatch.setattr(ray, "remote", lambda **resources: lambda function: Task())
    monkeypatch.setattr(ray, "get", lambda found: found)
    monkeypatch.setattr(capacity, "_measured", {})
    return asked


@pytest.mark.parametrize(
    ("gpus", "sizes"), [(0.05, [1]), (0.25, [1, 4]), (0.5, [1, 4, 8]), (1.0, [1, 4, 16]), (2.0, [1, 4, 16])]
)
def test_small_stacks_and_the_largest_are_measured(gpus, sizes, measured, monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 2.0})
    options = RunOptions(phase="phase1", gpus_per_worker=gpus)
    measure_stack_size(options, DATA, BASE)
    measure_stack_size(options, DATA, BASE)  # once a run
    assert measured == [(min(1.0, gpus), sizes)]
    assert stack_size(options) == sizes[-1]
    assert stack_size(RunOptions(phase="phase1")) == 1


@pytest.mark.parametrize(
    "given",
    [
        {"gpus_per_worker": 0},
        {"gpus_per_worker": 1, "stack": "8"},
        {"gpus_per_worker": 1, "workers_per_trial": 2},
        {"gpus_per_worker": 1, "address": "auto"},
        {"gpus_per_worker": 2},
        {"gpus_per_worker": 1, "cpus_per_worker": 64},
    ],
    ids=str,
)
def test_nothing_is_measured_where_nothing_is_left_to_find_or_no_worker_has_room(given, measured):
    assert measure_stack_size(RunOptions(phase="phase1", **given), DATA, BASE) == ""
    assert measured == []


def test_what_cannot_be_measured_is_told_by_the_memory(measured, monkeypatch):
    measured.fails = True
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    options = RunOptions(phase="phase1", gpus_per_worker=0.5)
    assert measure_stack_size(options, DATA, BASE) == ""
    assert stack_size(options) == 8


def test_a_size_holds_for_the_run_that_was_measured(measured):
    keep_stack_size(RunOptions(phase="phase1", gpus_per_worker=1, data="one"), 2)
    assert stack_size(RunOptions(phase="phase1", gpus_per_worker=1, data="one")) == 2
    assert stack_size(RunOptions(phase="phase3", gpus_per_worker=1, data="one")) != 2


def test_what_was_found_is_said_in_a_line():
    found = [stack_sizing.Sized(members=m, seconds=s, bytes=0) for m, s in ((1, 2.0), (4, 3.0))]
    assert stack_sizing._said(4, found).endswith("(seconds of an epoch for each of 1: 2.00 s, 4: 0.75 s)")
