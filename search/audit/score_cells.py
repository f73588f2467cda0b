"""Columns of a table of scores as ids and as float64: read as a dataset's are, by what Arrow can read without loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from fusion_models.data import DataError
from fusion_models.data.tables import checks
from fusion_models.data.tables.columns import as_floats, first_inexact, is_number, plain

Values = npt.NDArray[np.float64]


def read_ids(column: pd.Series, name: str, source: str) -> list[str]:
    """A column of ids in the spelling that the dataset's have. Raises DataError for an empty one, or no id."""
    if column.isna().any():
        row = int(np.flatnonzero(column.isna().to_numpy())[0])
        raise DataError("empty.", "Every row names its query and item.", file=source, column=name, row=row)
    cells = _arrow(column)
    if cells is None:  # text beside numbers, say
        return [str(value) for value in column.tolist()]
    found: list[str] = checks.ids(cells, source, name).to_pylist()
    return found


def read_names(column: pd.Series, name: str, source: str) -> list[str]:
    """A column of names, as `read_ids` spells ids; they may be fractions. Raises DataError for an empty one."""
    try:
        return read_ids(column, name, source)
    except DataError:
        cells = _arrow(column)
        if cells is None or cells.null_count or not pa.types.is_floating(cells.type):
            raise
        return [str(value) for value in column.tolist()]


def read_numbers(column: pd.Series, name: str, source: str) -> Values:
    """A column as float64, NaN where it is empty.

    Raises DataError for what is no number, and where two numbers that differ would be one.
    """
    cells = _arrow(column)
    if cells is not None and is_number(cells.type) and not pa.types.is_boolean(cells.type):
        floats = as_floats(cells)
        inexact = first_inexact(cells.drop_null()) is not None
        values = cells.to_pylist() if inexact else []
    else:
        values = column.tolist()
        row = next((i for i, value in enumerate(values) if not _is_number(value)), None)
        if row is not None:
            said = f"{shown(values[row])} is no number."
            raise DataError(said, "Write finite numbers.", file=source, column=name, row=row)
        floats = np.array([np.nan if value is None or value is pd.NA else float(value) for value in values])
    _require_apart(values, floats, name, source)
    return floats


def shown(value: Any) -> str:
    """A cell as an error shows it."""
    return repr(value.item() if isinstance(value, np.generic) else value)[:80]


def _arrow(column: pd.Series) -> Any | None:
    """The column as a plain Arrow array; None where Arrow has no one type for it."""
    try:
        cells = pa.array(column, from_pandas=True)
        return plain(cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return None


def _require_apart(values: list[Any], floats: Values, name: str, source: str) -> None:
    """No two numbers that differ are one float64."""
    first: dict[float, Any] = {}
    for row, (value, number) in enumerate(zip(values, floats.tolist(), strict=False)):
        if np.isfinite(number) and first.setdefault(number, value) != value:
            raise DataError(
                f"{shown(value)} and {shown(first[number])}, which differ, are one number in float64.",
                f"Subtract what all have in common: `df[{name!r}] -= df[{name!r}].min()`.",
                file=source,
                column=name,
                row=row,
            )


def _is_number(value: Any) -> bool:
    if value is None or value is pd.NA:
        return True
    if isinstance(value, str | bytes | bool | complex | list | np.ndarray | np.bool_):
        return False
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True
