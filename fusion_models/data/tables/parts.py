"""One table, in one Parquet file or many: its columns, its rows, and a stream of record batches over all of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fusion_models.data.errors import DataError, foreign_errors
from fusion_models.data.tables.columns import plain, stored_type
from fusion_models.data.tables.time_units import (
    INT96_UNIT,
    MixedTimesError,
    first_finer,
    int96_columns,
    joint_time,
)
from fusion_models.work import tell

BATCH_ROWS = 256
"""Rows decoded at once while a table streams: 1 MiB for 1,024 float32 features an item."""
COLUMN_ROWS = 65_536
"""The same for narrow columns that are held whole in the end."""
NUMBERS = ("label", "v1_score", "weight")
"""Columns that hold numbers even where the name of a folder gives them."""
SCALAR = "."
"""In the name of an item's scalar columns, `MODALITY.<name>`."""
HIDDEN = ("_", ".")
"""Files and folders that begin so are no part of a table."""
ENDINGS = (".parquet", ".parq", ".pq")
SAMPLE = 16
"""Files without an ending that are opened to see whether such files beside others are Parquet."""
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
        self.parts = list(parts)
        """In the order in which their rows count."""
        self._filesystem = filesystem
        self._schemas: list[Any] = []
        self._rows: list[int] = []
        self._int96: list[set[str]] = []
        for part in self.parts:
            with self._opened(part) as parquet:
                self._schemas.append(parquet.schema_arrow)
                self._rows.append(parquet.metadata.num_rows)
                self._int96.append(int96_columns(parquet))
        self._times: dict[str, Any] = {}
        self._partition_types = {name: self._partition_type(name) for part in self.parts for name in part.partition}
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

    @property
    def doubled(self) -> set[str]:
        """Columns that stand twice or more in some part."""
        return {name for s in self._schemas for name, count in Counter(s.names).items() if count > 1}

    @property
    def uniform(self) -> bool:
        """Whether all parts that hold rows have the same columns of the same types, folders' names included."""
        held = [
            {name: self._partition_types[name] for name in part.partition} | dict(zip(s.names, s.types, strict=True))
            for part, s, rows in zip(self.parts, self._schemas, self._rows, strict=True)
            if rows
        ]
        return all(types == held[0] for types in held)

    def type_of(self, name: str) -> Any:
        """The plain Arrow type of a column, in the first part that has it (`columns.plain`)."""
        return self._types[name]

    def require(self, names: Sequence[str], optional: Sequence[str] = ()) -> None:
        """Raise DataError unless `names` are in every part, and neither they nor `optional` stand twice in one."""
        for part, schema, rows in zip(self.parts, self._schemas, self._rows, strict=True):
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
        times = {name: kind for name in columns if (kind := self._time(name)) is not None}
        tell(what, 0, self.num_rows)
        for place, part in enumerate(self.parts):
            if self._rows[place] == 0:
                continue
            for batch in self._batches(place, columns, rows):
                arrays = [self._column(batch, name, part, times.get(name)) for name in columns]
                yield first, pa.RecordBatch.from_arrays(arrays, names=list(columns))
                first += batch.num_rows
                tell(what, first, self.num_rows)

    def part_of(self, row: int) -> int:
        """The number of the part that holds a row of the table."""
        return int(np.searchsorted(np.cumsum(self._rows), row, side="right"))

    def place(self, row: int) -> tuple[str, int]:
        """The part's name, and the row in it, of a row of the table."""
        place = self.part_of(row)
        if place == len(self.parts):
            return self.file, row - self.num_rows
        return self.parts[place].name, row - sum(self._rows[:place])

    def _batches(self, place: int, columns: Sequence[str], rows: int) -> Iterator[Any]:
        """The record batches of one part, of those `columns` that it has."""
        part, names = self.parts[place], self._schemas[place].names
        held = [name for name in columns if name in names]
        wide = [name for name in held if name in self._int96[place]]
        with ExitStack() as closing:
            parquet = closing.enter_context(self._opened(part))
            batches = parquet.iter_batches(batch_size=rows, columns=held, use_threads=False)
            finer: Iterator[Any] = iter(())
            if wide:
                again = closing.enter_context(self._opened(part, "ns"))
                finer = again.iter_batches(batch_size=rows, columns=wide, use_threads=False)
            done = 0
            while (batch := self._next(batches, part)) is not None:
                if wide:
                    self._whole_micros(batch, self._next(finer, part), wide, part, done)
                done += batch.num_rows
                yield batch

    def _whole_micros(self, batch: Any, finer: Any, names: Sequence[str], part: Part, first: int) -> None:
        """Raise DataError where an INT96 moment holds nanoseconds."""
        for name in names:
            row = first_finer(batch.column(name), finer.column(name))
            if row is not None:
                raise DataError(
                    f"{batch.column(name)[row].cast(pa.string())} and some nanoseconds are stored as INT96, of which "
                    "microseconds are read.",
                    "Write timestamps of 64 bits (no `use_deprecated_int96_timestamps`), or round them to "
                    f"microseconds: `df[{name!r}] = df[{name!r}].dt.floor('us')`.",
                    file=part.name,
                    column=name,
                    row=first + row,
                )

    def _time(self, name: str) -> Any | None:
        """The type of time in which a column is read; None where its parts need no common one."""
        if name not in self._times:
            held = [s for s, rows in zip(self._schemas, self._rows, strict=True) if rows and name in s.names]
            kinds = [stored_type(s.field(s.names.index(name)).type) for s in held]
            try:
                self._times[name] = joint_time(kinds)
            except MixedTimesError as error:
                raise DataError(
                    f"the files of the table give it types that do not go together ({error}).",
                    "Write the column with one type.",
                    file=self.file,
                    column=name,
                ) from error
        return self._times[name]

    def _found_types(self) -> dict[str, Any]:
        types: dict[str, Any] = {}
        for part, schema in zip(self.parts, self._schemas, strict=True):
            named = {name: self._partition_types[name] for name in part.partition}
            for name, kind in (named | dict(zip(schema.names, schema.types, strict=True))).items():
                if name not in types or pa.types.is_null(types[name]):
                    types[name] = stored_type(kind)
        return {name: kind for name, kind in types.items() if not pa.types.is_null(kind)}

    def _partition_type(self, name: str) -> Any:
        """Text, as a folder's name is; number where the contract wants one and every folder gives one."""
        if name not in NUMBERS and SCALAR not in name:
            return pa.large_string()
        values = pa.array([part.partition.get(name) for part in self.parts], pa.large_string())
        try:
            return values.cast(pa.float64()).type
        except pa.ArrowInvalid:
            return pa.large_string()

    def _column(self, batch: Any, name: str, part: Part, time: Any | None) -> Any:
        if name in batch.schema.names:
            column = batch.column(batch.schema.names.index(name))
            return column if time is None else self._in_time(column, time, name, part)
        if name in part.partition:
            same = pa.array([part.partition[name]] * batch.num_rows, pa.large_string())
            return same.cast(self._partition_types[name])
        return pa.nulls(batch.num_rows)

    def _in_time(self, column: Any, time: Any, name: str, part: Part) -> Any:
        try:
            return plain(column).cast(time)
        except pa.ArrowException as error:
            raise DataError(
                f"{column.type} of this file does not fit into {time}, which the table's other files need ({error}).",
                "Write the column with one type.",
                file=part.name,
                column=name,
            ) from error

    def _next(self, batches: Iterator[Any], part: Part) -> Any | None:
        with foreign_errors("cannot be read", "Write the file again, or copy it again.", file=part.name):
            return next(batches, None)

    @contextmanager
    def _opened(self, part: Part, int96: Any = INT96_UNIT) -> Iterator[Any]:
        local = is_local(self._filesystem)
        remedy = "Write it again, or look at who may read it."
        with foreign_errors("cannot be read as Parquet", remedy, file=part.name):
            source = part.path if local else self._filesystem.open(part.path, "rb")
            parquet = pq.ParquetFile(
                source, pre_buffer=False, buffer_size=_BUFFER_BYTES, coerce_int96_timestamp_unit=int96
            )
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

    Hidden files and those that begin with `_` are none of them (`_SUCCESS`, `.part-0.crc`); a file without an ending is
    one where it is Parquet, or no other file has one. Of many such files beside others, none is one where SAMPLE of
    them are not. Folders called `key=value` give the files in them a column. Empty
    where there is nothing.
    """
    if filesystem.isfile(path):
        return [Part(path, name)]
    if not filesystem.isdir(path):
        return []
    root = path.rstrip("/")
    found = sorted(str(p) for p in filesystem.find(root))
    below = [(p, os.path.relpath(p, root).replace(os.sep, "/")) for p in found]
    kept = [(p, r) for p, r in below if not any(piece.startswith(HIDDEN) for piece in r.split("/"))]
    named = [(p, r) for p, r in kept if r.lower().endswith(ENDINGS)]
    bare = [(p, r) for p, r in kept if "." not in r.rsplit("/", 1)[-1]]  # Hive's 000000_0
    parquet = sorted([*named, *_bare_parquet(filesystem, bare)]) if named else bare
    return [Part(p, f"{name}/{r}", _partition(r)) for p, r in parquet]


def matching_parts(filesystem: Any, pattern: str) -> list[Part]:
    """The Parquet files that a glob names, in the order of their names; folders that it names give their files.

    Hidden files are none of them, nor those that begin with `_`, unless the glob itself begins so.
    """
    found = sorted(str(p) for p in filesystem.glob(pattern))
    named = [(p, p.rstrip("/").rsplit("/", 1)[-1]) for p in found]
    if not pattern.rsplit("/", 1)[-1].startswith(HIDDEN):
        named = [(p, name) for p, name in named if not name.startswith(HIDDEN)]
    return [part for p, name in named for part in parts_of(filesystem, p, name)]


def holds_parquet(filesystem: Any, path: str) -> bool:
    """Whether a file is Parquet, or a folder has such files of that ending, itself or in its first `key=value` folder.

    Costs one listing of names, whatever else lies there; files without an ending are not opened.
    """
    if filesystem.isfile(path):
        return is_parquet(filesystem, path)
    if not filesystem.isdir(path):
        return False
    found = sorted(str(p).rstrip("/") for p in filesystem.ls(path, detail=False))
    kept = [(p, name) for p in found if not (name := p.rsplit("/", 1)[-1]).startswith(HIDDEN)]
    files = (p for p, name in kept if name.lower().endswith(ENDINGS) and filesystem.isfile(p))
    keyed = [p for p, name in kept if "=" in name][:1]
    return any(is_parquet(filesystem, p) for p in files) or any(holds_parquet(filesystem, p) for p in keyed)


def _bare_parquet(filesystem: Any, bare: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those files without an ending that are Parquet; none where a sample over all of them has none."""
    sample = bare[:: -(-len(bare) // SAMPLE)] if bare else []
    if len(bare) > SAMPLE and not any(is_parquet(filesystem, p) for p, _ in sample):
        return []
    return [(p, r) for p, r in bare if is_parquet(filesystem, p)]


def is_parquet(filesystem: Any, path: str) -> bool:
    """Whether a file begins as Parquet does."""
    with filesystem.open(path, "rb") as file:
        return bool(file.read(4) == b"PAR1")


def _partition(relative: str) -> dict[str, str | None]:
    pieces = [piece.partition("=") for piece in relative.split("/")[:-1] if "=" in piece]
    return {key: None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value) for key, _, value in pieces}
