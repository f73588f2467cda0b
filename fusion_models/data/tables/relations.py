"""The checks that look at a whole table or two: ids known and given once, pairs judged once, splits that are whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fusion_models.data.errors import DataError
from fusion_models.data.splits import SPLITS
from fusion_models.data.tables.checks import first_true


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
            f"query_id {query_id!r} is in {SPLITS[splits[row]]} here "
            f"and in {SPLITS[splits[earlier]]} in row {earlier}.",
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
    """`[n]` codes into SPLITS of a checked `split` column."""
    rows = pc.index_in(column, value_set=pa.array(SPLITS, pa.large_string()))
    if rows.null_count:
        row = first_true(np.asarray(rows.is_null().to_numpy()))
        assert row is not None
        raise DataError(
            f"{column[row].as_py()!r} is not a split.",
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
    array = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
    return np.asarray(array.dictionary_encode().indices.to_numpy(), dtype=np.int64)


def no_weightless_split(splits: npt.NDArray[np.int8], weight: npt.NDArray[np.float64], file: str) -> None:
    """No split's queries all weigh 0: their mean would be none."""
    for code, name in enumerate(SPLITS):
        inside = splits == code
        if inside.any() and not (weight[inside] > 0).any():
            raise DataError(
                f"every query of the {name} split has weight 0.",
                "Give those that shall count a weight above 0, or leave the column out.",
                file=file,
                column="weight",
            )
