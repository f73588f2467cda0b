"""Live progress: trials done, front, hypervolume, best gain, time left."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.status import Status

from search.front import GrowingFront
from search.job import Job, TrialRecord
from search.stages import SearchStage, Stage
from spaces import Phase


class ProgressObserver:
    """One line that changes in a terminal; a line a trial where the output is a file."""

    def __init__(self, console: Console, phase: Phase, total: int) -> None:
        self._console = console
        self._total = total
        self._began = time.monotonic()
        self._ended = 0
        self._front = GrowingFront(phase)
        self._status: Status | None = None

    def __enter__(self) -> ProgressObserver:
        if self._console.is_terminal:
            self._status = self._console.status("starting the trainings …")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def take(self, records: list[TrialRecord]) -> None:
        """Count what an interrupted run had already finished."""
        for record in records:
            if record.stage == "search":
                self._front.add(record)

    def on_epoch(self, stage: Stage, job: Job, result: dict[str, Any]) -> None:
        """Show that something moves."""
        if self._status is not None:
            self._status.update(self._line(f"{job.trial_id} epoch {result.get('epochs', 0)}"))

    def on_end(self, stage: Stage, record: TrialRecord, result: dict[str, Any]) -> None:
        """Count the trial, and say what it gave."""
        self._ended += 1
        if isinstance(stage, SearchStage):
            self._front.add(record)
        gain = record.numbers.get("ndcg_gain")
        said = f"gain {gain:+.4f}" if record.finished and gain is not None else record.state_reason
        note = f"{record.trial_id} {record.name}: {record.state}, {said}"
        if self._status is not None:
            self._status.update(self._line(note))
            if record.state == "failed":
                self._console.print(f"[yellow]{note}")
        else:
            self._console.print(self._line(note), highlight=False, soft_wrap=True)

    def _line(self, note: str) -> str:
        return (
            f"{self._ended}/{self._total} trainings · front {len(self._front)} · "
            f"hypervolume {self._front.hypervolume:.3f} · best gain {self._front.best_gain:+.4f} · "
            f"{self._left()} left · {note}"
        )

    def _left(self) -> str:
        done = self._ended
        if done == 0:
            return "? s"
        return clock((time.monotonic() - self._began) / done * max(0, self._total - done))


def clock(seconds: float) -> str:
    """`75.2` -> `1 min 15 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
