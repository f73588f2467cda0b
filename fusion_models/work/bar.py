"""A bar with the time left for work that tells how far it is (`fusion_models.work`)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.errors import LiveError
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from fusion_models.terminal import plain
from fusion_models.work.telling import heard_by

AFTER = 0.3
"""Seconds of one kind of work before it is worth showing."""
EVERY = 20.0
"""Seconds between two lines where the output is no terminal."""


@contextlib.contextmanager
def shown_work(console: Console) -> Iterator[None]:
    """While the block runs, show on `console` how far long work is, and about how long it has to go.

    A bar in a terminal, which goes when its work is done; elsewhere a line now and then; nothing on a quiet console.
    """
    if console.quiet:
        yield
        return
    bar = _Bar(console) if console.is_terminal and not console.is_jupyter else _Lines(console)
    try:
        with heard_by(bar.hear):
            yield
    finally:
        bar.end()


class _Bar:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._what, self._since = "", 0.0

    def hear(self, what: str, done: int, total: int) -> None:
        if what != self._what:
            self.end()
            self._what, self._since = what, time.monotonic()
        if done >= total:
            self.end()
        elif self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total)
        elif time.monotonic() - self._since >= AFTER:
            self._begin(done, total)

    def _begin(self, done: int, total: int) -> None:
        progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:3.0f} %"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self._console,
            transient=True,
        )
        try:
            progress.start()
        except LiveError:  # trainings are shown already, by a display of their own
            return
        shown = plain(self._what, self._console.encoding)
        self._progress, self._task = progress, progress.add_task(shown, total=total, completed=done)

    def end(self) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._task = None
        self._what = ""


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._what, self._since, self._said = "", 0.0, 0.0

    def hear(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what != self._what:
            self._what, self._since, self._said = what, now, now
        elif now - self._said >= EVERY and 0 < done < total:
            left = (now - self._since) / done * (total - done)
            self._said = now
            said = f"{what}: {100 * done / total:.0f} %, about {left:.0f} s left"
            self._console.print(said, highlight=False, markup=False, soft_wrap=True)

    def end(self) -> None:
        """A log keeps its lines."""
