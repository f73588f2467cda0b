"""A run of whole folders is spread over processes: which tests stay in one process, and which begin first.

A *lane* is run by one process, one test after the other. Tests of a lane share what is dear to start: a Ray, a roadmap,
a store. Lanes run beside each other, so that one that waits leaves the processors to the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pytest

LANES: tuple[tuple[str, ...], ...] = (
    (
        "search/execution/ddp/test_worker_groups.py",
        "search/execution/stacks/test_stacked_search.py",
        "search/execution/test_capacity.py",
        "search/execution/test_failures.py",
        "search/execution/test_faults.py",
        "search/execution/test_file_transfer.py",
        "search/execution/test_moasha.py",
        "search/execution/test_nodes.py",
        "search/execution/test_tuning.py",
    ),
    (
        "browser/test_report_page.py",
        "browser/test_tensorboard_page.py",
        "search/pipeline/test_ablation_run.py",
        "search/pipeline/test_roadmap.py",
        "search/pipeline/test_roadmap_release.py",
        "search/test_api.py",
    ),
    (
        "search/audit/test_audited_run.py",
        "search/pipeline/confirmation/test_test_split.py",
        "search/pipeline/continuation/test_extend.py",
        "search/pipeline/continuation/test_settle.py",
        "search/pipeline/release/test_phase4.py",
        "search/pipeline/test_other_modalities.py",
        "search/pipeline/test_run.py",
        "search/pipeline/test_verdicts.py",
    ),
    (
        "cluster/test_cluster_run.py",
        "cluster/test_growing_cluster.py",
        "cluster/test_lost_machine.py",
    ),
    ("docs/test_audit_page.py",),
    ("search/pipeline/test_resume.py",),
    ("own/test_own_model_run.py",),
    ("search/run_store/test_mirror.py", "search/run_store/test_run_on_s3.py"),
    ("search/serving/test_shadow.py",),
    ("docs/test_walkthrough.py",),
    ("models/test_export.py",),
    ("training/stack/test_equality.py",),
    ("search/audit/test_model.py",),
    ("gpu/test_nccl.py", "gpu/test_own_loop_on_a_gpu.py", "gpu/test_stack_on_a_gpu.py"),
)
"""Files of one lane stand together; lanes begin in this order, since they take longest. Every file that is not named is
a lane by itself, and begins after these. Whatever starts Ray, hosts or a browser stands here, and what needs a GPU."""

_FIRST = {file: files[0] for files in LANES for file in files}


def lane_of(nodeid: str) -> str:
    """The lane, named by its first file, of a test's id as pytest gives it (`tests/test_work.py::test_it[1]`)."""
    file = nodeid.partition("::")[0].removeprefix("tests/")
    return _FIRST.get(file, file)


def in_order(lanes: Iterable[str]) -> list[str]:
    """Lanes in the order in which they begin."""
    places = {files[0]: place for place, files in enumerate(LANES)}
    return sorted(lanes, key=lambda lane: places.get(lane, len(places)))


def processes() -> int:
    """Two more than this process has processors, since some wait; more than 8 would find nothing to do."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores + 2, 8)


def is_whole(arguments: Iterable[str]) -> bool:
    """Whether a command asks for folders alone: files, tests and the one lane of a GPU are not worth more processes."""
    return all(
        os.path.isdir(argument) and os.path.basename(os.path.normpath(argument)) != "gpu" for argument in arguments
    )


def scheduler(config: pytest.Config, log: Any) -> Any:
    """xdist's scheduler by scope, with lanes in the place of modules."""
    from xdist.scheduler import LoadScopeScheduling  # not needed where one process runs all

    class LaneScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return lane_of(nodeid)

        def _assign_work_unit(self, node: Any) -> None:
            self.workqueue.move_to_end(in_order(self.workqueue)[0], last=False)
            super()._assign_work_unit(node)

    config.option.loadscopereorder = False
    return LaneScheduling(config, log)
