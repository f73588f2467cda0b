"""Which process of this machine drives a run whose folder is a working copy: nobody may replace it meanwhile."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def driving(folder: Path) -> Iterator[None]:
    """While the block runs, `driven` says so of `folder`; the lock ends with the process, however it ends.

    A phase of a roadmap is driven within it, by the same process. Where no file can be locked, nothing is said.
    """
    file = _locked(folder)
    try:
        yield
    finally:
        if file is not None:
            file.close()


def driven(folder: Path) -> bool:
    """Whether a process of this machine drives the run in `folder` now, this one included."""
    path = _lock_file(folder)
    if not path.exists():
        return False
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a file system without locks
            return False
    return False


def _locked(folder: Path) -> IO[str] | None:
    path = _lock_file(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def _lock_file(folder: Path) -> Path:
    """Beside the folder, which may be deleted and made anew meanwhile."""
    return folder.parent / f".{folder.name}.driven"
