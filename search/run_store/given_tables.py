"""Tables that live in memory alone, kept beside the run folders so that a run on them can be opened again."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fusion_models.data.errors import DataError
from fusion_models.data.in_memory import GivenTables
from fusion_models.data.tables import TABLES, Declaration, filesystem_of, local_path
from search.run_store.folder import usable
from search.run_store.mirror import is_uri

KEPT = "data"
"""Below the results: one folder a dataset, named by its content."""


def keep_tables(results: str, tables: Mapping[str, Any]) -> str:
    """Write `items`, `queries` and `judgements` as Parquet to RESULTS/data/KEY, and return that folder or URI.

    A table is whatever `open_dataset(items=...)` takes: a frame, an Arrow table, a dict of columns, a path, a URI or a
    glob. KEY follows from the content, so that the same tables are the same dataset whenever they are given again: such
    a run can be resumed.

    Raises DataError where a table is missing or cannot be written as Parquet, RunFolderError where the results hold no
    folder.
    """
    given = GivenTables(tables, Declaration())
    place = results if is_uri(results) else str(local_path(results.removeprefix("file://")).absolute())
    with _scratch() as scratch:
        given.write(scratch, plainly=True)
        location = f"{place.rstrip('/')}/{KEPT}/{_key(scratch)}"
        filesystem, root = filesystem_of(location)
        written = sorted(path.relative_to(scratch).as_posix() for path in scratch.rglob("*") if path.is_file())
        with usable(Path(place)):
            for name in written:
                _put(filesystem, scratch / name, f"{root.rstrip('/')}/{name}")
    return location


def _put(filesystem: Any, file: Path, target: str) -> None:
    """Copy a file to where it is not there yet; whoever reads it there finds it whole, whoever else puts it there."""
    folder, name = target.rsplit("/", 1)
    filesystem.makedirs(folder, exist_ok=True)
    if filesystem.exists(target):
        return
    part = f"{folder}/.{name}.{uuid.uuid4().hex}.part"  # hidden: in a folder of parts nobody reads it
    try:
        filesystem.put_file(str(file), part)
        if not filesystem.exists(target):
            filesystem.mv(part, target)
    except FileExistsError:  # a store that replaces nothing
        pass
    finally:
        with contextlib.suppress(OSError):
            if filesystem.exists(part):
                filesystem.rm_file(part)


def _key(folder: Path) -> str:
    """16 hexadecimal digits of the tables' bytes and parts; earlier versions give tables in memory the same."""
    state = hashlib.sha256()
    for name in TABLES:
        table = folder / f"{name}.parquet"
        for path in sorted(table.iterdir()) if table.is_dir() else [table]:
            state.update(path.name.encode() if path != table else b"")
            with path.open("rb") as file:
                state.update(hashlib.file_digest(file, "sha256").digest())
    return state.hexdigest()[:16]


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """An empty folder for the block, which uses nothing else of the disk without saying so itself."""
    try:
        with tempfile.TemporaryDirectory(prefix="fusion-search-") as scratch:
            yield Path(scratch)
    except OSError as error:
        raise DataError(
            f"the folder for temporary files cannot be written ({error.strerror or error}).",
            "Free some space, or name another one with $TMPDIR.",
        ) from error
