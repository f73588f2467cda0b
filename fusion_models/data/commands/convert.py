"""A flat table (one row a query-item pair, carrying its own features) as the three tables of a dataset.

| flat column | goes to |
|---|---|
| `query_id`, `item_id`, `label`, `v1_score`; optional `features` | judgements |
| `visual`, `text`, `metadata` or `metadata.<name>`; optional `image`, `title` | items, once each |
| optional `query_features`, `query_text`, `subdomain`, `split`, `timestamp` | queries, once each |

What is an item's or a query's own must be the same in each of its rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fusion_models.data.arrays.metadata import scalar_columns
from fusion_models.data.errors import DataError
from fusion_models.data.tables import TABLES, checks, filesystem_of, open_parquet, refuse_overwriting, stream

_PAIR = ("query_id", "item_id", "label", "v1_score")
_QUERY = {
    "query_features": "features",
    "query_text": "text",
    "subdomain": "subdomain",
    "split": "split",
    "timestamp": "timestamp",
}
_VECTORS = ("visual", "text", "metadata", "query_features", "features")
_GROUP_ROWS = 8192

Ints = npt.NDArray[np.int64]


def convert_flat(flat: str | Path, out: str | Path) -> dict[str, int]:
    """Write the three tables of the flat Parquet table `flat` into the folder `out` (paths or URIs).

    Feature columns stream; the flat table may be larger than memory. Returns the rows written, a table.

    Raises:
        DataError: the flat table breaks the contract, or `out` already holds a table. Nothing is left in `out`.
    """
    filesystem, source = filesystem_of(str(flat))
    name = source.rsplit("/", 1)[-1]
    if not filesystem.isfile(source):
        raise DataError(f"no flat table at {str(flat)!r}.", "Give a Parquet file.")
    target_system, folder = filesystem_of(str(out))
    paths = {table: f"{folder.rstrip('/')}/{table}.parquet" for table in TABLES}
    refuse_overwriting(out)
    target_system.makedirs(folder, exist_ok=True)
    try:
        with open_parquet(filesystem, source, name) as parquet:
            return _convert(parquet, name, lambda table: target_system.open(paths[table], "wb"))
    except BaseException:
        for path in paths.values():
            if target_system.exists(path):
                target_system.rm(path)
        raise


def _convert(parquet: Any, file: str, sink: Callable[[str], Any]) -> dict[str, int]:
    schema = parquet.schema_arrow
    scalars = scalar_columns(schema)
    needed = ["visual", "text"] + ([] if scalars else ["metadata"])
    checks.require_columns(schema, [*_PAIR, *needed], file)
    checks.require_rows(parquet.metadata.num_rows, file)
    query, item = _checked_pairs(parquet, file)

    own = [c for c in ("visual", "text", "metadata", "image", "title") if c in schema.names] + scalars
    items = _first_rows(parquet, file, "item_id", item, own)
    queries = _first_rows(parquet, file, "query_id", query, [c for c in _QUERY if c in schema.names])
    pairs = [*_PAIR] + (["features"] if "features" in schema.names else [])
    return {
        "items": _write(sink, "items", items, {}),
        "queries": _write(sink, "queries", queries, _QUERY),
        "judgements": _write(sink, "judgements", (batch.select(pairs) for _, batch in stream(parquet, pairs)), {}),
    }


def _checked_pairs(parquet: Any, file: str) -> tuple[Ints, Ints]:
    """`[rows]` codes of the query and the item of each row, counted up by first appearance."""
    table = parquet.read(columns=list(_PAIR))
    checks.labels(table["label"], file)
    checks.numbers(table["v1_score"], file, "v1_score")
    query, item = (checks.appearance(checks.ids(table[name], file, name)) for name in _PAIR[:2])
    checks.unique_pairs(query, item, file)
    return query, item


def _first_rows(parquet: Any, file: str, key: str, codes: Ints, columns: list[str]) -> Iterator[Any]:
    """Record batches of the first row of each id, with `columns`; a later row that differs is an error."""
    first = np.full(int(codes.max()) + 1, -1, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    digests = {name: np.zeros(len(first), dtype=np.uint64) for name in columns}
    widths: dict[str, int] = {}
    for start, batch in stream(parquet, [key, *columns]):
        code = codes[start : start + batch.num_rows]
        is_first = first[code] == np.arange(start, start + batch.num_rows)
        for name in columns:
            found = _row_digests(batch.column(name), file, name, start, widths)
            digests[name][code[is_first]] = found[is_first]
            row = checks.first_true(found != digests[name][code])
            if row is not None:
                raise _differs(batch, file, key, name, row, start, int(first[code[row]]))
        if is_first.any():
            yield batch.select([key, *columns]).filter(pa.array(is_first))


def _row_digests(column: Any, file: str, name: str, start: int, widths: dict[str, int]) -> npt.NDArray[np.uint64]:
    """`[n]` 64-bit digests of a column's values."""
    if name in _VECTORS and not pa.types.is_string(column.type):
        values = checks.feature_vectors(column, file, name, start, widths.get(name))
        widths[name] = values.shape[1]
        raw = [row.tobytes() for row in values]
    else:
        raw = [value if isinstance(value, bytes) else repr(value).encode() for value in column.to_pylist()]
    joined = b"".join(hashlib.blake2b(value, digest_size=8).digest() for value in raw)
    return np.frombuffer(joined, dtype=np.uint64)


def _differs(batch: Any, file: str, key: str, name: str, row: int, start: int, first: int) -> DataError:
    kind, value = key.removesuffix("_id"), batch.column(key)[row].as_py()
    if name == "split":
        problem = f"query {value!r} is in {batch.column(name)[row].as_py()} here and in another split in row {first}."
        remedy = "Keep a query in one split; where lists are split by item, give it one id a split (`dog@train`)."
    else:
        problem = f"{kind} {value!r} has another value here than in row {first}."
        remedy = f"Give the {kind} the same value in each of its rows, or an id for each version of it."
    return DataError(problem, remedy, file=file, column=name, row=start + row)


def _write(sink: Callable[[str], Any], table: str, batches: Iterator[Any], names: dict[str, str]) -> int:
    """Write batches in row groups of some thousand rows; how many rows there were."""
    writer: Any = None
    waiting: list[Any] = []
    total = 0
    with sink(table) as file:
        for batch in batches:
            renamed = batch.rename_columns([names.get(c, c) for c in batch.schema.names])
            if writer is None:
                writer = pq.ParquetWriter(file, renamed.schema, compression="zstd")
            waiting.append(renamed)
            total += renamed.num_rows
            if sum(b.num_rows for b in waiting) >= _GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))
        writer.close()
    return total
