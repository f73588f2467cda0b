"""Folders that are built once on a node and then shared: a lock, a build beside, an atomic rename.

Ten processes that start at once agree: one builds, the others wait and find the folder complete. A process that
is killed while it builds leaves a folder that nobody reads and the next builder sweeps away.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from fusion_models.data.errors import DataError
from fusion_models.data.tables import TABLES, TableFolder
from fusion_models.files import whole_folder, write_whole

_MANIFEST = "complete.json"
_ELSEWHERE = "Name a writable one with `cache=` or $FUSION_SEARCH_CACHE."


def cache_root(cache: str | Path | None = None) -> Path:
    """The folder given, else `$FUSION_SEARCH_CACHE`, else `fusion-search` in the user's cache folder; made if new."""
    named = cache if cache is not None else os.environ.get("FUSION_SEARCH_CACHE")
    try:
        if named:
            root = Path(named).expanduser()
        else:
            root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fusion-search"
    except RuntimeError as error:  # a uid that no passwd entry gives a home
        raise DataError(f"no cache folder: {error}", _ELSEWHERE) from error
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"the cache folder {root} cannot be made ({error.strerror}).", _ELSEWHERE) from error
    return root


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """What the disk refuses, in one line. Whoever reads tables in here turns their errors into DataError himself."""
    try:
        yield
    except NotImplementedError as error:  # filelock's, where a file system has no locks
        raise DataError(f"the cache folder {folder.parent} knows no locks ({error}).", _ELSEWHERE) from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        free = shutil.disk_usage(folder.parent).free / 1e9 if folder.parent.exists() else 0.0
        problem = f"is full ({free:.1f} GB free)" if full else f"cannot be written ({error.strerror or error})"
        remedy = "Free some space, or name another one with" if full else "Name a writable one with"
        raise DataError(
            f"the cache folder {folder.parent} {problem}.", f"{remedy} `cache=` or $FUSION_SEARCH_CACHE."
        ) from error


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """`folder`, complete: built by `build(empty folder)` where no process on this node has done so yet.

    What `build` raises passes through, and leaves nothing behind.
    """
    with _writing(folder):
        if _is_complete(folder):
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        _build(folder, build)
    return folder


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    with FileLock(folder.parent / f"{folder.name}.lock"):
        if _is_complete(folder):
            return
        for stale in folder.parent.glob(f"{folder.name}.building-*"):
            shutil.rmtree(stale, ignore_errors=True)
        workshop = folder.parent / f"{folder.name}.building-{uuid.uuid4().hex[:8]}"
        with whole_folder(folder, staging=workshop):  # one that is there has lost files of its own
            build(workshop)
            _sign(workshop)


def fingerprint(tables: TableFolder, root: Path) -> str:
    """32 hexadecimal digits that the bytes of the three tables decide, wherever they lie, and what is declared of them.

    A file is read once; after that its size and time (or ETag) vouch for it, through a note in `root`.
    """
    identities = [tables.identity(table) for table in TABLES]
    known = all(identity is not None for identity in identities)
    note = root / "fingerprints" / hashlib.sha256("\n".join(map(str, identities)).encode()).hexdigest()[:32]
    if known and note.exists():
        return _declared(tables, note.read_text())
    value = hashlib.sha256("\n".join(tables.digest(table) for table in TABLES).encode()).hexdigest()[:32]
    if known:
        with suppress(OSError):  # a cache that is full, or that one may only read, costs reading the tables again
            note.parent.mkdir(exist_ok=True)
            write_whole(note, value)
    return _declared(tables, value)


def _declared(tables: TableFolder, value: str) -> str:
    """The tables' digest, and what is declared of them where that is not the default."""
    if tables.declared.is_default:
        return value
    return hashlib.sha256(f"{value}\n{tables.declared.to_toml()}".encode()).hexdigest()[:32]


def _sign(folder: Path) -> None:
    """Note every file below the folder, and its size; a copy of a signed folder is signed anew."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / _MANIFEST)
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    (folder / _MANIFEST).write_text(json.dumps(sizes))


def _is_complete(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / _MANIFEST).read_text())
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return False
