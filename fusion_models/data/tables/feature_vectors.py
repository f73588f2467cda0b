"""Columns of feature vectors: lists of numbers of one width, narrowed to float32 only where that loses nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fusion_models.data.errors import DataError
from fusion_models.data.tables.checks import first_true, shown
from fusion_models.data.tables.columns import as_floats, flat_lists, is_list, plain, spark_vectors

Floats = npt.NDArray[np.float32]

TOLERATED = 1e-4
"""Largest rounding error of a feature, as a fraction of its range over the table: 10,000 levels stay apart."""
NOISE = 1e-14
"""A range this small beside the values is float64's own rounding noise: a constant, of which nothing can be lost."""
UNDERFLOW = 1e-30
"""A feature whose values are all smaller becomes 0, which the data card names as constant."""


class Narrowing:
    """What float32 costs each feature of a column: its range in the table, and its largest rounding error.

    Whole and decimal numbers are compared as they are stored too, since float64 may make them equal.
    """

    def __init__(self) -> None:
        self._low = self._high = self._error = np.zeros(0)
        self._differs = np.zeros(0, np.bool_)
        self._first: Any = None

    def update(self, exact: npt.NDArray[np.float64], kept: Floats, stored: Any) -> None:
        """Add `[n, D]` values as float64 has them and as they are kept; `stored`: all of them as the table has them."""
        if len(exact) == 0:
            return
        self._compare(stored, exact.shape[1])
        low, high = exact.min(axis=0), exact.max(axis=0)
        error = np.abs(exact - kept).max(axis=0)
        if len(self._low) == 0:
            self._low, self._high, self._error = low, high, error
        else:
            self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
            self._error = np.maximum(self._error, error)

    def _compare(self, stored: Any, width: int) -> None:
        """Note which features of whole or decimal numbers differ from the table's first row, exactly."""
        if len(self._differs) == 0:
            self._differs = np.zeros(width, np.bool_)
        wide = pa.types.is_integer(stored.type) and stored.type.bit_width == 64
        if not wide and not pa.types.is_decimal(stored.type):  # float64 has every other value
            return
        if self._first is None or self._first.type != stored.type:
            self._first = stored[:width]
        codes = pa.concat_arrays([self._first, stored]).dictionary_encode().indices.to_numpy(zero_copy_only=False)
        rows = codes.reshape(-1, width)
        self._differs |= (rows != rows[0]).any(axis=0)

    def check(self, file: str, name: str) -> None:
        """Raise DataError where a feature's differences are too small beside its values for float32."""
        spread, largest = self._high - self._low, np.maximum(np.abs(self._low), np.abs(self._high))
        apart = (spread > NOISE * largest) | self._differs
        lost = (self._error > TOLERATED * spread) & apart & (largest > UNDERFLOW)
        lost |= (spread == 0.0) & self._differs
        column = first_true(lost)
        if column is not None:
            raise DataError(
                f"feature {column} goes from {self._low[column]:.17g} to {self._high[column]:.17g}: as float32 numbers "
                "these hardly differ.",
                "Subtract a constant from it, or write it as a scalar column `MODALITY.<name>`: these are standardised "
                "first.",
                file=file,
                column=name,
            )


def feature_vectors(
    column: Any,
    file: str,
    name: str,
    first_row: int = 0,
    width: int | None = None,
    narrowing: Narrowing | None = None,
) -> Floats:
    """A column of lists of numbers, all of one width (that of row 0, where `width` is None), as `[n, D]` float32.

    Lists of any layout, tensors of one shape, Spark's vectors; floats, whole numbers, decimals, true and false.
    `narrowing` sees what float32 costs.
    """
    values = plain(column)
    spark = spark_vectors(values, file, name, first_row)
    values = values if spark is None else spark
    if pa.types.is_null(values.type):
        _no_null(values, file, name, first_row)
    if not is_list(values.type):
        raise _not_lists(column, file, name, first_row)
    _no_null(values, file, name, first_row)
    found = flat_lists(values)
    if found is None:
        raise _not_lists(column, file, name, first_row)
    lengths, flat = found
    width = int(lengths[0]) if width is None and len(lengths) else (width or 0)
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
    exact, kept = _narrowed(flat, width)
    row = first_true(np.any(~np.isfinite(kept), axis=1))
    if row is not None:
        position = int(np.argmin(np.isfinite(kept[row])))
        raw = flat[row * width + position]
        raise DataError(
            f"{shown(raw) if raw.is_valid else 'null'} at position {position} of the list is not a finite float32 "
            "number.",
            "Replace NaN, null and infinity.",
            file=file,
            column=name,
            row=first_row + row,
        )
    if narrowing is not None and exact is not None:
        narrowing.update(exact, kept, flat)
    return kept


def _narrowed(flat: Any, width: int) -> tuple[npt.NDArray[np.float64] | None, Floats]:
    """`[n, width]` as float64 (None where float32 keeps each value of the type) and as float32."""
    if pa.types.is_float32(flat.type):
        return None, np.asarray(flat.to_numpy(zero_copy_only=False), dtype=np.float32).reshape(-1, width)
    exact = as_floats(flat).reshape(-1, width)
    with np.errstate(over="ignore", invalid="ignore"):
        return exact, exact.astype(np.float32)


def _not_lists(column: Any, file: str, name: str, row: int) -> DataError:
    return DataError(
        f"the column is of type {column.type}, not lists of float.",
        f"Write a list of one fixed width in every row: "
        f"`df[{name!r}] = [np.ravel(v).astype('float32') for v in df[{name!r}]]`.",
        file=file,
        column=name,
        row=row,
    )


def _no_null(column: Any, file: str, name: str, first_row: int) -> None:
    row = first_true(np.asarray(pc.is_null(column).to_numpy(zero_copy_only=False))) if column.null_count else None
    if row is not None:
        raise DataError(
            "the value is missing (null).", "Give every row a list.", file=file, column=name, row=first_row + row
        )
