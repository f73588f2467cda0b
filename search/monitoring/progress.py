"""Live progress: trials done, front, hypervolume, best gain, time left."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

from search.analysis.front import GrowingFront
from search.monitoring.notebook import NotebookBar
from search.run_store.job import Job, TrialRecord
from search.study.search_stage import SearchStage
from search.study.stages import Stage
from spaces import Phase

STAGES = {"confirm": "short list"}
"""What a reader calls a stage, where that is not its name."""
SCREEN = 76
"""Columns of the live lines."""


class ProgressObserver:
    """One line that changes in a terminal, a bar in a notebook; a line a trial where the output is a file."""

    def __init__(self, console: Console, phase: Phase, total: int, *, of: Sequence[str] = ()) -> None:
        """`total` trainings, `of` these stages: the time left is theirs, and other stages may follow."""
        self._of = f" ({', '.join(STAGES.get(name, name) for name in of)})" if of else ""
        self._console = console
        self._total = total
        self._began = time.monotonic()
        self._ended = 0
        self._front = GrowingFront(phase)
        self._status: Status | None = None
        self._bar: NotebookBar | None = None
        self._waiting, self._room = 0, -1

    def __enter__(self) -> ProgressObserver:
        if self._console.is_jupyter:
            self._bar = NotebookBar(self._total)
        elif self._console.is_terminal:
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
        self._show(f"{job.trial_id} epoch {result.get('epochs', 0)}")

    def on_waiting(self, waiting: int, room: int) -> None:
        """Say that trainings wait for a cluster to grow, and what it has room for."""
        if self._status is None and room != self._room:
            waits = f"{waiting} waiting for room: " if waiting else ""
            said = f"{self._ended}/{self._total} trainings · {waits}the cluster has room for {room} at once now"
            self._console.print(said, highlight=False)
        self._waiting, self._room = waiting, room
        self._show("the cluster grew or shrank" if self._ended else "starting")

    def _show(self, note: str) -> None:
        if self._bar is not None:
            self._bar.update(self._ended, f"{self._done()} · {self._so_far()} · {note}")
        if self._status is not None:
            self._status.update(self._screen(note))

    def on_end(self, stage: Stage, record: TrialRecord, result: dict[str, Any]) -> None:
        """Count the trial, and say what it gave."""
        self._ended += 1
        if isinstance(stage, SearchStage):
            self._front.add(record)
        gain = record.numbers.get("ndcg_gain")
        said = f"gain {gain:+.4f}" if record.finished and gain is not None else record.state_reason
        note = f"{record.trial_id} {record.name}: {record.state}, {said}"
        self._show(note)
        if self._status is not None:
            if record.state == "failed":
                self._console.print(note, style="yellow", markup=False)
        else:
            line = f"{self._done()} · {self._so_far()} · {note}"
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _screen(self, note: str) -> Text:
        """Two lines that fit into 80 columns; what a trial failed of is printed above them, in full."""
        lines = (f"{self._done()} · {note}", f"  {self._so_far()}")
        return Text("\n".join(line if len(line) < SCREEN else f"{line[: SCREEN - 1]}…" for line in lines))

    def _done(self) -> str:
        waiting = f"{self._waiting} waiting (room for {self._room}), " if self._waiting else ""
        return f"{self._ended}/{self._total} trainings{self._of}, {waiting}{self._left()}"

    def _so_far(self) -> str:
        gain = self._front.best_gain
        best = f"{gain:+.4f}" if math.isfinite(gain) else "–"
        return f"front {len(self._front)} · hypervolume {self._front.hypervolume:.3f} · best gain {best}"

    def _left(self) -> str:
        done = self._ended
        if done == 0:
            return "time left unknown yet"
        return f"{clock((time.monotonic() - self._began) / done * max(0, self._total - done))} left"


def clock(seconds: float) -> str:
    """`75.2` -> `1 min 15 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
