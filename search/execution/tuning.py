"""Stages' jobs through Tune: one Tune experiment that serves a run's stages one after the other.

A process that trains takes seconds to start (Ray, torch, the data), and a run has half a dozen stages with the driver's
own work between them. So on one machine the processes stay: while there is nothing to train, each runs an idle trial,
which ends as soon as there is something. What is measured between the stages is done by the same processes.
On a cluster, with GPUs, or where a training has several workers, places are given back after each stage instead: the
cluster may shrink meanwhile, and what is measured runs as Ray tasks, one on each processor that there is.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from search.execution.capacity import Capacity, Waiting, WaitingWatch, stack_size, with_places
from search.execution.ddp.ddp_trial import GroupedTrial
from search.execution.ddp.worker_groups import WORKER_DEATHS, GroupPool, Shape, close_groups, group_pool
from search.execution.experiment import Experiment, PlaceReleaser, TrainingStateSweeper
from search.execution.file_transfer import DataTicket, open_home
from search.execution.interrupts import ending
from search.execution.moasha import MultiObjectiveAsha
from search.execution.remote_calls import RemoteCall
from search.execution.scheduler import StageScheduler
from search.execution.searcher import Deadline, Observer, StageSearcher
from search.execution.stacks.host_pool import HostPool, close_hosts, open_hosts
from search.execution.stacks.stacked_trial import StackedTrial
from search.execution.trial import FusionTrial
from search.options import RunOptions
from search.study.search_stage import SearchStage
from search.study.stages import Stage

CLIENT_SHARE = 0.001
"""Of the driver's machine: what the client of a worker group asks for, since Tune wants it to ask for something."""
MANY = 10_000
"""Trials that Tune may have at once: how many there really are, the searcher decides, look by look."""
EPOCH_LIMIT = 600.0
"""Seconds for an epoch where the caller names no limit."""
REPORT_SECONDS = float(os.environ.get("FUSION_SEARCH_REPORT_SECONDS", "2"))
"""A checkpoint and a result cost some 40 ms: epochs shorter than this are bundled, but not beyond a rung."""


class TuneSession:
    """Trains what the stages of one run have, and makes calls between them. Ray must be running, also when it ends.

    Used as a context manager: while the block runs on one machine, processes stay from stage to stage.
    """

    def __init__(
        self,
        options: RunOptions,
        data: DataTicket,
        *,
        checkpoints: Path,
        tune_folder: Path,
        epoch_limit: float = EPOCH_LIMIT,
        report_seconds: float = REPORT_SECONDS,
    ) -> None:
        """`data`: the driver's, which is its home from here on: machines that cannot open its source are sent it.

        One process trains for `report_seconds` between two checkpoints, at least an epoch; workers of a group an epoch.
        """
        self._options = options
        self._checkpoints, self._folder = checkpoints, tune_folder
        self._epoch_limit, self._report_seconds = epoch_limit, report_seconds
        self._ticket = dataclasses.replace(data, home=open_home())
        alone = options.workers_per_trial == 1 and options.gpus_per_worker == 0 and stack_size(options) == 1
        self._keep = options.address is None and alone
        self._staying: Experiment | None = None

    @property
    def keeps(self) -> bool:
        """Whether processes stay between trainings, so that a call costs no start."""
        return self._staying is not None

    def __enter__(self) -> TuneSession:
        if self._keep:
            self._scratch = tempfile.TemporaryDirectory(prefix="fusion-search-")
            self._staying = Experiment(self._tuner, Capacity(self._options), keep=True)
            self._staying.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._staying is not None:
            staying, self._staying = self._staying, None
            with ending():
                try:
                    staying.end(abandon=kind is not None)
                finally:
                    self._scratch.cleanup()

    def train(
        self,
        stages: Sequence[Stage],
        observers: Sequence[Observer],
        *,
        deadline: Deadline | None = None,
        on_waiting: Waiting | None = None,
    ) -> None:
        """Train every job that the stages still have; returns when all have ended.

        Nothing new is started after `deadline`. Early stopping, where the options ask
        for it, is for the trials that a search samples; every other job runs to its end. On a cluster as many train as
        there is room for while it grows and shrinks, and `on_waiting` hears of those that wait.
        """
        watchers = [*observers, TrainingStateSweeper(self._checkpoints, stages)]
        if self._staying is not None:
            self._staying.serve(stages, watchers, _early_stopping(stages, self._options), deadline)
            return
        capacity = Capacity(self._options)
        pool = _groups(self._options, capacity.wanted) or self._stacks(capacity.wanted)
        if pool is not None:
            watchers.append(PlaceReleaser(pool))
        callbacks = _watch(capacity, pool, on_waiting) if self._options.address is not None and on_waiting else []
        experiment = Experiment(
            lambda *parts: self._tuner(*parts, pool=pool, callbacks=callbacks), capacity, pool=pool, keep=False
        )
        try:
            experiment.serve(stages, watchers, _early_stopping(stages, self._options), deadline)
        finally:
            close_hosts()

    def _stacks(self, trials: int) -> HostPool | None:
        """Hosts for as many trials as may be under way, where they are stacked."""
        options, stack = self._options, stack_size(self._options)
        if stack == 1:
            return None
        pool = open_hosts(
            stack=stack, cpus=options.cpus_per_worker, gpus=options.gpus_per_worker, epoch_limit=self._epoch_limit
        )
        pool.grow(trials)
        return pool

    def call(self, function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
        """Have a process call `function` (of a module, as are its arguments' types) from now on, side by side.

        Returns what waits for its result, and raises what it raised.
        """
        if self._staying is None:
            return call_in_ray(function, *arguments)
        remote_call = RemoteCall(Path(self._scratch.name), function, arguments)
        self._staying.searcher.send(remote_call)
        return remote_call.answer

    def _tuner(
        self,
        searcher: StageSearcher,
        scheduler: StageScheduler,
        *,
        pool: GroupPool | HostPool | None = None,
        callbacks: Sequence[tune.Callback] = (),
    ) -> tune.Tuner:
        options = self._options
        config: dict[str, Any] = {
            "job": None,
            "remote_call": None,
            "report_seconds": self._report_seconds,
            "pauses": [],
            "data": self._ticket,
            "checkpoints": str(self._checkpoints.resolve()),
            "cpus": options.cpus_per_worker,
            "gpus": options.gpus_per_worker,
            "epoch_limit": self._epoch_limit,
        }
        resources = {"cpu": options.cpus_per_worker, "gpu": options.gpus_per_worker}
        trainable = tune.with_resources(FusionTrial, resources)
        if isinstance(pool, HostPool):
            trainable = tune.with_resources(StackedTrial, _client())
            config |= {"host": None, "turns": pool.turns}
        elif pool is not None:
            trainable, config["board"] = tune.with_resources(GroupedTrial, _client()), pool.name
        return tune.Tuner(
            trainable,
            param_space=config,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=-1,
                max_concurrent_trials=MANY,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name=f"run-{time.time_ns()}",
                storage_path=str(self._folder.resolve()),
                failure_config=tune.FailureConfig(max_failures=WORKER_DEATHS),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                verbose=0,
                callbacks=list(callbacks),
            ),
        )


Call = Callable[..., Callable[[], Any]]
"""`TuneSession.call` and its like: a function and its arguments, to what waits for the result."""


def call_in_ray(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """As `TuneSession.call`, as a Ray task on one CPU wherever there is room. Worker groups give their places back."""
    close_groups()
    close_hosts()
    found = _on_one_thread.remote(function, *arguments)
    return lambda: ray.get(found)


@ray.remote(num_cpus=1)  # type: ignore[untyped-decorator]
def _on_one_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    torch.set_num_threads(1)
    return function(*arguments)


def _early_stopping(stages: Sequence[Stage], options: RunOptions) -> MultiObjectiveAsha | None:
    searches = [stage for stage in stages if isinstance(stage, SearchStage) and stage.phase.epoch_objectives]
    return MultiObjectiveAsha(searches[0]) if searches and options.scheduler == "moasha" else None


def _groups(options: RunOptions, concurrent: int) -> GroupPool | None:
    if options.workers_per_trial == 1:
        return None
    shape = Shape(workers=options.workers_per_trial, cpus=options.cpus_per_worker, gpus=options.gpus_per_worker)
    return group_pool(shape, concurrent)


def _watch(capacity: Capacity, pool: GroupPool | HostPool | None, say: Waiting) -> list[WaitingWatch]:
    training = (lambda trials: pool.training()) if isinstance(pool, GroupPool) else with_places
    return [WaitingWatch(capacity, say, training)]


def _client() -> tune.PlacementGroupFactory:
    """No processor, and a place beside the driver: a machine that goes takes workers with it, never their clients."""
    here = ray.get_runtime_context().get_node_id()
    (address,) = [node["NodeManagerAddress"] for node in ray.nodes() if node["NodeID"] == here]
    return tune.PlacementGroupFactory([{f"node:{address}": CLIENT_SHARE}])
