"""Remote calls: calls that a process makes between trainings, since it has torch and the data loaded already.

They travel as files of this machine: what a Tune trial is told and tells is kept for the whole run, and a ranker or the
values of a split are large.
"""

from __future__ import annotations

import pickle
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fusion_models.files import write_whole
from search.execution.interrupts import raise_if_interrupted

IDLE_SECONDS = 0.2
"""How long a process that waits sleeps before it asks again."""
LOOK_SECONDS = 1.0


class RemoteCall:
    """One call, for the process that makes it `path`; for the driver, who asked for it, its answer."""

    def __init__(self, folder: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.path = folder / f"{uuid.uuid4().hex}.pickle"
        self.path.write_bytes(pickle.dumps((function, arguments)))
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._told: tuple[Any, Exception | None] | None = None

    def end(self, error: BaseException | None = None) -> None:
        """The call was made, or cannot be."""
        self._error = error
        self._ended.set()

    def answer(self) -> Any:
        """Wait for what the function returned; raises what it raised, or why it could not be made. Each time alike."""
        while not self._ended.wait(LOOK_SECONDS):
            raise_if_interrupted()
        if self._error is not None:
            raise self._error
        if self._told is None:
            self._told = pickle.loads(_answer(self.path).read_bytes())
            for path in (self.path, _answer(self.path)):
                path.unlink()
        value, error = self._told
        if error is not None:
            raise error
        return value


def run_remote_call(path: Path) -> None:
    """Make the call in `path` on one thread, and leave its answer beside it, whole."""
    value, error, threads = None, None, torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        function, arguments = pickle.loads(path.read_bytes())
        value = function(*arguments)
    except Exception as raised:
        error = raised
    finally:
        torch.set_num_threads(threads)
    write_whole(_answer(path), pickle.dumps((value, error)))


def _answer(path: Path) -> Path:
    return path.with_suffix(".answer")
