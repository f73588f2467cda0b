"""Opens three tables that a program holds in memory, or names one by one: they are copied into the cache as Parquet.

A run then notes the path of that copy. Workers in other processes and resumed runs open it like any other dataset.
"""

from __future__ import annotations

import hashlib
import itertools
import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fusion_models.data.arrays.cache import build_once
from fusion_models.data.arrays.scalars import scalar_columns
from fusion_models.data.errors import DataError, foreign_errors
from fusion_models.data.tables import TABLES, Declaration, TableReader, table_parts
from fusion_models.data.tables.columns import plain
from fusion_models.data.tables.declaration import FILE as DECLARATION
from fusion_models.work.foreign import first_line

FORMAT = 2
"""Of the copies: part of their name."""
COPIED_ROWS = 8_192
READ = {
    "items": ("item_id", "title", "image"),
    "queries": ("query_id", "features", "subdomain", "text", "split", "timestamp", "weight"),
    "judgements": ("query_id", "item_id", "label", "v1_score", "features"),
}
"""Columns that a dataset reads, besides its modalities. Others are copied, but where two have one name."""


def kept_tables(tables: Mapping[str, Any], root: Path, declared: Declaration) -> Path:
    """The folder in the cache `root` that holds the three tables, written there unless it is there already.

    `tables`: `items`, `queries`, `judgements`, each a pandas or polars frame, an Arrow table, record batch or reader
    (anything with `__arrow_c_stream__`), a dict of columns, or the path, URI or glob of Parquet files. `declared`:
    which columns are modalities. Equal tables share a folder.

    Raises:
        DataError: one is missing, or is not a table.
    """
    given = GivenTables(tables, declared)
    return build_once(root / "tables" / given.key(), given.write)


class GivenTables:
    """Three tables as a program gives them: what names their content, and a copy of them in a folder."""

    def __init__(self, tables: Mapping[str, Any], declared: Declaration) -> None:
        """See `kept_tables`."""
        for name in TABLES:
            if tables.get(name) is None:
                raise DataError(
                    "not given.", "Give all of items=, queries= and judgements=, or one folder.", file=f"{name}.parquet"
                )
        self._sources = {name: _Source.of(tables[name], name, declared) for name in TABLES}
        self._declared = declared

    def key(self) -> str:
        """32 hexadecimal digits, equal for equal tables."""
        state = hashlib.sha256(f"in memory {FORMAT}".encode())
        for source in self._sources.values():
            source.hash_into(state)
        if not self._declared.is_default:
            state.update(self._declared.to_toml().encode())
        return state.hexdigest()[:32]

    def write(self, out: Path, *, plainly: bool = False) -> None:
        """Write them, and what is declared, into the folder `out`. Raises OSError as the disk does.

        `plainly`: what is in memory as `pyarrow.parquet.write_table` does by itself. The files' bytes are a dataset's
        identity, and other settings would give the same tables another one.
        """
        if not self._declared.is_default:
            (out / DECLARATION).write_text(self._declared.to_toml())
        for name, source in self._sources.items():
            if not (plainly and source.write_plainly(out / f"{name}.parquet")):
                source.write(out / f"{name}.parquet")


class _Source:
    """One table, and how its content is named and copied."""

    def __init__(self, name: str, table: Any, reader: TableReader | None, columns: Sequence[str] = ()) -> None:
        self._name, self._table, self._reader, self._columns = name, table, reader, columns

    @staticmethod
    def of(given: Any, name: str, declared: Declaration) -> _Source:
        """What was given as `items=` and so on."""
        if isinstance(given, str | Path):
            filesystem, parts = table_parts(str(given))
            reader = TableReader(filesystem, parts, f"{name}.parquet")
            reader.require((), [column for column in reader.every_name if _is_read(name, column, declared)])
            return _Source(name, None, reader, [column for column in reader.names if column not in reader.doubled])
        return _Source(name, arrow_table(given, f"{name}.parquet"), None)

    def hash_into(self, state: Any) -> None:
        """Add the table's types and values."""
        for _, batch in self._batches():
            with self._explained(batch), pa.ipc.new_stream(_HashSink(state), batch.schema) as writer:
                writer.write_batch(batch)

    def write_plainly(self, path: Path) -> bool:
        """Write a table in memory with Arrow's own settings; False where it is in files, or Parquet lacks a type."""
        if self._reader is not None:
            return False
        try:
            pq.write_table(self._table, path)
        except pa.ArrowException:  # what the disk refuses is an OSError
            return False
        return True

    def write(self, path: Path) -> None:
        """Copy it: to one file, or into a folder of as many as it comes from, which may type a column differently."""
        wrote = False
        for place, batches in itertools.groupby(self._batches(), key=operator.itemgetter(0)):
            wrote = True
            if self._reader is None or len(self._reader.parts) == 1:
                self._write_file(path, (batch for _, batch in batches))
            else:
                path.mkdir(exist_ok=True)
                name = f"{place:05d}-{PurePosixPath(self._reader.parts[place].name).stem}.parquet"
                self._write_file(path / name, (batch for _, batch in batches))
        if not wrote:
            pq.write_table(self._empty(), path)

    def _write_file(self, path: Path, batches: Iterator[Any]) -> None:
        writer: Any = None
        with ExitStack() as closing:
            for batch in batches:
                with self._explained(batch):
                    if writer is None:
                        writer = closing.enter_context(pq.ParquetWriter(path, batch.schema, compression="zstd"))
                    writer.write_batch(batch)

    @contextmanager
    def _explained(self, batch: Any) -> Iterator[None]:
        """What Parquet does not take, as a DataError that names the column; what the disk refuses passes."""
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            name, kind = _unwritable(batch)
            raise DataError(
                f"of type {kind}, which cannot be written as Parquet ({first_line(error).rstrip('.')}).",
                "Give it a simpler type, or leave it out.",
                file=f"{self._name}.parquet",
                column=name,
            ) from error

    def _batches(self) -> Iterator[tuple[int, Any]]:
        """(the part that holds it, record batch), without columns that the part lacks."""
        if self._reader is None:
            for batch in self._table.combine_chunks().to_batches(max_chunksize=COPIED_ROWS):
                yield 0, _writable(batch)
            return
        for first, batch in self._reader.stream(self._columns, COPIED_ROWS):
            held = [field.name for field in batch.schema if not pa.types.is_null(field.type)]
            yield self._reader.part_of(first), batch.select(held)

    def _empty(self) -> Any:
        if self._reader is None:
            return self._table
        return pa.table({name: pa.array([], self._reader.type_of(name)) for name in self._columns})


def _is_read(table: str, column: str, declared: Declaration) -> bool:
    """Whether a dataset reads a table's column of that name."""
    modalities = declared.modalities if table == "items" else ()
    return column in READ[table] or any(column == m or scalar_columns(m, [column]) for m in modalities)


def _unwritable(batch: Any) -> tuple[str | None, Any]:
    """Name and type of the first column that Parquet does not take."""
    for place, field in enumerate(batch.schema):
        try:
            pq.write_table(pa.Table.from_batches([batch.select([place])]), pa.BufferOutputStream())
        except Exception:  # whatever Arrow raises of a type
            return field.name, field.type
    return None, ", ".join(str(field.type) for field in batch.schema)


def _writable(batch: Any) -> Any:
    """The batch without the encodings that Parquet does not take for every type of value."""
    types = pa.types
    arrays = [
        plain(column) if types.is_dictionary(column.type) or types.is_run_end_encoded(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


class _HashSink:
    """A file that only feeds a hash."""

    def __init__(self, state: Any) -> None:
        self._state = state
        self.closed = False

    def write(self, data: Any) -> int:
        self._state.update(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self.closed = True


def arrow_table(given: Any, file: str) -> Any:
    """What a program holds as an Arrow table: a pandas or polars frame, an Arrow table or reader, a dict of columns.

    `file`: what errors call it. Raises DataError for what is none of these.
    """
    remedy = "Give a pandas or polars frame, an Arrow table, or a path; one type of value a column."
    with foreign_errors(f"{type(given).__name__} is no table that Arrow reads", remedy, file=file):
        if isinstance(given, pa.Table):
            return given
        if isinstance(given, pd.DataFrame):
            return pa.Table.from_pandas(given, preserve_index=False).replace_schema_metadata(None)
        if isinstance(given, Mapping):
            return pa.table({str(column): values for column, values in given.items()})
        return pa.table(given)
