"""The journal: the one file that knows which trials were asked and what became of them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.storages.journal._file import get_lock_file


class Journal(JournalStorage):
    """Optuna's journal, whose lines can reach the disk together."""

    def __init__(self, path: Path) -> None:
        self._file = _File(str(path), lock_obj=JournalFileOpenLock(str(path)))
        super().__init__(self._file)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """One fsync for all that is written in the block, at its end.

        Every line is in the file at once, and so outlives this process; what waits for the block's end is its safety
        from a power cut. Asking for one trial writes some twenty lines, each of which Optuna syncs by itself.
        """
        outer, self._file.deferred = self._file.deferred, True
        try:
            yield
        finally:
            self._file.deferred = outer
            if not outer:
                self._file.sync()


class _File(JournalFileBackend):
    deferred = False
    _unsynced = False

    def __init__(self, path: str, *, lock_obj: JournalFileOpenLock) -> None:
        super().__init__(path, lock_obj=lock_obj)
        self._path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        if not self.deferred:
            super().append_logs(logs)
            return
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with get_lock_file(self._lock), open(self._path, "ab") as file:
            file.write(lines.encode("utf-8"))
        self._unsynced = True

    def sync(self) -> None:
        if self._unsynced:
            with open(self._path, "rb+") as file:
                os.fsync(file.fileno())
            self._unsynced = False


def together(storage: BaseStorage) -> contextlib.AbstractContextManager[None]:
    """`Journal.together` where `storage` is a journal; any other storage writes as it always does."""
    return storage.together() if isinstance(storage, Journal) else contextlib.nullcontext()


def open_journal(path: Path) -> Journal:
    """Open (or create) the journal at `path`, cut back to its last whole line.

    A process killed while it wrote leaves half a line at the end, and Optuna cannot load a study whose journal has
    one. What the half line said was never acknowledged, so nothing that finished is lost by cutting it.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        cut_torn_tail(path)
    lock = Path(f"{path}.lock")
    lock.unlink(missing_ok=True)  # of a writer that was killed: one driver writes a journal
    return Journal(path)


def cut_torn_tail(path: Path) -> int:
    """Cut `path` to its last newline; returns how many bytes went."""
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        end = size
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:  # a whole journal is left untouched: cutting it to its own size would change its time
            file.truncate(end)
            os.fsync(file.fileno())
    return size - end
