"""A table that a program hands over to be scored: its columns, read one by one as the data contract reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from fusion_models.data import DataError
from fusion_models.data.in_memory import arrow_table
from fusion_models.data.tables import checks
from fusion_models.data.tables.columns import plain
from fusion_models.work.foreign import first_line

REMEDY = "Give one type of value a column; vectors as lists or arrays of one dimension."


class GivenTable:
    """A pandas or polars frame, an Arrow table, or a dict of columns. Only columns that are asked for are looked at."""

    def __init__(self, given: Any, name: str) -> None:
        """`name`: what errors call it. Raises DataError for what is no table."""
        self.name = name
        self._given: Any = given if isinstance(given, pd.DataFrame) else arrow_table(given, name)
        columns = given.columns if isinstance(given, pd.DataFrame) else self._given.column_names
        self.names = [str(column) for column in columns]
        self.rows = len(self._given)
        self.index: pd.Index[Any] = given.index if isinstance(given, pd.DataFrame) else pd.RangeIndex(self.rows)
        """What scores of the rows are filed under."""

    def require(self, columns: Sequence[str]) -> None:
        """Raise DataError, naming the first column that is not there, or stands there twice."""
        for column in columns:
            found = self.names.count(column)
            if found == 0:
                raise DataError("missing.", "This ranker reads it.", file=self.name, column=column)
            if found > 1:
                raise DataError(f"stands there {found} times.", "Leave one.", file=self.name, column=column)

    def column(self, name: str) -> Any:
        """One column as a plain Arrow array. Raises DataError where it is missing or Arrow has no type for it."""
        self.require([name])
        place = self.names.index(name)
        try:
            frame = isinstance(self._given, pd.DataFrame)
            found = pa.array(self._given.iloc[:, place], from_pandas=True) if frame else self._given.column(place)
            values = plain(found)
            return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        except DataError:
            raise
        except Exception as error:  # whatever Arrow raises of a value
            said = f"its values do not go together ({first_line(error).rstrip('.')})."
            raise DataError(said, REMEDY, file=self.name, column=name) from error

    def columns(self, names: Sequence[str]) -> Any:
        """Several, as an Arrow record batch."""
        return pa.record_batch({name: self.column(name) for name in names})

    def ids(self, name: str) -> pd.Index[Any]:
        """A column of ids as text, spelled as a dataset's are. Raises DataError for one that is missing."""
        spelled: npt.NDArray[np.object_] = checks.ids(self.column(name), self.name, name).to_numpy(zero_copy_only=False)
        return pd.Index(spelled, dtype=object)

    def unique_ids(self, name: str) -> pd.Index[Any]:
        """`ids`. Raises DataError where one stands there twice."""
        known = self.ids(name)
        again = np.flatnonzero(known.duplicated())
        if len(again):
            said = f"{known[int(again[0])]!r} stands there twice."
            raise DataError(said, "Leave one row of it.", file=self.name, column=name, row=int(again[0]))
        return known

    def scores(self, name: str) -> npt.NDArray[np.float64]:
        """A column of scores, of which float64 keeps the order."""
        values = checks.numbers(self.column(name), self.name, name)
        return checks.not_huge(values, self.name, name)

    def found(self, known: pd.Index[Any], wanted: pd.Index[Any], column: str, remedy: str) -> npt.NDArray[np.int64]:
        """Places in `known` of this table's ids. Raises DataError, with `remedy`, for one that is not there."""
        rows = np.asarray(known.get_indexer(wanted), dtype=np.int64)
        if (rows < 0).any():
            row = int(np.flatnonzero(rows < 0)[0])
            raise DataError(f"{wanted[row]!r} is unknown.", remedy, file=self.name, column=column, row=row)
        return rows


def require_pairs_once(queries: pd.Index[Any], items: pd.Index[Any], name: str) -> None:
    """Raise DataError where an item stands twice in one query's list: it would move the scores of the others."""
    again = np.flatnonzero(pd.DataFrame({"query": queries, "item": items}).duplicated())
    if len(again):
        row = int(again[0])
        said = f"item {items[row]!r} stands twice in the list of query {queries[row]!r}."
        raise DataError(said, "Leave one row of it.", file=name, column="item_id", row=row)
