"""Mirrors a run folder after each training that ends, without making the trainings wait."""

from __future__ import annotations

import threading
from typing import Any

from rich.console import Console

from search.run_store.job import Job, TrialRecord
from search.run_store.mirror import Mirror, MirrorError
from search.study.stages import Stage


class MirrorObserver:
    """Mirrors after each training that ends, without making the trainings wait."""

    def __init__(self, mirror: Mirror, console: Console) -> None:
        self._mirror = mirror
        self._console = console
        self._due = threading.Event()
        self._closing = False
        self._failed = False
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        self._thread.start()

    def on_epoch(self, stage: Stage, job: Job, result: dict[str, Any]) -> None:
        """Nothing: what an unfinished training has stays here."""

    def on_end(self, stage: Stage, record: TrialRecord, result: dict[str, Any]) -> None:
        """Have the folder mirrored soon."""
        self._due.set()

    def close(self) -> None:
        """Wait for the mirroring that is under way."""
        self._closing = True
        self._due.set()
        self._thread.join()

    def _work(self) -> None:
        while True:
            self._due.wait()
            self._due.clear()
            if self._closing:
                return
            try:
                self._mirror.sync()
                self._failed = False
            except MirrorError as error:  # the run goes on; the next training that ends tries again
                if not self._failed:
                    self._console.print(f"not mirrored for now: {error}", style="yellow", highlight=False, markup=False)
                self._failed = True
