"""Live progress: trials done, front, hypervolume, best gain, time left."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.status import Status

from search.front import hypervolume, pareto_front
from search.job import Job, TrialRecord
from search.stages import SearchStage, Stage
from spaces import Phase


class ProgressObserver:
    """One line that changes in a terminal; a line a trial where the output is a file."""

    def __init__(self, console: Console, phase: Phase, total: int) -> None:
        self._console = console
        self._phase = phase
        self._total = total
        self._began = time.monotonic()
        self._ended: list[TrialRecord] = []
        self._searched: list[TrialRecord] = []
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
        self._searched += [r for r in records if r.stage == "search"]

    def on_epoch(self, stage: Stage, job: Job, result: dict[str, Any]) -> None:
        """Show that something moves."""
        if self._status is not None:
            self._status.update(self._line(f"{job.trial_id} epoch {result.get('epochs', 0)}"))

    def on_end(self, stage: Stage, record: TrialRecord, result: dict[str, Any]) -> None:
        """Count the trial, and say what it gave."""
        self._ended.append(record)
        if isinstance(stage, SearchStage):
            self._searched.append(record)
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
        front = pareto_front(self._phase, self._searched)
        best = max((r.numbers["ndcg_gain"] for r in front), default=float("nan"))
        return (
            f"{len(self._ended)}/{self._total} trainings · front {len(front)} · "
            f"hypervolume {hypervolume(self._phase, self._searched):.3f} · best gain {best:+.4f} · "
            f"{self._left()} left · {note}"
        )

    def _left(self) -> str:
        done = len(self._ended)
        if done == 0:
            return "? s"
        return clock((time.monotonic() - self._began) / done * max(0, self._total - done))


def clock(seconds: float) -> str:
    """`75.2` -> `1 min 15 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
