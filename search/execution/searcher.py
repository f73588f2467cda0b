"""Stages as a Tune Searcher: Ray asks for configurations and reports results; the journal decides."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from ray.tune.search import Searcher

from search.execution.interrupts import raise_if_interrupted
from search.execution.remote_calls import RemoteCall
from search.run_store.job import Cause, Job, NoRoomError, Outcome, State, TrialRecord, below
from search.study.stages import Stage


class Observer(Protocol):
    """Whoever wants to hear of results while they come: the progress line, TensorBoard, the tables."""

    def on_epoch(self, stage: Stage, job: Job, result: dict[str, Any]) -> None: ...
    def on_end(self, stage: Stage, record: TrialRecord, result: dict[str, Any]) -> None: ...


Deadline = Callable[[], float]
"""The `time.monotonic()` after which no training is begun, as it is known now."""

IDLE_MOST = 8
"""Idle trials at once: more places than that start their processes anew with the next stage."""


class AbandonedError(RuntimeError):
    """The experiment that asks for more is given up: by the driver, or since a result could not be taken in."""


class StageSearcher(Searcher):  # type: ignore[misc]
    """Hands out the jobs of stages, one stage after the other without waiting between them.

    Tune calls it from one thread; `serve`, `send` and `close` may come from another. A trial ends here in one of four
    ways: it says itself that it has finished or failed (`outcome`), Tune saw its process die (`error`), or, with
    neither, a scheduler stopped it.

    With `idle`, a process that has nothing to do is given an idle trial, and the experiment goes on until `close`;
    otherwise it ends with the stages that are served.
    """

    def __init__(
        self,
        *,
        idle: bool = False,
        limit: Callable[[], int] | None = None,
        why_stopped: Callable[[str], str] | None = None,
        why_died: Callable[[str], Cause] | None = None,
        preemptions: Callable[[str], int] | None = None,
        place: Callable[[Job], dict[str, Any]] | None = None,
    ) -> None:
        """`limit`: how many trials may be under way now; None: as many as Tune asks for.

        `place`: what more a trial's configuration says, which is where it is to train.
        """
        super().__init__(metric=None, mode=None)
        self._keeps_idle = idle
        self._limit = limit
        self._why_stopped = why_stopped or (lambda trial_id: "stopped early by the scheduler")
        self._why_died = why_died or (lambda tune_id: Cause(reason="its process died"))
        self._preemptions = preemptions or (lambda tune_id: 0)
        self._place = place or (lambda job: {})
        self._stages: list[Stage] = []
        self._observers: list[Observer] = []
        self._deadline: Deadline | None = None
        self._pauses: list[int] = []
        self._remote_calls: deque[RemoteCall] = deque()
        self._next: tuple[Stage, Job] | RemoteCall | None = None
        self._running: dict[str, tuple[Stage, Job]] = {}
        self._away: dict[str, RemoteCall] = {}
        self._idle: set[str] = set()
        self._last: dict[str, dict[str, Any]] = {}
        self._lock = threading.RLock()
        self._exhausted, self._closing, self._abandoned = True, not idle, False
        self._drained = threading.Event()
        self._ended: BaseException | None = None
        self.failed: BaseException | None = None
        """What went wrong when a result was told or an observer heard of it: Tune keeps that to itself."""

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher into a snapshot that is never read: nothing goes into it."""
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> StageSearcher:
        return self

    def serve(
        self,
        stages: Sequence[Stage],
        observers: Sequence[Observer],
        *,
        deadline: Deadline | None = None,
        pauses: Sequence[int] = (),
    ) -> None:
        """From now on hand out these stages' jobs, up to `deadline`.

        `pauses`: epochs after which a training must report, however short they are.
        """
        with self._lock:
            self._stages, self._observers, self._deadline = list(stages), list(observers), deadline
            self._pauses = list(pauses)
            self._exhausted = False
            self._drained.clear()

    @property
    def drained(self) -> threading.Event:
        """Set once all that `serve` was given has ended."""
        return self._drained

    def send(self, remote_call: RemoteCall) -> None:
        """Have a process make a call, before it trains anything more."""
        with self._lock:
            if self._ended is None:
                self._remote_calls.append(remote_call)
                return
        remote_call.end(self._ended)

    def close(self, *, abandon: bool = False) -> None:
        """Nothing more will come: the experiment ends, at once and with an AbandonedError where it is abandoned."""
        with self._lock:
            self._closing, self._abandoned = True, abandon

    def broken(self, error: BaseException) -> None:
        """The experiment has ended before its time: nobody is to wait for it."""
        with self._lock:
            self._ended = error
            waiting = [*self._remote_calls, *self._away.values()]
            waiting += [self._next] if isinstance(self._next, RemoteCall) else []
            self._remote_calls.clear()
            self._away.clear()
            self._drained.set()
        for remote_call in waiting:
            remote_call.end(error)

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        self._raise_if_interrupted()
        with self._lock:
            if self._abandoned or self.failed is not None:
                raise AbandonedError from self.failed
            busy, limit = len(self._running) + len(self._away), self._limit() if self._limit is not None else None
            if limit is not None and busy + len(self._idle) >= limit:
                return None  # which Tune takes for "not now"
            work, self._next = self._next or self._take(), None
            if isinstance(work, RemoteCall):
                self._away[trial_id] = work
                return {"remote_call": str(work.path)}
            if work is not None:
                self._running[trial_id] = work
                return {"job": work[1].plain(), "pauses": self._pauses} | self._place(work[1])
            if self._closing and (self._exhausted or self._keeps_idle):
                return str(Searcher.FINISHED)
            if not self._keeps_idle:
                return None  # what comes next hangs on a training that has not ended
            if len(self._idle) >= IDLE_MOST:
                return None
            self._idle.add(trial_id)
            return {"job": None}

    def may_idle(self, trial_id: str) -> bool:
        """Whether an idle trial is to go on waiting: not where there is something to do, nor at the end."""
        with self._lock:
            if trial_id in self._idle and self._next is None:
                self._next = self._take()
            return self._next is None and not self._closing

    def _take(self) -> tuple[Stage, Job] | RemoteCall | None:
        """What comes next; None where there is nothing, which may be the end of what is served."""
        if self._remote_calls:
            return self._remote_calls.popleft()
        if self._exhausted:
            return None
        if self._deadline is None or time.monotonic() <= self._deadline():
            waiting = False
            for stage in self._stages:
                job = stage.ask() if stage.ready() else None
                if job is not None:
                    return stage, job
                waiting = waiting or not stage.ready()
            if waiting:
                return None
        self._exhausted = True
        self._look_whether_drained()
        return None

    def _look_whether_drained(self) -> None:
        if self._exhausted and not self._running:
            self._drained.set()

    def _raise_if_interrupted(self) -> None:
        if not self._keeps_idle:  # else the driver looks, which waits in a thread of its own
            raise_if_interrupted()

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._raise_if_interrupted()
        if trial_id in self._running:
            self._last[trial_id] = result
            self._notify(lambda observer: observer.on_epoch(*self._running[trial_id], result))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        with self._lock:
            self._idle.discard(trial_id)
            remote_call = self._away.pop(trial_id, None)
            if remote_call is not None:
                remote_call.end(RuntimeError(self._why_died(trial_id).reason) if error else None)
            if trial_id in self._running:
                try:
                    self._tell(trial_id, result, error)
                finally:
                    self._look_whether_drained()

    def _tell(self, trial_id: str, result: dict[str, Any] | None, error: bool) -> None:
        stage, job = self._running[trial_id]
        last = result or self._last.get(trial_id, {})
        cause = self._why_died(trial_id) if error else Cause(reason=self._why_stopped(job.trial_id))
        outcome = _outcome(last, error, cause)
        times = self._preemptions(trial_id) + int(last.get("preemptions", 0))
        if times:
            outcome = dataclasses.replace(outcome, numbers=outcome.numbers | {"preemptions": float(times)})
        del self._running[trial_id]
        self._last.pop(trial_id, None)
        if outcome.failure == "disk_full":  # not told, so that it is the first to go on
            with self._remembered():
                raise NoRoomError(
                    f"{job.trial_id} was trained and could not be kept ({outcome.reason}): free some room, then go on "
                    "with --resume, or with the same --settle or --extend"
                )
        with self._remembered():
            record = stage.tell(job, outcome)
        self._notify(lambda observer: observer.on_end(stage, record, last))

    def _notify(self, call: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            with self._remembered():
                call(observer)

    @contextlib.contextmanager
    def _remembered(self) -> Iterator[None]:
        """Tune would try the trial again after an error, and leave its actors alone after what is no Exception."""
        try:
            yield
        except BaseException as error:
            self.failed = self.failed or error
            raise AbandonedError from error

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the only truth. Tune wants a file."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a run is resumed from its journal, never from Tune's own snapshot")


def _outcome(last: dict[str, Any], error: bool, cause: Cause) -> Outcome:
    state: State = "failed" if error else last.get("outcome", "stopped")
    told = not error and "reason" in last
    return Outcome(
        state=state,
        reason=last["reason"] if told else cause.reason,
        failure=last.get("failure") if told else cause.failure,
        epochs=int(last.get("epochs", 0)),
        numbers=below(last, "numbers"),
        seconds=float(last.get("seconds", float("nan"))),
    )
