"""Files and folders that a reader finds whole or not at all, and the same file under two names."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yields a name beside `path` to write to; after the block what was written stands at `path`, in one step.

    A block that raises leaves `path` as it was, and nothing beside it. A process that is killed may leave the file
    beside it, whose name begins with a dot.
    """
    staging = _beside(path)
    try:
        yield staging
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write `content` (text as UTF-8) so that a reader sees the old file or the new one, never a part."""
    with whole(path) as staging:
        staging.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def whole_folder(folder: Path, *, previous: Path | None = None, staging: Path | None = None) -> Iterator[Path]:
    """Yields an empty folder to fill; after the block it stands in the place of `folder`.

    What stood there is kept as `previous`, or deleted. Between the two a reader finds no `folder` for a moment. A block
    that raises leaves both as they were. `staging`: what the folder is called while it is filled.
    """
    staging = staging or _beside(folder)
    try:
        staging.mkdir(parents=True)
        yield staging
        if previous is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            shutil.rmtree(previous, ignore_errors=True)
            if folder.exists():
                folder.rename(previous)
        os.replace(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system has no hard links.

    Nothing where `source` does not exist, or `target` does.
    """
    if not source.exists() or target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        with whole(target) as staging:
            shutil.copy2(source, staging)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
