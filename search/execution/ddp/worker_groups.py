"""Worker groups that stay up: one `TorchTrainer.fit()` each, whose workers take job after job from the coordinator.

A fit of its own for every trial costs ten to twenty seconds of starting processes and of polling
(`benchmarks/ddp_start.py`). Here Ray Train starts each group once, and starts its workers anew when one dies.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import uuid
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.execution.ddp.coordinator import Coordinator
from search.execution.ddp.process_groups import ReachableTorch

TRAIN_SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "2",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
"""Ray Train's own knobs: notice a dead worker at once, do without what a search does not read, and leave the working
directory, to which a dataset's path may be relative, alone. Set before Ray starts, as its own processes read some."""
CLOSING_SECONDS = 10.0
WORKER_DEATHS = 2
"""How often a job whose workers died, or hung, is tried again; a training that fails by itself never is."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What one worker group is made of."""

    workers: int
    cpus: int
    gpus: float

    def scaling(self) -> ray.train.ScalingConfig:
        """On as few nodes as it fits; a share of a GPU is a share."""
        resources = {"CPU": float(self.cpus)} | ({"GPU": self.gpus} if self.gpus > 0 else {})
        return ray.train.ScalingConfig(
            num_workers=self.workers,
            use_gpu=self.gpus > 0,
            resources_per_worker=resources,
            placement_strategy="PACK",
        )

    @property
    def backend(self) -> str:
        """torch.distributed's: NCCL between whole GPUs, gloo otherwise.

        NCCL refuses two ranks on one GPU ("Duplicate GPU detected"), which is where PACK puts workers that ask for
        shares of one; gloo reduces and broadcasts CUDA tensors too, by way of the CPU.
        """
        return "cpu:gloo,cuda:nccl" if self.gpus >= 1 else "gloo"


class GroupPool:
    """Groups of one shape, owned by the driver, and the coordinator that joins them with its trials."""

    def __init__(self, shape: Shape, groups: int) -> None:
        for key, value in TRAIN_SETTINGS.items():
            os.environ.setdefault(key, value)
        self.shape, self.size = shape, groups
        self.name = f"coordinator-{uuid.uuid4().hex}"
        here = NodeAffinitySchedulingStrategy(node_id=ray.get_runtime_context().get_node_id(), soft=False)
        board = ray.remote(num_cpus=0, max_concurrency=1000, scheduling_strategy=here)(Coordinator)
        self.board = board.options(name=self.name).remote(groups, shape.workers, WORKER_DEATHS)
        self._storage = tempfile.TemporaryDirectory(prefix="fusion-search-train-")
        self._threads: list[threading.Thread] = []
        self._start(groups)

    def _start(self, groups: int) -> None:
        for index in range(len(self._threads), groups):
            self._threads.append(threading.Thread(target=self._fit, args=(index,), daemon=True))
            self._threads[-1].start()

    def grow(self, groups: int) -> int:
        """Have at least so many groups, of which those without room wait, and so ask for nodes; how many there are."""
        if groups > self.size:
            ray.get(self.board.grow.remote(groups))
            self.size = groups
            self._start(groups)
        return self.size

    def training(self) -> int:
        """How many trials have a group whose workers are up."""
        return int(ray.get(self.board.training.remote()))

    def _fit(self, index: int) -> None:
        trainer = TorchTrainer(
            serve,
            train_loop_config={"board": self.board, "index": index, "cpus": self.shape.cpus},
            torch_config=ReachableTorch(backend=self.shape.backend),
            scaling_config=self.shape.scaling(),
            run_config=ray.train.RunConfig(
                name=f"group-{index}",
                storage_path=self._storage.name,
                failure_config=ray.train.FailureConfig(max_failures=-1),
            ),
        )
        with contextlib.suppress(Exception):  # it ends when the run does; what a trial must know, the coordinator tells
            trainer.fit()

    def release(self, trial: str) -> None:
        """A trial has ended, however it did."""
        self.board.release.remote(trial)

    def close(self) -> None:
        """End every group; what is still at a job is not waited for."""
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get([self.board.give.remote(i, {"stop": True}) for i in range(self.size)], timeout=CLOSING_SECONDS)
            for index in ray.get(self.board.standing.remote(), timeout=CLOSING_SECONDS):
                self._threads[index].join(CLOSING_SECONDS)
            ray.kill(self.board)
        self._storage.cleanup()


_open: list[GroupPool] = []


def group_pool(shape: Shape, groups: int) -> GroupPool:
    """The open pool where it has this shape, made large enough; else a new one in its place."""
    if _open and _open[0].shape != shape:
        close_groups()
    if not _open:
        _open.append(GroupPool(shape, groups))
    _open[0].grow(groups)
    return _open[0]


def close_groups() -> None:
    """Give the groups' places back: to what is measured between trainings, which would wait for them for ever.

    The next training of several workers has new groups.
    """
    while _open:
        _open.pop().close()


def serve(config: dict[str, Any]) -> None:
    """What every worker of a group runs: step job after job, all ranks at once, until told to stop."""
    import torch

    from fusion_models.process_group import TorchProcessGroup
    from search.execution.job_training import JobTraining

    torch.set_num_threads(max(1, int(config["cpus"])))
    process_group, board, index = TorchProcessGroup(), config["board"], config["index"]
    incarnation = process_group.first(uuid.uuid4().hex)
    here, rank = ray.get_runtime_context(), process_group.rank
    worker = (rank, os.getpid(), here.current_actor, here.get_node_id())
    number = ray.get(board.register.remote(index, incarnation, *worker))
    training, key = None, None
    while True:
        number, command = ray.get(board.command.remote(index, incarnation, number))
        if command is None:
            continue
        if command.get("stop"):
            return
        if command["key"] != key:
            training, key = JobTraining(command["config"], process_group), command["key"]
        assert training is not None
        result = training.step()
        ray.get(board.deliver.remote(index, incarnation, rank, number, result if rank == 0 else _brief(result)))


def _brief(result: dict[str, Any]) -> dict[str, Any]:
    return {key: result[key] for key in ("outcome", "reason", "failure") if key in result}
