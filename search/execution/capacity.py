"""Capacity for trainings: what the machine or cluster has places for, followed while a cluster grows and shrinks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.experiment import Trial

from search.options import RunOptions

LOOK_SECONDS = 1.0
WAITING_SECONDS = 5.0
"""A training that has waited for so long waits for room, and not for its process to start."""

AUTO_ON_A_GPU = 16
"""Trainings at once on a GPU where --stack is auto, shared out to the workers on it: with many more than that, a
sampler that learns would propose most of a search's trials before it has seen any."""
MEMBER_BYTES = 512 * 1024**2
"""Of a GPU's memory, what a member is taken to need: activations of a batch, mostly."""
DEFAULT_GPU_BYTES = 16 * 1024**3
"""A GPU's memory where the driver's machine has none to look at."""

Waiting = Callable[[int, int], None]
"""Told how many trainings wait, and how many there is room for at once."""


def concurrency(options: RunOptions) -> int:
    """How many trainings run at once on what Ray has now, at least 1.

    Workers alone need processors or GPUs: Ray's and Tune's own helpers ask for none, so they cannot starve them, and a
    training of several workers gets all of its places or none.

    Raises ValueError as `require_room` does.
    """
    require_room(options)
    room = max(1, _trainings(options))
    return min(room, options.max_concurrent or room)


def require_room(options: RunOptions) -> None:
    """Raise ValueError where one training asks for more than this machine has; a cluster may still grow."""
    if options.address is not None:
        return
    resources = ray.cluster_resources()
    for name, wanted in (("CPU", options.cpus_per_worker), ("GPU", options.gpus_per_worker)):
        if wanted > resources.get(name, 0):
            flag = f"--{name.lower()}s-per-worker {wanted}"
            raise ValueError(f"{flag} asks for more than the {resources.get(name, 0):g} {name}s that Ray finds here")
    if _workers(options) < options.workers_per_trial:
        raise ValueError(
            f"--workers-per-trial {options.workers_per_trial} asks for more workers than the {_workers(options)} that "
            f"Ray has room for here, at {options.cpus_per_worker} CPUs and {options.gpus_per_worker:g} GPUs each"
        )


def _trainings(options: RunOptions) -> int:
    return _workers(options) // options.workers_per_trial * stack_size(options)


def stack_size(options: RunOptions) -> int:
    """How many trainings a worker trains in one set of kernels (`--stack`).

    auto is 1 where stacking was measured not to pay (on a CPU: docs/scaling.md) or cannot be (several workers a
    trial). On a GPU what was measured (`stacks.stack_sizing`); until then as many as its memory has room for beside the
    other workers that share it. Up to a limit either way.
    """
    if options.stack != "auto":
        return int(options.stack)
    if not sizes_itself(options):
        return 1
    if knows_stack_size(options):
        return _measured[_key(options)]
    memory = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else DEFAULT_GPU_BYTES
    share = min(1.0, options.gpus_per_worker)
    return max(1, min(most_on_a_gpu(options), int(memory * share / 2 / MEMBER_BYTES)))


def sizes_itself(options: RunOptions) -> bool:
    """Whether a stack's size is left to be found, on a GPU."""
    return options.stack == "auto" and options.gpus_per_worker > 0 and options.workers_per_trial == 1


def most_on_a_gpu(options: RunOptions) -> int:
    """The most members that a stack has where its size is left to be found."""
    return max(1, round(AUTO_ON_A_GPU * min(1.0, options.gpus_per_worker)))


def knows_stack_size(options: RunOptions) -> bool:
    """Whether it was measured."""
    return _key(options) in _measured


def keep_stack_size(options: RunOptions, size: int) -> None:
    """What was measured, for as long as this process lasts."""
    _measured[_key(options)] = size


def _key(options: RunOptions) -> tuple[str, str, str | None, float]:
    return options.data, options.phase, options.name, options.gpus_per_worker


_measured: dict[tuple[str, str, str | None, float], int] = {}


def _workers(options: RunOptions) -> int:
    """How many workers the nodes have room for; none is ever divided between two."""
    return sum(workers_on(node["Resources"], options) for node in ray.nodes() if node["Alive"])


def workers_on(node: dict[str, float], options: RunOptions) -> int:
    """How many workers a node has room for; `node`: its resources as Ray names them. Workers may share a GPU."""
    room = int(node.get("CPU", 0) // options.cpus_per_worker)
    if options.gpus_per_worker > 0:
        room = min(room, int(node.get("GPU", 0) / options.gpus_per_worker + 1e-9))
    return room


class Capacity:
    """What there is room for, looked at once a second where it may change: on a cluster."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self._fixed = concurrency(options) if options.address is None else None
        self._now, self._looked = 0, float("-inf")

    @property
    def now(self) -> int:
        """Trainings at once on the nodes that there are: 0 on a cluster whose workers have not come yet."""
        if self._fixed is not None:
            return self._fixed
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._now, self._looked = _trainings(self._options), time.monotonic()
        return self._now

    @property
    def wanted(self) -> int:
        """Trainings to have under way. On a cluster those without room wait, and so ask for nodes.

        As many as allowed (`--max-concurrent`); where nothing is said, one more than there is room for, so that a
        cluster which can grow does so node by node.
        """
        if self._fixed is not None:
            return self._fixed
        return self._options.max_concurrent or self.now + 1


class WaitingWatch(tune.Callback):  # type: ignore[misc]
    """Says how many trainings wait for room in a cluster, whenever that changes."""

    def __init__(self, capacity: Capacity, say: Waiting, training: Callable[[list[Trial]], int]) -> None:
        """`training`: how many of Tune's trials have their places."""
        self._capacity, self._say, self._training = capacity, say, training
        self._looked, self._since = float("-inf"), float("inf")
        self._said = (0, -1)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks into a snapshot that is never read: nothing goes into it."""
        return {}

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        live = [trial for trial in trials if trial.status in (Trial.PENDING, Trial.RUNNING)]
        waiting = len(live) - self._training(live)
        self._since = min(self._since, now) if waiting > 0 else float("inf")
        found = (waiting if now - self._since >= WAITING_SECONDS else 0, self._capacity.now)
        if found != self._said and (found[0] or self._said[0]):
            self._say(*found)
            self._said = found


def with_places(trials: list[Trial]) -> int:
    """Of trials that ask Tune for their places themselves, how many have them."""
    return sum(trial.status == Trial.RUNNING for trial in trials)
