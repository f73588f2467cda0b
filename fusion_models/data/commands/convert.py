"""A flat table (one row a query-item pair, carrying its own features) as the three tables of a dataset.

| flat column | goes to |
|---|---|
| `query_id`, `item_id`, `label`, `v1_score`; optional `features` | judgements |
| the modalities, or their `MODALITY.<name>`; optional `image`, `title` | items, once each |
| optional `query_features`, `query_text`, `subdomain`, `split`, `timestamp`, `weight` | queries, once each |

The modalities are `visual`, `text` and `metadata` unless others are named. What is an item's or a query's own must be
the same in each of its rows.
"""

from __future__ import annotations

import hashlib
import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fusion_models.data.arrays.scalars import scalar_columns
from fusion_models.data.arrays.thumbnails import picture_bytes
from fusion_models.data.errors import DataError, foreign_errors
from fusion_models.data.tables import (
    COLUMN_ROWS,
    TABLES,
    Declaration,
    TableReader,
    checks,
    filesystem_of,
    refuse_overwriting,
    relations,
    table_parts,
    write_declaration,
)
from fusion_models.data.tables.columns import is_moment, is_text, plain
from fusion_models.data.tables.feature_vectors import feature_vectors

_PAIR = ("query_id", "item_id", "label", "v1_score")
_QUERY = {
    "query_features": "features",
    "query_text": "text",
    "subdomain": "subdomain",
    "split": "split",
    "timestamp": "timestamp",
    "weight": "weight",
}
_GROUP_ROWS = 8192
ELSEWHERE = "Free some space there, or name a folder that can be written."

Ints = npt.NDArray[np.int64]


def convert_flat(
    flat: str | Path, out: str | Path, modalities: Sequence[str] | None = None, quantities: Sequence[str] | None = None
) -> dict[str, int]:
    """Write the three tables of the flat Parquet table `flat` into the folder `out` (paths or URIs).

    `modalities` names the columns that are modalities, `quantities` those of them that are no embedding; where they are
    not the default ones, `dataset.toml` says so.

    Feature columns stream; the flat table may be larger than memory. Returns the rows written, a table.

    Raises:
        DataError: the flat table breaks the contract, or `out` already holds a table. Nothing is left in `out`.
    """
    declared = Declaration.of(modalities, quantities)
    filesystem, parts = table_parts(str(flat), "flat table")
    name = str(flat).rstrip("/").rsplit("/", 1)[-1]
    target_system, folder = filesystem_of(str(out))
    paths = {table: f"{folder.rstrip('/')}/{table}.parquet" for table in TABLES}
    reader = TableReader(filesystem, parts, name)
    refuse_overwriting(out)

    def sink(table: str, part: int | None) -> Any:
        path = paths[table] if part is None else f"{paths[table]}/part-{part:05d}.parquet"
        target_system.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        return target_system.open(path, "wb")

    with foreign_errors(f"{str(out)!r} cannot be made", ELSEWHERE):
        target_system.makedirs(folder, exist_ok=True)
    try:
        with foreign_errors(f"{str(out)!r} cannot be written", ELSEWHERE, only=OSError):
            written = _convert(reader, name, sink, declared.modalities)
            write_declaration(target_system, folder, declared)
        return written
    except BaseException:
        for path in paths.values():
            if target_system.exists(path):
                target_system.rm(path, recursive=True)
        raise


Sink = Callable[[str, int | None], Any]
"""(table, number of its part or None where it is one file) -> an open file."""


def _convert(reader: TableReader, file: str, sink: Sink, modalities: Sequence[str]) -> dict[str, int]:
    found = {m: scalar_columns(m, reader.names) for m in modalities}
    scalars = [column for columns in found.values() for column in columns]
    needed = [m for m, columns in found.items() if not columns]
    reader.require([*_PAIR, *needed], (*modalities, "image", "title", "features", *scalars, *_QUERY))
    checks.require_rows(reader.num_rows, file)
    query, item = _checked_pairs(reader, file)

    own = [c for c in (*modalities, "image", "title") if c in reader.names] + scalars
    items = _first_rows(reader, file, "item_id", item, own, modalities)
    queries = _first_rows(reader, file, "query_id", query, [c for c in _QUERY if c in reader.names], ["query_features"])
    pairs = [*_PAIR] + (["features"] if "features" in reader.names else [])
    return {
        "items": _write(sink, "items", items, reader, {}),
        "queries": _write(sink, "queries", queries, reader, _QUERY),
        "judgements": _write(sink, "judgements", (batch for _, batch in reader.stream(pairs)), reader, {}),
    }


def _checked_pairs(reader: TableReader, file: str) -> tuple[Ints, Ints]:
    """`[rows]` codes of the query and the item of each row, counted up by first appearance."""
    ids: dict[str, list[Any]] = {name: [] for name in _PAIR[:2]}
    for first, batch in reader.stream(_PAIR, COLUMN_ROWS):
        checks.labels(batch.column("label"), file, first)
        checks.numbers(batch.column("v1_score"), file, "v1_score", first)
        for name, found in ids.items():
            found.append(checks.ids(batch.column(name), file, name, first))
    query, item = (relations.appearance(pa.chunked_array(found)) for found in ids.values())
    relations.unique_pairs(query, item, file)
    return query, item


def _first_rows(
    reader: TableReader, file: str, key: str, codes: Ints, columns: list[str], vectors: Sequence[str]
) -> Iterator[Any]:
    """Record batches of the first row of each id, with `columns`; a later row that differs is an error."""
    first = np.full(int(codes.max()) + 1, -1, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    digests = {name: np.zeros(len(first), dtype=np.uint64) for name in columns}
    widths: dict[str, int] = {}
    for start, batch in reader.stream([key, *columns]):
        code = codes[start : start + batch.num_rows]
        is_first = first[code] == np.arange(start, start + batch.num_rows)
        for name in columns:
            found = _row_digests(batch.column(name), file, name, start, widths, name in vectors)
            digests[name][code[is_first]] = found[is_first]
            row = checks.first_true(found != digests[name][code])
            if row is not None:
                problem, remedy = _difference(batch, key, name, row, int(first[code[row]]))
                raise DataError(problem, remedy, file=file, column=name, row=start + row)
        if is_first.any():
            yield batch.select([key, *columns]).filter(pa.array(is_first))


def _row_digests(
    column: Any, file: str, name: str, start: int, widths: dict[str, int], vector: bool
) -> npt.NDArray[np.uint64]:
    """`[n]` 64-bit digests of a column's values."""
    values = plain(column)
    if is_text(values.type):
        values = checks.clean_text(values, file, name, start)
    if name == "image":
        raw = [b"" if value is None else value for value in picture_bytes(column, file, start)]
    elif vector and not is_text(values.type):
        values = feature_vectors(column, file, name, start, widths.get(name))
        widths[name] = values.shape[1]
        raw = [row.tobytes() for row in values]
    elif name == "timestamp":
        raw = [repr(value).encode() for value in checks.moments(values, file, name, start).to_pylist()]
    elif is_moment(values.type):
        counts = values.cast(pa.int32() if values.type.bit_width == 32 else pa.int64())
        raw = [repr(value).encode() for value in counts.to_pylist()]
    else:
        raw = [value if isinstance(value, bytes) else repr(value).encode() for value in values.to_pylist()]
    joined = b"".join(hashlib.blake2b(value, digest_size=8).digest() for value in raw)
    return np.frombuffer(joined, dtype=np.uint64)


def _difference(batch: Any, key: str, name: str, row: int, first: int) -> tuple[str, str]:
    """Of a batch's `row` from the id's row `first` of the table, in the column `name`: the problem, and the remedy."""
    kind, value = key.removesuffix("_id"), checks.shown(batch.column(key)[row])
    if name == "split":
        problem = f"query {value} is in {batch.column(name)[row].as_py()} here and in another split in row {first}."
        remedy = "Keep a query in one split; where lists are split by item, give it one id a split (`dog@train`)."
    else:
        problem = f"{kind} {value} has another value here than in row {first}."
        remedy = f"Give the {kind} the same value in each of its rows, or an id for each version of it."
    return problem, remedy


def _write(sink: Sink, table: str, batches: Iterator[Any], reader: TableReader, names: dict[str, str]) -> int:
    """Write batches in row groups of some thousand rows; how many rows there were.

    One file; a folder of them where the flat table's own files type a column differently, so that none is narrowed.
    """
    total = 0
    runs = itertools.groupby(batches, key=operator.attrgetter("schema")) if not reader.uniform else [(None, batches)]
    for part, (_, alike) in enumerate(runs):
        with sink(table, None if reader.uniform else part) as file, ExitStack() as closing:
            writer: Any = None
            waiting: list[Any] = []
            for batch in alike:
                renamed = batch.rename_columns([names.get(c, c) for c in batch.schema.names])
                if writer is None:
                    writer = closing.enter_context(pq.ParquetWriter(file, renamed.schema, compression="zstd"))
                waiting.append(renamed)
                total += renamed.num_rows
                if sum(b.num_rows for b in waiting) >= _GROUP_ROWS:
                    writer.write_table(pa.Table.from_batches(waiting))
                    waiting = []
            if waiting:
                writer.write_table(pa.Table.from_batches(waiting))
    return total
