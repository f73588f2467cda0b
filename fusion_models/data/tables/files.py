"""The three Parquet tables of a dataset, in a folder that a path or any fsspec / pyarrow URI names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fusion_models.data.errors import DataError

TABLES: tuple[str, ...] = ("items", "queries", "judgements")
BATCH_ROWS = 256
"""Rows decoded at once while a table streams: 1 MiB for 1,024 float32 features an item."""
_BUFFER_BYTES = 1 << 20  # read a column chunk piece by piece, so that a giant row group need not fit in memory


@dataclass(frozen=True)
class TableFolder:
    """Where three tables lie, and how to read them."""

    location: str
    """As the user wrote it."""
    filesystem: Any
    """An fsspec file system."""
    root: str
    """The folder on that file system."""

    def file(self, table: str) -> str:
        """`items.parquet` of `items`: the name that errors print."""
        return f"{table}.parquet"

    def path(self, table: str) -> str:
        """The full path of a table on its file system."""
        return f"{self.root.rstrip('/')}/{self.file(table)}"

    def parquet(self, table: str) -> Any:
        """The table as a `pyarrow.parquet.ParquetFile`; a context manager. Raises DataError where it is unreadable."""
        return open_parquet(self.filesystem, self.path(table), self.file(table))

    def identity(self, table: str) -> str | None:
        """What changes when the file does, without reading it (size with ETag or time); None where unknown."""
        info = self.filesystem.info(self.path(table))
        if self._is_local:
            stamp: Any = os.stat(self.path(table)).st_mtime_ns
        else:
            stamp = next((info[k] for k in ("ETag", "etag", "mtime", "LastModified", "created") if info.get(k)), None)
        return None if stamp is None else f"{self.path(table)}|{info.get('size')}|{stamp}"

    def digest(self, table: str) -> str:
        """SHA-256 of the file's bytes, in hexadecimal."""
        state = hashlib.sha256()
        with self.filesystem.open(self.path(table), "rb") as file:
            while block := file.read(1 << 22):
                state.update(block)
        return state.hexdigest()

    @property
    def _is_local(self) -> bool:
        return _is_local(self.filesystem)


def locate(location: str) -> TableFolder:
    """The folder at a local path or URI; DataError where it does not exist or lacks one of the three tables."""
    filesystem, root = filesystem_of(location)
    folder = TableFolder(location, filesystem, root)
    if filesystem.isfile(root):
        raise DataError(
            f"{location!r} is a file.",
            "A flat table becomes a dataset with `python -m fusion_models.data convert FLAT OUT`. "
            + _WHAT_A_DATASET_IS,
        )
    if not filesystem.isdir(root) and not filesystem.exists(folder.path("items")):
        raise DataError(f"no dataset at {location!r}: there is no such folder.", _WHAT_A_DATASET_IS)
    for table in TABLES:
        if not filesystem.exists(folder.path(table)):
            raise DataError(f"missing from {location}.", _WHAT_A_DATASET_IS, file=folder.file(table))
    return folder


def open_parquet(filesystem: Any, path: str, name: str) -> Any:
    """One Parquet file, read in small pieces. DataError, naming `name`, where it is not Parquet."""
    source = path if _is_local(filesystem) else filesystem.open(path, "rb")
    try:
        return pq.ParquetFile(source, pre_buffer=False, buffer_size=_BUFFER_BYTES)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"cannot be read as Parquet ({error}).", "Write it again.", file=name) from error


def stream(parquet: Any, columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[tuple[int, Any]]:
    """(first row, record batch) over the whole table, a few rows in memory at a time."""
    first = 0
    for batch in parquet.iter_batches(batch_size=rows, columns=list(columns), use_threads=False):
        yield first, batch
        first += batch.num_rows


def refuse_overwriting(location: str | Path) -> None:
    """Raises DataError where the folder already holds one of the three tables."""
    filesystem, root = filesystem_of(str(location))
    for table in TABLES:
        path = f"{root.rstrip('/')}/{table}.parquet"
        if filesystem.exists(path):
            raise DataError(f"{path} is already there.", "Name a new folder, or delete the old tables.")


def vectors(values: npt.NDArray[np.float32]) -> Any:
    """`[n, D]` float32 as an Arrow column of lists of one fixed width."""
    n, width = values.shape
    flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).reshape(n * width))
    return pa.FixedSizeListArray.from_arrays(flat, width)


def write_tables(location: str | Path, tables: Mapping[str, Any], *, row_group_rows: int = 65_536) -> None:
    """Write Arrow tables named as TABLES into a folder (path or URI), which is made where need be."""
    filesystem, root = filesystem_of(str(location))
    filesystem.makedirs(root, exist_ok=True)
    for name, table in tables.items():
        with filesystem.open(f"{root.rstrip('/')}/{name}.parquet", "wb") as file:
            pq.write_table(table, file, row_group_size=row_group_rows, compression="zstd", use_dictionary=_short(table))


def _short(table: Any) -> list[str]:
    """Columns worth a dictionary: text. Floats are all different, and a dictionary of them only costs time."""
    return [f.name for f in table.schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]


def filesystem_of(location: str) -> tuple[Any, str]:
    """An fsspec file system and the path on it, for a path or URI. DataError where no library opens it."""
    try:
        filesystem, root = fsspec.core.url_to_fs(os.path.expanduser(location))
    except (ImportError, ValueError) as missing:
        try:
            from fsspec.implementations.arrow import ArrowFSWrapper
            from pyarrow import fs

            arrow, root = fs.FileSystem.from_uri(location)
            filesystem = ArrowFSWrapper(arrow)
        except (pa.ArrowInvalid, NotImplementedError, ImportError) as error:
            raise DataError(f"cannot open {location!r}: {missing}; {error}.", _WHAT_A_DATASET_IS) from error
    return filesystem, str(root)


def _is_local(filesystem: Any) -> bool:
    protocol = filesystem.protocol
    return "file" in ((protocol,) if isinstance(protocol, str) else tuple(protocol))


_WHAT_A_DATASET_IS = (
    "Give `clipart`, `planted`, `planted:PRESET`, or a folder (path or URI) with items.parquet, queries.parquet "
    "and judgements.parquet."
)
