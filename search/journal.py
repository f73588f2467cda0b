"""The journal: the one file that knows which trials were asked and what became of them."""

from __future__ import annotations

import os
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock


def open_journal(path: Path) -> JournalStorage:
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
    return JournalStorage(JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path))))


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
        file.truncate(end)
        os.fsync(file.fileno())
    return size - end
