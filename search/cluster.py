"""Ray for a run: start or join it, and step stages' jobs through Tune."""

from __future__ import annotations

import contextlib
import logging
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune

from fusion_models.training import discard
from search.deaths import DeathWatch
from search.depot import DataTicket, open_home
from search.grouped_trial import GroupedTrial
from search.groups import TRAIN_SETTINGS, WORKER_DEATHS, GroupPool, Shape, close_groups, group_pool
from search.job import Job, TrialRecord
from search.moasha import MultiObjectiveAsha
from search.options import RunOptions
from search.room import Room, Waiting, WaitingWatch, with_places
from search.searcher import Observer, StageSearcher
from search.stages import SearchStage, Stage
from search.trial import FusionTrial

CLIENT_SHARE = 0.001
"""Of the driver's machine: what the client of a worker group asks for, since Tune wants it to ask for something."""
MANY = 10_000
"""Trials that Tune may have at once: how many there really are, the searcher decides, look by look."""
EPOCH_LIMIT = 600.0
"""Seconds for an epoch where the caller names no limit."""

_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "100000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "1",
}


@contextlib.contextmanager
def ray_session(options: RunOptions) -> Iterator[None]:
    """Ray while the block runs: joined where it already runs in this process, else started and stopped."""
    if ray.is_initialized():
        try:
            yield
        finally:
            close_groups()
        return
    for key, value in (_QUIET | TRAIN_SETTINGS).items():
        os.environ.setdefault(key, value)
    warnings.filterwarnings("ignore", module=r"ray(\..*)?")
    arguments: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if options.address is None:
        arguments |= {
            "address": "local",
            "_node_ip_address": "127.0.0.1",
            "include_dashboard": False,
            "object_store_memory": 200 * 1024**2,
            "num_cpus": _cpus(),
        }
    else:
        arguments["address"] = options.address
    ray.init(**arguments)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    try:
        yield
    finally:
        close_groups()
        ray.shutdown()


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_stages(
    stages: Sequence[Stage],
    observers: Sequence[Observer],
    options: RunOptions,
    *,
    source: str,
    cache: str | None,
    fingerprint: str | None = None,
    arrays: Path | None = None,
    checkpoints: Path,
    tune_folder: Path,
    deadline: float | None = None,
    epoch_limit: float = EPOCH_LIMIT,
    on_waiting: Waiting | None = None,
) -> None:
    """Train every job that the stages still have; returns when all have ended. Ray must be running.

    `fingerprint` and `arrays` are those of the driver's data, which machines that cannot open `source` are sent.
    `deadline` is a `time.monotonic()` after which nothing new is started. Early stopping, where the options ask for
    it, is for the trials that a search samples; every other job runs to its end. On a cluster as many train as there
    is room for while it grows and shrinks, and `on_waiting` hears of those that wait.
    """
    scheduler = _scheduler(stages, options)
    room = Room(options)
    pool = _groups(options, room.wanted)
    searcher = StageSearcher(
        stages,
        [*observers, _TrainingStateSweeper(checkpoints, stages), *([_GroupReleaser(pool)] if pool else [])],
        deadline=deadline,
        why_stopped=scheduler.reason if isinstance(scheduler, MultiObjectiveAsha) else None,
        why_died=scheduler.why_died,
        preemptions=scheduler.preemptions,
        limit=(lambda: pool.grow(room.wanted)) if pool else (lambda: room.wanted),
    )
    ticket = DataTicket(
        source=source,
        cache=cache,
        fingerprint=fingerprint,
        folder=str(arrays),
        home=open_home(),
    )
    config = {
        "data": ticket,
        "checkpoints": str(checkpoints.resolve()),
        "cpus": options.cpus_per_worker,
        "gpus": options.gpus_per_worker,
        "epoch_limit": epoch_limit,
    }
    resources = {"cpu": options.cpus_per_worker, "gpu": options.gpus_per_worker}
    trainable = tune.with_resources(FusionTrial, resources)
    if pool is not None:
        trainable, config["board"] = tune.with_resources(GroupedTrial, _client()), pool.name
    tuner = tune.Tuner(
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
            name=f"{'-'.join(stage.name for stage in stages)}-{time.time_ns()}",
            storage_path=str(tune_folder.resolve()),
            failure_config=tune.FailureConfig(max_failures=WORKER_DEATHS),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            verbose=0,
            callbacks=_watch(room, pool, on_waiting) if options.address is not None and on_waiting else [],
        ),
    )
    tuner.fit()


def _scheduler(stages: Sequence[Stage], options: RunOptions) -> DeathWatch:
    searches = [stage for stage in stages if isinstance(stage, SearchStage)]
    return MultiObjectiveAsha(searches[0]) if searches and options.scheduler == "moasha" else DeathWatch()


def _groups(options: RunOptions, concurrent: int) -> GroupPool | None:
    if options.workers_per_trial == 1:
        return None
    shape = Shape(workers=options.workers_per_trial, cpus=options.cpus_per_worker, gpus=options.gpus_per_worker)
    return group_pool(shape, concurrent)


def _watch(room: Room, pool: GroupPool | None, say: Waiting) -> list[WaitingWatch]:
    return [WaitingWatch(room, say, with_places if pool is None else lambda trials: pool.training())]


def _client() -> tune.PlacementGroupFactory:
    """No processor, and a place beside the driver: a machine that goes takes workers with it, never their clients."""
    here = ray.get_runtime_context().get_node_id()
    (address,) = [node["NodeManagerAddress"] for node in ray.nodes() if node["NodeID"] == here]
    return tune.PlacementGroupFactory([{f"node:{address}": CLIENT_SHARE}])


class _GroupReleaser:
    """Once a trial has ended, however it did, its worker group is free for the next."""

    def __init__(self, pool: GroupPool) -> None:
        self._pool = pool

    def on_epoch(self, stage: Stage, job: Job, result: dict[str, Any]) -> None:
        """The group stays the trial's own."""

    def on_end(self, stage: Stage, record: TrialRecord, result: dict[str, Any]) -> None:
        self._pool.release(record.trial_id)


class _TrainingStateSweeper:
    """Once a trial has ended in the journal, its optimiser and weights in the making are of no more use."""

    def __init__(self, checkpoints: Path, stages: Sequence[Stage]) -> None:
        self._checkpoints = checkpoints
        for record in [r for stage in stages for r in stage.records() if r.state != "running"]:
            discard(checkpoints / record.trial_id / "training")  # the driver died between telling and sweeping

    def on_epoch(self, stage: Stage, job: Job, result: dict[str, Any]) -> None:
        """Nothing yet."""

    def on_end(self, stage: Stage, record: TrialRecord, result: dict[str, Any]) -> None:
        discard(self._checkpoints / record.trial_id / "training")
