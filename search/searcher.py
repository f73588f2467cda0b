"""Stages as a Tune Searcher: Ray asks for configurations and reports results; the journal decides."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ray.tune.search import Searcher

from search.interrupts import raise_if_interrupted
from search.job import Job, Outcome, State, TrialRecord, below
from search.stages import Stage


class Observer(Protocol):
    """Whoever wants to hear of results while they come: the progress line, TensorBoard, the tables."""

    def on_epoch(self, stage: Stage, job: Job, result: dict[str, Any]) -> None: ...
    def on_end(self, stage: Stage, record: TrialRecord, result: dict[str, Any]) -> None: ...


class StageSearcher(Searcher):  # type: ignore[misc]
    """Hands out the jobs of several stages, one stage after the other without waiting between them.

    Tune calls it from one thread. A trial ends here in one of four ways: it says itself that it has finished or failed
    (`outcome`), Tune saw its process die (`error`), or, with neither, a scheduler stopped it.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        observers: Sequence[Observer],
        *,
        deadline: float | None = None,
        why_stopped: Callable[[str], str] | None = None,
        why_died: Callable[[str], str] | None = None,
        preemptions: Callable[[str], int] | None = None,
        limit: Callable[[], int] | None = None,
    ) -> None:
        """`limit`: how many trials may be under way now; None: as many as Tune asks for."""
        super().__init__(metric=None, mode=None)
        self._stages = list(stages)
        self._observers = list(observers)
        self._deadline = deadline
        self._why_stopped = why_stopped or (lambda trial_id: "stopped early by the scheduler")
        self._why_died = why_died or (lambda tune_id: "its process died")
        self._preemptions = preemptions or (lambda tune_id: 0)
        self._limit = limit
        self._running: dict[str, tuple[Stage, Job]] = {}
        self._last: dict[str, dict[str, Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher into a snapshot that is never read: nothing goes into it."""
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> StageSearcher:
        return self

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        raise_if_interrupted()
        if self._deadline is not None and time.monotonic() > self._deadline:
            return str(Searcher.FINISHED)
        if self._limit is not None and len(self._running) >= self._limit():
            return None  # which Tune takes for "not now"
        for stage in self._stages:
            job = stage.ask()
            if job is not None:
                self._running[trial_id] = (stage, job)
                return {"job": vars(job)}
        return str(Searcher.FINISHED)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        raise_if_interrupted()
        if trial_id in self._running:
            self._last[trial_id] = result
            self._notify(lambda observer: observer.on_epoch(*self._running[trial_id], result))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if trial_id not in self._running:
            return
        stage, job = self._running.pop(trial_id)
        last = result or self._last.pop(trial_id, {})
        self._last.pop(trial_id, None)
        why = self._why_died(trial_id) if error else self._why_stopped(job.trial_id)
        outcome = _outcome(last, error, why)
        times = self._preemptions(trial_id) + int(last.get("preemptions", 0))
        if times:
            outcome = dataclasses.replace(outcome, numbers=outcome.numbers | {"preemptions": float(times)})
        record = stage.tell(job, outcome)
        self._notify(lambda observer: observer.on_end(stage, record, last))

    def _notify(self, call: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            call(observer)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the only truth. Tune wants a file."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a run is resumed from its journal, never from Tune's own snapshot")


def _outcome(last: dict[str, Any], error: bool, why: str) -> Outcome:
    state: State
    if error:
        state, reason = "failed", why
    else:
        state, reason = last.get("outcome", "stopped"), last.get("reason", why)
    return Outcome(
        state=state,
        reason=reason,
        epochs=int(last.get("epochs", 0)),
        numbers=below(last, "numbers"),
        seconds=float(last.get("seconds", float("nan"))),
    )
