"""One table, in one Parquet file or many: its columns, its rows, and a stream of record batches over all of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from fusion_models.data.errors import DataError, foreign_errors
from fusion_models.data.tables.columns import stored_type
from fusion_models.work import tell

BATCH_ROWS = 256
"""Rows decoded at once while a table streams: 1 MiB for 1,024 float32 features an item."""
COLUMN_ROWS = 65_536
"""The same for narrow columns that are held whole in the end."""
NUMBERS = ("label", "v1_score", "weight")
"""Columns that hold numbers even where the name of a folder gives them."""
SCALAR = "."
"""In the name of an item's scalar columns, `MODALITY.<name>`."""
_BUFFER_BYTES = 1 << 20  # read a column chunk piece by piece, so that a giant row group need not fit in memory


@dataclass(frozen=True)
class Part:
    """One Parquet file of a table."""

    path: str
    name: str
    """What errors print: `items.parquet`, `items.parquet/split=train/part-0.parquet`."""
    partition: dict[str, str | None] = field(default_factory=dict)
    """Columns that its folders name, as Hive does: `split=train`."""


class TableReader:
    """A table of one or more Parquet files with the same columns; rows count over all of them, in the parts' order.

    A column that no part gives a value but null of no type is as if absent. Types may differ from part to part.
    """

    def __init__(self, filesystem: Any, parts: Sequence[Part], file: str) -> None:
        """Read every part's footer. Raises DataError, naming the part, where one is not readable."""
        self.file = file
        """`items.parquet`: the table's name in errors."""
        self._filesystem, self._parts = filesystem, list(parts)
        self._schemas: list[Any] = []
        self._rows: list[int] = []
        for part in self._parts:
            with self._opened(part) as parquet:
                self._schemas.append(parquet.schema_arrow)
                self._rows.append(parquet.metadata.num_rows)
        self._partition_types = {name: self._partition_type(name) for part in self._parts for name in part.partition}
        self._types = self._found_types()

    @property
    def num_rows(self) -> int:
        """Rows of all parts."""
        return sum(self._rows)

    @property
    def names(self) -> list[str]:
        """Columns that hold anything, in the order in which the parts name them."""
        return list(self._types)

    @property
    def every_name(self) -> list[str]:
        """Columns of any part, those that hold nothing too, each once."""
        return list(dict.fromkeys(name for schema in self._schemas for name in schema.names))

    def type_of(self, name: str) -> Any:
        """The plain Arrow type of a column, in the first part that has it (`columns.plain`)."""
        return self._types[name]

    def require(self, names: Sequence[str], optional: Sequence[str] = ()) -> None:
        """Raise DataError unless `names` are in every part, and neither they nor `optional` stand twice in one."""
        for part, schema, rows in zip(self._parts, self._schemas, self._rows, strict=True):
            for name in dict.fromkeys([*names, *optional]):
                count = schema.names.count(name)
                if count > 1:
                    raise DataError(
                        f"there are {count} columns of this name.", "Keep one.", file=part.name, column=name
                    )
                if count == 0 and name in names and name not in part.partition and (rows or self.num_rows == 0):
                    have = ", ".join(dict.fromkeys(schema.names))
                    raise DataError("missing.", f"Add it; the table has {have}.", file=part.name, column=name)

    def stream(self, columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[tuple[int, Any]]:
        """(first row, record batch) over the whole table, `columns` in this order; null where a part lacks one."""
        first, what = 0, f"{self.file}: {', '.join(columns[:3])}{' ...' if len(columns) > 3 else ''}"
        tell(what, 0, self.num_rows)
        for part, schema, count in zip(self._parts, self._schemas, self._rows, strict=True):
            if count == 0:
                continue
            held = [name for name in columns if name in schema.names]
            with self._opened(part) as parquet:
                batches = parquet.iter_batches(batch_size=rows, columns=held, use_threads=False)
                while (batch := self._next(batches, part)) is not None:
                    arrays = [self._column(batch, name, part) for name in columns]
                    yield first, pa.RecordBatch.from_arrays(arrays, names=list(columns))
                    first += batch.num_rows
                    tell(what, first, self.num_rows)

    def place(self, row: int) -> tuple[str, int]:
        """The part's name, and the row in it, of a row of the table."""
        for part, count in zip(self._parts, self._rows, strict=True):
            if row < count:
                return part.name, row
            row -= count
        return self.file, row

    def _found_types(self) -> dict[str, Any]:
        types: dict[str, Any] = {}
        for part, schema in zip(self._parts, self._schemas, strict=True):
            named = {name: self._partition_types[name] for name in part.partition}
            for name, kind in (named | dict(zip(schema.names, schema.types, strict=True))).items():
                if name not in types or pa.types.is_null(types[name]):
                    types[name] = stored_type(kind)
        return {name: kind for name, kind in types.items() if not pa.types.is_null(kind)}

    def _partition_type(self, name: str) -> Any:
        """Text, as a folder's name is; number where the contract wants one and every folder gives one."""
        if name not in NUMBERS and SCALAR not in name:
            return pa.large_string()
        values = pa.array([part.partition.get(name) for part in self._parts], pa.large_string())
        try:
            return values.cast(pa.float64()).type
        except pa.ArrowInvalid:
            return pa.large_string()

    def _column(self, batch: Any, name: str, part: Part) -> Any:
        if name in batch.schema.names:
            return batch.column(batch.schema.names.index(name))
        if name in part.partition:
            same = pa.array([part.partition[name]] * batch.num_rows, pa.large_string())
            return same.cast(self._partition_types[name])
        return pa.nulls(batch.num_rows)

    def _next(self, batches: Iterator[Any], part: Part) -> Any | None:
        with foreign_errors("cannot be read", "Write the file again, or copy it again.", file=part.name):
            return next(batches, None)

    @contextmanager
    def _opened(self, part: Part) -> Iterator[Any]:
        local = is_local(self._filesystem)
        remedy = "Write it again, or look at who may read it."
        with foreign_errors("cannot be read as Parquet", remedy, file=part.name):
            source = part.path if local else self._filesystem.open(part.path, "rb")
            parquet = pq.ParquetFile(source, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        try:
            yield parquet
        finally:
            parquet.close(force=not local)


def is_local(filesystem: Any) -> bool:
    """Whether its paths are this machine's own."""
    protocol = filesystem.protocol
    return "file" in ((protocol,) if isinstance(protocol, str) else tuple(protocol))


def parts_of(filesystem: Any, path: str, name: str) -> list[Part]:
    """The Parquet files of the table at `path`: that file, or the files of that folder, in the order of their names.

    Hidden files and those that begin with `_` are none of them (`_SUCCESS`, `.part-0.crc`); folders called `key=value`
    give the files in them a column. Empty where there is nothing.
    """
    if filesystem.isfile(path):
        return [Part(path, name)]
    if not filesystem.isdir(path):
        return []
    root = path.rstrip("/")
    found = sorted(str(p) for p in filesystem.find(root))
    below = [(p, os.path.relpath(p, root).replace(os.sep, "/")) for p in found]
    kept = [(p, r) for p, r in below if not any(piece.startswith(("_", ".")) for piece in r.split("/"))]
    named = [(p, r) for p, r in kept if r.lower().endswith((".parquet", ".parq", ".pq"))]
    parquet = named or [(p, r) for p, r in kept if "." not in r.rsplit("/", 1)[-1]]  # Hive's 000000_0
    return [Part(p, f"{name}/{r}", _partition(r)) for p, r in parquet]


def matching_parts(filesystem: Any, pattern: str) -> list[Part]:
    """The Parquet files that a glob names, in the order of their names; folders that it names give their files."""
    found = sorted(str(p) for p in filesystem.glob(pattern))
    return [part for p in found for part in parts_of(filesystem, p, p.rstrip("/").rsplit("/", 1)[-1])]


def _partition(relative: str) -> dict[str, str | None]:
    pieces = [piece.partition("=") for piece in relative.split("/")[:-1] if "=" in piece]
    return {key: None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value) for key, _, value in pieces}
