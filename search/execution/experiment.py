"""One `Tuner.fit()` and what follows the end of each of its trials: the part of a session that lives beside Tune."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray import tune

from fusion_models.training import discard
from search.execution.capacity import Capacity
from search.execution.ddp.worker_groups import GroupPool
from search.execution.interrupts import raise_if_interrupted
from search.execution.moasha import MultiObjectiveAsha
from search.execution.scheduler import StageScheduler
from search.execution.searcher import Deadline, Observer, StageSearcher
from search.execution.stacks.host_pool import HostPool
from search.run_store.job import Job, TrialRecord
from search.study.stages import Stage

LOOK_SECONDS = 1.0
ENDING_SECONDS = 60.0


class Experiment:
    """One `Tuner.fit()`: run to its end by the caller, or kept on a thread until `end`."""

    def __init__(
        self,
        build: Callable[..., tune.Tuner],
        capacity: Capacity,
        *,
        pool: GroupPool | HostPool | None = None,
        keep: bool,
    ) -> None:
        self.scheduler = StageScheduler(lambda trial_id: self.searcher.may_idle(trial_id))
        self.searcher = StageSearcher(
            idle=keep,
            why_stopped=self.scheduler.why_stopped,
            why_died=self.scheduler.why_died,
            preemptions=self.scheduler.preemptions,
            limit=(lambda: pool.grow(capacity.wanted)) if pool else (lambda: capacity.wanted),
            place=pool.place if isinstance(pool, HostPool) else None,
        )
        self._build, self._keep = build, keep
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._fit, name="tune", daemon=True)

    def start(self) -> None:
        """Fit on a thread from now on."""
        self._thread.start()

    def _fit(self) -> None:
        try:
            self._build(self.searcher, self.scheduler).fit()
        except BaseException as error:  # for the driver to raise
            self._error = error
        given_up = RuntimeError("the trainings' processes were given up")
        self.searcher.broken(self.searcher.failed or self._error or given_up)

    def serve(
        self,
        stages: Sequence[Stage],
        observers: Sequence[Observer],
        early_stopping: MultiObjectiveAsha | None,
        deadline: Deadline | None,
    ) -> None:
        """Train the stages to their end. Raises what a result or an observer led to, before what Tune made of it."""
        self.scheduler.early_stopping = early_stopping
        pauses = early_stopping.levels if early_stopping is not None else ()
        self.searcher.serve(stages, observers, deadline=deadline, pauses=pauses)
        if self._keep:
            while self._thread.is_alive() and not self.searcher.drained.wait(LOOK_SECONDS):
                raise_if_interrupted()
        else:
            try:
                self._build(self.searcher, self.scheduler).fit()
            except Exception as error:
                self._error = error
        found = self.searcher.failed or self._error
        if found is not None:
            raise found

    def end(self, *, abandon: bool) -> None:
        """Let the kept processes go; with `abandon` what they still do is given up."""
        self.searcher.close(abandon=abandon)
        self._thread.join(ENDING_SECONDS)


class PlaceReleaser:
    """Once a trial has ended, however it did, its worker group, or its place in a stack, is free for the next."""

    def __init__(self, pool: GroupPool | HostPool) -> None:
        self._pool = pool

    def on_epoch(self, stage: Stage, job: Job, result: dict[str, Any]) -> None:
        """The place stays the trial's own."""

    def on_end(self, stage: Stage, record: TrialRecord, result: dict[str, Any]) -> None:
        self._pool.release(record.trial_id)


class TrainingStateSweeper:
    """Once a trial has ended in the journal, its optimiser and weights in the making are of no more use."""

    def __init__(self, checkpoints: Path, stages: Sequence[Stage]) -> None:
        self._checkpoints = checkpoints
        for record in [r for stage in stages for r in stage.records() if r.state != "running"]:
            discard(checkpoints / record.trial_id / "training")  # the driver died between telling and sweeping

    def on_epoch(self, stage: Stage, job: Job, result: dict[str, Any]) -> None:
        """Nothing yet."""

    def on_end(self, stage: Stage, record: TrialRecord, result: dict[str, Any]) -> None:
        discard(self._checkpoints / record.trial_id / "training")
