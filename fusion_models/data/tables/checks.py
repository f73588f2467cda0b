"""The checks at the door: each takes a piece of a table and returns it clean, or raises a DataError.

Every error names the file, the column, the first offending row (counted from 0) and what to do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fusion_models.data.errors import DataError
from fusion_models.data.tables.columns import (
    EXACT_INTEGER,
    as_floats,
    first_inexact,
    is_moment,
    is_number,
    is_text,
    plain,
)

Bools = npt.NDArray[np.bool_]

LARGEST = 1e100
"""Of a label, score or weight: squares of larger numbers, which correlations need, are beyond float64."""


def first_true(flags: Bools) -> int | None:
    """Row of the first True; None where there is none."""
    return int(np.argmax(flags)) if flags.any() else None


def require_rows(count: int, file: str) -> None:
    """The table is not empty."""
    if count == 0:
        raise DataError("the table has no rows.", "Write at least one.", file=file)


def ids(column: Any, file: str, name: str, first_row: int = 0) -> Any:
    """A column (Arrow array) of names without nulls, as large_string.

    Text, bytes that are UTF-8, whole numbers (1.0 counts as 1), true and false, dates, decimals and UUIDs have one
    spelling each.
    """
    values = plain(column)
    kind = values.type
    _no_null(values, file, name, first_row, "Give every row a value.")
    if pa.types.is_large_binary(kind):
        text = values.cast(pa.large_string(), safe=False)
    elif pa.types.is_floating(kind):
        text = _whole(values)
    elif is_text(kind):
        text = values
    elif is_number(kind) or is_moment(kind):
        text = _spelled(values)
    else:
        text = None
    if text is None:
        raise DataError(
            f"{_shown(values)} is of type {column.type}, not text or a whole number.",
            f"Write ids and names as text: `df[{name!r}] = df[{name!r}].astype(str)`.",
            file=file,
            column=name,
            row=first_row,
        )
    return clean_text(text, file, name, first_row)


def texts(column: Any, file: str, name: str, first_row: int = 0) -> Any:
    """A column of text (or bytes that are UTF-8) as large_string, null where there is none."""
    values = plain(column)
    if pa.types.is_null(values.type):
        return values.cast(pa.large_string())
    if pa.types.is_large_binary(values.type):
        values = values.cast(pa.large_string(), safe=False)
    if not is_text(values.type):
        raise DataError(
            f"{_shown(values)} is of type {column.type}, not text.",
            f"Write the column as text: `df[{name!r}] = df[{name!r}].astype(str)`.",
            file=file,
            column=name,
            row=first_row,
        )
    return clean_text(values, file, name, first_row)


def clean_text(values: Any, file: str, name: str, first_row: int = 0) -> Any:
    """The large_string array, if it is UTF-8 and holds no NUL; Arrow itself checks neither when it reads."""
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        for place, raw in enumerate(values.cast(pa.large_binary()).to_pylist()):
            if raw is not None and not _decodes(raw):
                raise DataError(
                    f"{raw[:40]!r} is not UTF-8.",
                    "Decode it as what it is (often latin-1) and write it again as UTF-8.",
                    file=file,
                    column=name,
                    row=first_row + place,
                ) from None
        raise  # something else than text is wrong with the array
    row = first_true(np.asarray(pc.fill_null(pc.match_substring(values, "\0"), False).to_numpy(zero_copy_only=False)))
    if row is not None:
        raise DataError(
            f"{values[row].as_py()[:40]!r} holds a NUL character.",
            f"Take it out: `df[{name!r}] = df[{name!r}].str.replace('\\0', '')`.",
            file=file,
            column=name,
            row=first_row + row,
        )
    return values


def numbers(column: Any, file: str, name: str, first_row: int = 0, *, exact: bool = True) -> npt.NDArray[np.float64]:
    """A column of finite numbers, as `[n]` float64: floats, whole numbers, decimals, true and false, moments of time.

    `exact`: whole and decimal numbers that float64 would round are refused, since two that differ could become equal.
    """
    values = plain(column)
    kind = values.type
    if pa.types.is_null(kind):
        _no_null(values, file, name, first_row, "Give every row a number.")
    if not (is_number(kind) or is_moment(kind)):
        raise DataError(
            f"{_shown(values)} is of type {column.type}, not a number.",
            f"Write the column as float: `df[{name!r}] = df[{name!r}].astype('float64')`.",
            file=file,
            column=name,
            row=first_row,
        )
    _no_null(values, file, name, first_row, "Give every row a number, or leave the row out.")
    floats = as_floats(values)
    row = first_true(~np.isfinite(floats))
    if row is not None:
        raise DataError(
            f"{shown(values[row])} is not a finite number.",
            "Replace it, or leave the row out.",
            file=file,
            column=name,
            row=first_row + row,
        )
    row = first_inexact(values) if exact else None
    if row is not None:
        raise DataError(
            f"{shown(values[row])} has more digits than float64 keeps: two that differ could become one.",
            f"Subtract what all have in common: `df[{name!r}] -= df[{name!r}].min()`.",
            file=file,
            column=name,
            row=first_row + row,
        )
    return floats


def labels(column: Any, file: str, first_row: int = 0) -> npt.NDArray[np.float64]:
    """Relevance labels: finite numbers >= 0, `[n]` float64."""
    values = not_huge(numbers(column, file, "label", first_row), file, "label", first_row)
    row = first_true(values < 0)
    if row is not None:
        raise DataError(
            f"the label {values[row]:g} is negative.",
            "Use 0 for not relevant and larger grades for more relevant.",
            file=file,
            column="label",
            row=first_row + row,
        )
    return values


def weights(column: Any, file: str, first_row: int = 0) -> npt.NDArray[np.float64]:
    """What each query counts: finite numbers >= 0, `[n]` float64."""
    values = not_huge(numbers(column, file, "weight", first_row), file, "weight", first_row)
    row = first_true(values < 0)
    if row is not None:
        raise DataError(
            f"the weight {values[row]:g} is negative.",
            "Use 0 for a query that shall not count, 1 for one that counts once.",
            file=file,
            column="weight",
            row=first_row + row,
        )
    return values


def not_huge(values: npt.NDArray[np.float64], file: str, name: str, first_row: int = 0) -> npt.NDArray[np.float64]:
    """`values` themselves, if their squares are numbers."""
    row = first_true(np.abs(values) > LARGEST)
    if row is not None:
        raise DataError(
            f"{values[row]:g} is beyond {LARGEST:g}: its square is no float64 number.",
            f"Scale the column down: `df[{name!r}] /= df[{name!r}].abs().max()`.",
            file=file,
            column=name,
            row=first_row + row,
        )
    return values


def moments(column: Any, file: str, name: str, first_row: int = 0) -> Any:
    """A plain column of moments of time, numbers or text, nulls allowed, that Python can hold."""
    values = plain(column)
    if is_text(values.type) or pa.types.is_large_binary(values.type):
        return texts(values, file, name, first_row)
    if not (is_moment(values.type) or is_number(values.type) or pa.types.is_null(values.type)):
        raise DataError(
            f"{_shown(values)} is of type {column.type}, neither a moment of time nor a number or text.",
            f"Write timestamps: `df[{name!r}] = pd.to_datetime(df[{name!r}])`.",
            file=file,
            column=name,
            row=first_row,
        )
    for row, scalar in enumerate(values):
        try:
            scalar.as_py()
        except (ValueError, OverflowError, KeyError, pa.ArrowException) as error:
            raise DataError(
                f"{shown(scalar)} of type {values.type} is no moment that Python knows ({error}).",
                "Mend its year or its time zone.",
                file=file,
                column=name,
                row=first_row + row,
            ) from error
    return values


def _whole(values: Any) -> Any | None:
    """Floats that are whole numbers, as text (1.0 is `1`); None where one is not, or is beyond 2^53."""
    try:
        whole = values.cast(pa.float64()).cast(pa.int64())
    except pa.ArrowInvalid:
        return None
    exact = (np.abs(whole.to_numpy(zero_copy_only=False).astype(np.float64)) <= EXACT_INTEGER).all()
    return whole.cast(pa.large_string()) if exact else None


def _spelled(values: Any) -> Any | None:
    """As Arrow writes them; None where it cannot (durations, an unknown time zone)."""
    try:
        return values.cast(pa.large_string())
    except pa.ArrowException:
        return None


def _decodes(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def shown(scalar: Any) -> str:
    """An Arrow scalar for a message; what Python cannot hold (a year beyond 9999) as the number that is stored."""
    try:
        return repr(scalar.as_py())
    except (ValueError, OverflowError, KeyError, pa.ArrowException):
        return str(scalar.value) if pa.types.is_temporal(scalar.type) else f"a value of type {scalar.type}"


def _shown(column: Any) -> str:
    return shown(column[0])[:60] if len(column) else "the column"


def _no_null(column: Any, file: str, name: str, first_row: int, remedy: str) -> None:
    if column.null_count:
        row = first_true(np.asarray(pc.is_null(column).to_numpy(zero_copy_only=False)))
        assert row is not None
        raise DataError("the value is missing (null).", remedy, file=file, column=name, row=first_row + row)
