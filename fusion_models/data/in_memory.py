"""Opens three tables that a program holds in memory, or names one by one: they are copied into the cache as Parquet.

A run then notes the path of that copy. Workers in other processes and resumed runs open it like any other dataset.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fusion_models.data.arrays.cache import build_once
from fusion_models.data.errors import DataError, foreign_errors
from fusion_models.data.tables import TABLES, Declaration, TableReader, table_parts
from fusion_models.data.tables.columns import plain
from fusion_models.data.tables.declaration import FILE as DECLARATION

FORMAT = 1
"""Of the copies: part of their name."""
COPIED_ROWS = 8_192


def kept_tables(tables: Mapping[str, Any], root: Path, declared: Declaration) -> Path:
    """The folder in the cache `root` that holds the three tables, written there unless it is there already.

    `tables`: `items`, `queries`, `judgements`, each a pandas or polars frame, an Arrow table, record batch or reader
    (anything with `__arrow_c_stream__`), a dict of columns, or the path, URI or glob of Parquet files. `declared`:
    which columns are modalities. Equal tables share a folder.

    Raises:
        DataError: one is missing, or is not a table.
    """
    for name in TABLES:
        if tables.get(name) is None:
            raise DataError(
                "not given.", "Give all of items=, queries= and judgements=, or one folder.", file=f"{name}.parquet"
            )
    sources = {name: _Source.of(tables[name], name) for name in TABLES}
    state = hashlib.sha256(f"in memory {FORMAT}".encode())
    for source in sources.values():
        source.hash_into(state)
    if not declared.is_default:
        state.update(declared.to_toml().encode())
    return build_once(root / "tables" / state.hexdigest()[:32], partial(_write, sources, declared))


def _write(sources: Mapping[str, _Source], declared: Declaration, out: Path) -> None:
    if not declared.is_default:
        (out / DECLARATION).write_text(declared.to_toml())
    for name, source in sources.items():
        source.write(out / f"{name}.parquet")


class _Source:
    """One table, and how its content is named and copied."""

    def __init__(self, name: str, table: Any, reader: TableReader | None) -> None:
        self._name, self._table, self._reader = name, table, reader

    @staticmethod
    def of(given: Any, name: str) -> _Source:
        """What was given as `items=` and so on."""
        if isinstance(given, str | Path):
            filesystem, parts = table_parts(str(given))
            return _Source(name, None, TableReader(filesystem, parts, f"{name}.parquet"))
        return _Source(name, _arrow_table(given, name), None)

    def hash_into(self, state: Any) -> None:
        """Add the table's types and values."""
        for batch in self._batches():
            with pa.ipc.new_stream(_HashSink(state), batch.schema) as writer:
                writer.write_batch(batch)

    def write(self, path: Path) -> None:
        """Copy it."""
        writer: Any = None
        remedy = "Give its columns simpler types."
        with (
            foreign_errors("cannot be written as Parquet", remedy, file=f"{self._name}.parquet"),
            ExitStack() as closing,
        ):
            for batch in self._batches():
                if writer is None:
                    writer = closing.enter_context(pq.ParquetWriter(path, batch.schema, compression="zstd"))
                writer.write_batch(batch.cast(writer.schema) if batch.schema != writer.schema else batch)
            if writer is None:
                pq.write_table(self._table if self._table is not None else pa.table({}), path)

    def _batches(self) -> Any:
        if self._reader is None:
            batches = self._table.combine_chunks().to_batches(max_chunksize=COPIED_ROWS)
            return (_writable(batch) for batch in batches)
        return (batch for _, batch in self._reader.stream(self._reader.names, COPIED_ROWS))


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


def _arrow_table(given: Any, name: str) -> Any:
    remedy = "Give a pandas or polars frame, an Arrow table, or a path; one type of value a column."
    with foreign_errors(f"{type(given).__name__} is no table that Arrow reads", remedy, file=f"{name}.parquet"):
        if isinstance(given, pa.Table):
            return given
        if isinstance(given, pd.DataFrame):
            return pa.Table.from_pandas(given, preserve_index=False).replace_schema_metadata(None)
        if isinstance(given, Mapping):
            return pa.table({str(column): values for column, values in given.items()})
        return pa.table(given)
