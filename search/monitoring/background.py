"""An observer on a thread of its own: what it writes does not hold up the trainings."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from search.execution.searcher import Observer
from search.run_store.job import Job, TrialRecord
from search.study.stages import Stage


class InBackground:
    """Passes everything on to an observer, in order, from one thread; leaving the block waits until all is done.

    What the observer raises is handed to `failed` when the block is left; after it nothing more is passed on.

    For observers whose writing may lag a little behind: the journal is never written here.
    """

    def __init__(self, observer: Observer, failed: Callable[[Exception], None]) -> None:
        self._observer, self._failed = observer, failed
        self._waiting: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=type(observer).__name__, daemon=True)
        self._error: Exception | None = None

    def __enter__(self) -> InBackground:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.put(None)
        self._thread.join()
        if self._error is not None:
            self._failed(self._error)

    def on_epoch(self, stage: Stage, job: Job, result: dict[str, Any]) -> None:
        self._waiting.put(lambda: self._observer.on_epoch(stage, job, result))

    def on_end(self, stage: Stage, record: TrialRecord, result: dict[str, Any]) -> None:
        self._waiting.put(lambda: self._observer.on_end(stage, record, result))

    def _work(self) -> None:
        while (call := self._waiting.get()) is not None:
            if self._error is None:
                try:
                    call()
                except Exception as error:
                    self._error = error
