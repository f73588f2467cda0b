"""The checks at the door: each takes a piece of a table and returns it clean, or raises a DataError.

Every error names the file, the column, the first offending row (counted from 0) and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fusion_models.data.errors import DataError
from fusion_models.data.splits import SPLITS

Bools = npt.NDArray[np.bool_]


def first_true(flags: Bools) -> int | None:
    """Row of the first True; None where there is none."""
    return int(np.argmax(flags)) if flags.any() else None


def require_columns(schema: Any, names: Sequence[str], file: str) -> None:
    """Every column in `names` is there, once."""
    for name in names:
        found = schema.names.count(name)
        if found == 0:
            have = ", ".join(dict.fromkeys(schema.names))
            raise DataError("missing.", f"Add it; the table has {have}.", file=file, column=name)
        if found > 1:
            raise DataError(f"there are {found} columns of this name.", "Keep one.", file=file, column=name)


def require_rows(count: int, file: str) -> None:
    """The table is not empty."""
    if count == 0:
        raise DataError("the table has no rows.", "Write at least one.", file=file)


def ids(column: Any, file: str, name: str) -> Any:
    """A text or whole-number column (Arrow array or chunked array) without nulls, as text."""
    column = _plain(column)
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
        raise DataError(
            f"{_shown(column)} is of type {kind}, not text or a whole number.",
            "Write ids and names as text.",
            file=file,
            column=name,
            row=0,
        )
    _no_null(column, file, name, 0, "Give every row a value.")
    return column if pa.types.is_large_string(kind) else column.cast(pa.large_string())


def texts(column: Any, file: str, name: str, first_row: int = 0) -> Any:
    """A column of text, null where there is none."""
    column = _plain(column)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise DataError(
            f"{_shown(column)} is of type {column.type}, not text.",
            "Write the column as text.",
            file=file,
            column=name,
            row=first_row,
        )
    return column.cast(pa.large_string())


def numbers(column: Any, file: str, name: str, first_row: int = 0) -> npt.NDArray[np.float64]:
    """A column of finite numbers, as `[n]` float64."""
    column = _plain(column)
    if not _is_number(column.type):
        raise DataError(
            f"{_shown(column)} is of type {column.type}, not a number.",
            "Write the column as float or integer.",
            file=file,
            column=name,
            row=first_row,
        )
    _no_null(column, file, name, first_row, "Give every row a number.")
    values = np.asarray(column.to_numpy(), dtype=np.float64)
    row = first_true(~(np.abs(values) <= np.finfo(np.float32).max))
    if row is not None:
        raise DataError(
            f"{values[row]} is not a finite float32 number.",
            "Replace NaN and infinity, or leave the row out.",
            file=file,
            column=name,
            row=first_row + row,
        )
    return values


def labels(column: Any, file: str) -> npt.NDArray[np.float32]:
    """Relevance labels: finite numbers >= 0, `[n]` float32."""
    values = numbers(column, file, "label")
    row = first_true(values < 0)
    if row is not None:
        raise DataError(
            f"the label {values[row]:g} is negative.",
            "Use 0 for not relevant and larger grades for more relevant.",
            file=file,
            column="label",
            row=row,
        )
    return values.astype(np.float32)


def feature_vectors(
    column: Any, file: str, name: str, first_row: int = 0, width: int | None = None
) -> npt.NDArray[np.float32]:
    """A column of lists of float, all of one width (that of row 0, where `width` is None), as `[n, D]` float32."""
    kind = column.type
    if not _is_list(kind) or not _is_number(kind.value_type):
        raise DataError(
            f"the column is of type {kind}, not lists of float.",
            "Write a list of one fixed width in every row.",
            file=file,
            column=name,
            row=first_row,
        )
    _no_null(column, file, name, first_row, "Give every row a list.")
    lengths = np.asarray(pc.list_value_length(column).to_numpy(zero_copy_only=False))
    width = int(lengths[0]) if width is None else width
    if width == 0:
        raise DataError("the list is empty.", "Write at least one number.", file=file, column=name, row=first_row)
    row = first_true(lengths != width)
    if row is not None:
        raise DataError(
            f"the list has {lengths[row]} numbers, and {width} in row 0.",
            "Give every row a list of the same width.",
            file=file,
            column=name,
            row=first_row + row,
        )
    flat = column.flatten()
    with np.errstate(over="ignore"):
        values = np.asarray(flat.to_numpy(zero_copy_only=False)).astype(np.float32, copy=False).reshape(-1, width)
    row = first_true(np.any(~np.isfinite(values), axis=1))
    if row is not None:
        position = int(np.argmin(np.isfinite(values[row])))
        raw = flat[row * width + position].as_py()
        raise DataError(
            f"{'null' if raw is None else raw} at position {position} of the list is not a finite float32 number.",
            "Replace NaN, null and infinity.",
            file=file,
            column=name,
            row=first_row + row,
        )
    return values


def unique_ids(column: Any, file: str, name: str) -> None:
    """No id stands twice."""
    row = first_repeat(column)
    if row is not None:
        raise DataError(
            f"{column[row].as_py()!r} was already given in an earlier row.",
            "Keep one row an id.",
            file=file,
            column=name,
            row=row,
        )


def first_repeat(column: Any) -> int | None:
    """Row of the first value that an earlier row holds too; None where all differ."""
    codes = appearance(column)
    return first_true(codes != np.arange(len(codes)))  # codes count up by first appearance


def one_split_a_query(query_ids: Any, splits: npt.NDArray[np.int8], file: str) -> None:
    """No query id stands twice, least of all in two splits."""
    row = first_repeat(query_ids)
    if row is None:
        return
    query_id = query_ids[row].as_py()
    earlier = int(pc.index(query_ids, pa.scalar(query_id, query_ids.type)).as_py())
    if splits[row] != splits[earlier]:
        raise DataError(
            f"query {query_id!r} is in {SPLITS[splits[row]]} here and in {SPLITS[splits[earlier]]} in row {earlier}.",
            "Keep a query in one split; where lists are split by item, give the query one id a split (`dog@train`).",
            file=file,
            column="split",
            row=row,
        )
    unique_ids(query_ids, file, "query_id")


def known_ids(column: Any, known: Any, file: str, name: str, home: str) -> npt.NDArray[np.int64]:
    """`[n]` rows of `column`'s ids in `known`, the ids of the table `home`."""
    rows = pc.index_in(column, value_set=known)
    if rows.null_count:
        row = first_true(np.asarray(rows.is_null().to_numpy()))
        assert row is not None
        raise DataError(
            f"{column[row].as_py()!r} is not in {home}.",
            f"Add it to {home}, or leave its judgements out.",
            file=file,
            column=name,
            row=row,
        )
    return np.asarray(rows.to_numpy(), dtype=np.int64)


def unique_pairs(query: npt.NDArray[np.int64], item: npt.NDArray[np.int64], file: str) -> None:
    """No query-item pair is judged twice."""
    order = np.lexsort((item, query))
    repeats = (np.diff(query[order]) == 0) & (np.diff(item[order]) == 0)
    if repeats.any():
        row = int(order[1:][repeats].min())
        earlier = int(np.flatnonzero((query == query[row]) & (item == item[row]))[0])
        raise DataError(
            f"this query-item pair was already judged in row {earlier}.",
            "Keep one judgement a pair.",
            file=file,
            column="item_id",
            row=row,
        )


def split_codes(column: Any, file: str) -> npt.NDArray[np.int8]:
    """`[n]` codes into SPLITS of a `split` column."""
    names = ids(column, file, "split")
    rows = pc.index_in(names, value_set=pa.array(SPLITS, pa.large_string()))
    if rows.null_count:
        row = first_true(np.asarray(rows.is_null().to_numpy()))
        assert row is not None
        raise DataError(
            f"{names[row].as_py()!r} is not a split.",
            f"Use {', '.join(SPLITS[:-1])} or {SPLITS[-1]}, or leave the column out to have it assigned.",
            file=file,
            column="split",
            row=row,
        )
    return np.asarray(rows.to_numpy(), dtype=np.int8)


def no_empty_split(splits: npt.NDArray[np.int8], candidates: npt.NDArray[np.int64], file: str) -> None:
    """Each split has at least one query with candidates."""
    for code, name in enumerate(SPLITS):
        if not ((splits == code) & (candidates > 0)).any():
            raise DataError(
                f"the {name} split is empty: none of {len(splits)} queries with candidates is in it.",
                "Put queries in it with a `split` column, or add queries.",
                file=file,
                column="split",
            )


def appearance(column: Any) -> npt.NDArray[np.int64]:
    """`[n]` code of each value of a column, counted up by first appearance."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    array = pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
    return np.asarray(array.dictionary_encode().indices.to_numpy(), dtype=np.int64)


def _plain(column: Any) -> Any:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _shown(column: Any) -> str:
    return repr(column[0].as_py())[:60] if len(column) else "the column"


def _no_null(column: Any, file: str, name: str, first_row: int, remedy: str) -> None:
    if column.null_count:
        row = first_true(np.asarray(pc.is_null(column).to_numpy(zero_copy_only=False)))
        assert row is not None
        raise DataError("the value is missing (null).", remedy, file=file, column=name, row=first_row + row)
