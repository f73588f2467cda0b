"""A column of any Arrow type as one of the few that the checks read: what Arrow can cast without loss is read.

Dictionaries, views, run-end encoding and extension types are ways to store a value, not values of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fusion_models.data.errors import DataError

EXACT_INTEGER = 2**53
"""Whole numbers up to here are float64 numbers too."""
EXACT_DIGITS = 15
"""Decimals of so many significant digits stay apart as float64."""

Floats = npt.NDArray[np.float64]


def plain(column: Any) -> Any:
    """An Arrow array (or chunked array) without dictionary, view, run-end encoding or extension around its values."""
    if isinstance(column, pa.ChunkedArray):
        chunks = [plain(chunk) for chunk in column.chunks]
        return pa.chunked_array(chunks) if chunks else plain(pa.array([], column.type))
    kind = column.type
    if isinstance(kind, pa.UuidType):
        return _spelled_uuids(column.storage)
    if isinstance(kind, pa.BaseExtensionType):
        return plain(column.storage)
    if pa.types.is_dictionary(kind):
        return pc.take(plain(column.dictionary), column.indices)
    if pa.types.is_run_end_encoded(kind):
        return plain(pc.run_end_decode(column))
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_binary_view(kind):
        return column.cast(pa.large_binary())
    return column


def stored_type(kind: Any) -> Any:
    """The type of the values of `plain`, read off a column's type."""
    if isinstance(kind, pa.UuidType):
        return pa.large_string()
    if isinstance(kind, pa.BaseExtensionType):
        return stored_type(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return stored_type(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_binary_view(kind):
        return pa.large_binary()
    return kind


def is_number(kind: Any) -> bool:
    """Whether values of a plain type are numbers: floats, whole numbers, decimals, true and false."""
    types = pa.types
    return bool(types.is_floating(kind) or types.is_integer(kind) or types.is_decimal(kind) or types.is_boolean(kind))


def is_moment(kind: Any) -> bool:
    """Whether values of a plain type are moments or spans of time, which count units from a fixed day."""
    return bool(pa.types.is_temporal(kind)) and not pa.types.is_interval(kind)


def is_text(kind: Any) -> bool:
    """Whether values of a plain type are text."""
    return bool(pa.types.is_large_string(kind))


def is_list(kind: Any) -> bool:
    """Whether values of a plain type are lists, of whatever layout."""
    types = pa.types
    return bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def as_floats(column: Any) -> Floats:
    """`[n]` float64 of a plain column of numbers or moments; NaN for null."""
    kind = column.type
    if is_moment(kind):
        column = column.cast(pa.int32() if kind.bit_width == 32 else pa.int64()).cast(pa.int64())
    elif pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif pa.types.is_decimal(kind):
        column = column.cast(pa.large_string())  # of which Arrow finds the nearest float64, of a decimal one near it
    floats = column if pa.types.is_float64(column.type) else column.cast(pa.float64(), safe=False)
    return np.asarray(floats.to_numpy(zero_copy_only=False), dtype=np.float64)


def first_inexact(column: Any) -> int | None:
    """Row of the first whole or decimal number of a plain column that float64 does not keep; None where it keeps all.

    A decimal counts as kept where its digits are: 0.1 is, though no binary number equals it.
    """
    kind = column.type
    if is_moment(kind):
        column, kind = column.cast(pa.int32() if kind.bit_width == 32 else pa.int64()), pa.int64()
    if pa.types.is_integer(kind) and kind.bit_width == 64:
        values = column.to_numpy(zero_copy_only=False)
        low, high = (-EXACT_INTEGER, EXACT_INTEGER) if pa.types.is_signed_integer(kind) else (0, EXACT_INTEGER)
        wrong = (values < low) | (values > high)
        wrong[wrong] = [int(float(v)) != int(v) for v in values[wrong]]
        return int(np.argmax(wrong)) if wrong.any() else None
    if pa.types.is_decimal(kind) and kind.precision > EXACT_DIGITS:
        bare = pc.utf8_trim(pc.replace_substring_regex(column.cast(pa.large_string()), "[-.]", ""), "0")
        long = pc.fill_null(pc.greater(pc.utf8_length(bare), EXACT_DIGITS), False)
        for row in np.flatnonzero(long.to_numpy(zero_copy_only=False)).tolist():  # 1E+20 is long, and one digit
            digits = "".join(map(str, column[row].as_py().as_tuple().digits)).strip("0")
            if len(digits) > EXACT_DIGITS:
                return int(row)
    return None


def _spelled_uuids(storage: Any) -> Any:
    """`xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` of 16 bytes each."""
    known = storage.is_valid().to_numpy(zero_copy_only=False)
    raw = np.frombuffer(b"".join(v if v is not None else bytes(16) for v in storage.to_pylist()), np.uint8)
    pairs = np.frombuffer(raw.tobytes().hex().encode(), np.uint8).reshape(-1, 32)
    ends = np.cumsum([8, 4, 4, 4])
    spelled = np.insert(pairs, ends, ord("-"), axis=1)
    texts = pa.array(spelled.view("S36").ravel(), mask=~known) if len(spelled) else pa.array([], pa.binary())
    return texts.cast(pa.large_string())


def spark_vectors(column: Any, file: str, name: str, first_row: int = 0) -> Any | None:
    """Spark's vectors (struct of type, size, indices, values; 0: sparse, 1: dense) as lists of float64; else None.

    Raises DataError for a vector that is none.
    """
    kind = column.type
    fields = [kind.field(i).name for i in range(kind.num_fields)] if pa.types.is_struct(kind) else []
    if not {"type", "size", "indices", "values"} <= set(fields):
        return None
    rows: list[list[float] | None] = []
    for row, vector in enumerate(column.to_pylist()):
        wrong = None if vector is None else _wrong_with(vector)
        if wrong is not None:
            raise DataError(
                f"{wrong}: this is no vector of Spark's.",
                "Write dense vectors (type 1), or one index below `size` for each value.",
                file=file,
                column=name,
                row=first_row + row,
            )
        if vector is None:
            rows.append(None)
        elif vector["type"] == 1:
            rows.append(vector["values"])
        else:
            full = [0.0] * vector["size"]
            for index, value in zip(vector["indices"], vector["values"], strict=True):
                full[index] = value
            rows.append(full)
    return pa.array(rows, pa.large_list(pa.float64()))


def _wrong_with(vector: dict[str, Any]) -> str | None:
    """What is wrong with one of Spark's vectors."""
    kind, size, indices, values = (vector[name] for name in ("type", "size", "indices", "values"))
    if kind not in (0, 1):
        return f"type {kind}"
    if values is None:
        return "values are missing"
    if kind == 1:
        return None
    if size is None or indices is None:
        return "size or indices are missing"
    if len(indices) != len(values):
        return f"{len(indices)} indices and {len(values)} values"
    if any(index is None or not 0 <= index < size for index in indices):
        return f"size {size} and indices {str(indices)[:40]}"
    return "an index stands twice" if len(set(indices)) < len(indices) else None


def flat_lists(column: Any) -> tuple[npt.NDArray[np.int64], Any] | None:
    """Numbers a list `[n]`, and all of them, plain, one list after another; None where it holds no numbers.

    `column`: lists without null. A list of equally long lists (a patch, a tensor) counts as one list.
    """
    lengths = np.asarray(pc.list_value_length(column).to_numpy(zero_copy_only=False), dtype=np.int64)
    flat = plain(column.flatten())
    while is_list(flat.type):
        inner = np.asarray(pc.list_value_length(flat).to_numpy(zero_copy_only=False))
        if flat.null_count or (len(inner) and (inner != inner[0]).any()):
            return None
        lengths = lengths * int(inner[0]) if len(inner) else lengths
        flat = plain(flat.flatten())
    return (lengths, flat) if is_number(flat.type) else None
