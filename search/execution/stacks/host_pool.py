"""The hosts of a run's stacks, owned by the driver, which also says which trial goes to which."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fusion_models.training.stack import Structure, structure
from search.execution.stacks.stack_host import StackHost
from search.execution.stacks.turns import Turns
from search.run_store.job import Job

THREADS_BESIDE = 8
"""Of a host, beside a thread for each trial: trials that end, and ones that begin before the last have gone."""


class HostPool:
    """Hosts of one shape, each with room for `stack` trials."""

    def __init__(self, *, stack: int, cpus: int, gpus: float, epoch_limit: float) -> None:
        self.stack = stack
        self._name = f"stack-{uuid.uuid4().hex}"
        self._start: Callable[[str], Any] = lambda name: (
            ray.remote(StackHost)
            .options(
                name=name,
                num_cpus=cpus,
                num_gpus=gpus,
                max_concurrency=stack + THREADS_BESIDE,
                max_restarts=-1,
                max_task_retries=0,
            )
            .remote(cpus, gpus, epoch_limit)
        )
        here = NodeAffinitySchedulingStrategy(node_id=ray.get_runtime_context().get_node_id(), soft=False)
        turns = ray.remote(num_cpus=0, max_concurrency=1000, scheduling_strategy=here)(Turns)
        self.turns = f"{self._name}-turns"
        """Name of the actor that says which trial of a host may take a step."""
        self._turns = turns.options(name=self.turns).remote()
        self._hosts: list[Any] = []
        self._trials: list[dict[str, Structure | None]] = []
        """Of each host, the trials that are there, and what they are built like."""

    def grow(self, trials: int) -> int:
        """Have room for so many trials; on a cluster, hosts without a place ask for nodes. How many have room."""
        while len(self._hosts) * self.stack < trials:
            self._hosts.append(self._start(f"{self._name}-{len(self._hosts)}"))
            self._trials.append({})
        return trials

    def place(self, job: Job) -> dict[str, Any]:
        """Where a job is to train: with most of its own structure, else where there is most room."""
        built = _structure(job)
        room = [i for i, trials in enumerate(self._trials) if len(trials) < self.stack] or range(len(self._trials))
        best = max(room, key=lambda i: (_alike(self._trials[i], built), -len(self._trials[i]), -i))
        self._trials[best][job.trial_id] = built
        return {"host": f"{self._name}-{best}"}

    def release(self, trial_id: str) -> None:
        """A trial has ended, however it did."""
        for host, trials in zip(self._hosts, self._trials, strict=True):
            if trial_id in trials:
                del trials[trial_id]
                host.forget.remote(trial_id)
        self._turns.ended.remote(trial_id)

    def close(self) -> None:
        """End every host and what it is at."""
        for host in self._hosts:
            ray.kill(host)
        self._hosts, self._trials = [], []
        ray.kill(self._turns)


_open: list[HostPool] = []


def open_hosts(*, stack: int, cpus: int, gpus: float, epoch_limit: float) -> HostPool:
    """Hosts for one round of trainings, in place of any that are open."""
    close_hosts()
    _open.append(HostPool(stack=stack, cpus=cpus, gpus=gpus, epoch_limit=epoch_limit))
    return _open[0]


def close_hosts() -> None:
    """Give the hosts' places back."""
    while _open:
        _open.pop().close()


def _structure(job: Job) -> Structure | None:
    try:
        return structure(job.to_recipe())
    except ValueError:  # the training will say what is wrong with it
        return None


def _alike(trials: dict[str, Structure | None], built: Structure | None) -> int:
    return sum(other == built for other in trials.values())
