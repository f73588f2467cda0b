"""Which process drives a run: one at a time writes a run folder, and nobody replaces or deletes it meanwhile."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from search.run_store.folder import RunFolderError, usable

_LOCK = ".driven"
LOOKS, LOOK_SECONDS = 5, 0.02
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EACCES, errno.EPERM, errno.EROFS)
"""What the system says where there are no locks, or this user may not write: then nobody is kept out."""
_held: dict[Path, int] = {}
"""Folders that this process drives, and the thread that does."""


@contextlib.contextmanager
def driving(folder: Path) -> Iterator[None]:
    """While the block runs, this thread alone writes the run in `folder`, and `driven` says so of it.

    The system ends the lock with the process, however it ends, so a run that was killed is gone on with at once. A
    phase of a roadmap is driven within it, by the same thread. Where no file can be locked, nobody is kept out. Whoever
    only reads a run needs none.

    Raises RunFolderError where somebody else drives the run, the roadmap that it is a phase of, or a phase in it.
    """
    place = folder.resolve()
    if _mine(place) or _mine(place.parent):
        yield
        return
    with contextlib.ExitStack() as leaving:
        file = _locked(place, leaving)
        for other in (place.parent, *_inside(place)):
            if driven(other):
                raise _busy(other)
        if file is not None:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node() or 'this machine'}")
            file.flush()
            _held[place] = threading.get_ident()
            leaving.callback(_held.pop, place)
        yield


def driven(folder: Path) -> bool:
    """Whether a process of this machine drives the run in `folder` now, this one included."""
    try:
        with _lock_file(folder.resolve()).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file, or a file system without locks
        return False
    return False


def _mine(place: Path) -> bool:
    return _held.get(place) == threading.get_ident()


def _inside(place: Path) -> list[Path]:
    """Folders in `place` that were driven by themselves once: phases of a roadmap."""
    with contextlib.suppress(OSError):
        return [place / path.name[1 : -len(_LOCK)] for path in place.glob(f".*{_LOCK}")]
    return []


def _locked(place: Path, leaving: contextlib.ExitStack) -> IO[str] | None:
    """The lock file, held until `leaving`, and then deleted with the folders that were made for it.

    None where none can be locked. Raises RunFolderError, or NoRoomError, where the system says anything else.
    """
    path = _lock_file(place)
    made = [parent for parent in path.parents if not parent.exists()]
    try:
        leaving.callback(_delete_empty, made)
        while True:
            file = _opened(path)
            leaving.callback(file.close)
            _lock(file)
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(file.fileno()).st_ino:  # else deleted by who held it until now
                    break
    except BlockingIOError:
        raise _busy(place) from None
    except OSError as error:
        if error.errno in NO_LOCKS:
            return None
        with usable(place):
            raise
    leaving.callback(path.unlink, missing_ok=True)
    return file


def _opened(path: Path) -> IO[str]:
    """The lock file; its folder is made anew where another driver, which ends now, deletes it as an empty one."""
    for left in reversed(range(LOOKS)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return path.open("a")
        except FileNotFoundError:
            if not left:
                raise
    raise AssertionError


def _lock(file: IO[str]) -> None:
    """Raises BlockingIOError where somebody else has it for longer than a look (`driven`) takes."""
    for pause in (*(LOOKS * [LOOK_SECONDS]), None):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if pause is None:
                raise
            time.sleep(pause)
        else:
            return


def _delete_empty(folders: list[Path]) -> None:
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _busy(place: Path) -> RunFolderError:
    who = "another process"
    with contextlib.suppress(OSError):
        who = _lock_file(place).read_text() or who
    return RunFolderError(f"{place} is being run now by {who}: wait until it has ended, or give another --name")


def _lock_file(place: Path) -> Path:
    """Beside the folder, which may be deleted and made anew meanwhile."""
    return place.parent / f".{place.name}{_LOCK}"
