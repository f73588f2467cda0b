"""The columns of `items` that each modality is made of, and how they become the vectors that a ranker reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fusion_models.data import DataError
from fusion_models.data.arrays.scalars import CategoryColumn, NumberColumn, ScalarEncoding
from fusion_models.data.schema import FeatureSchema, FeatureStatistics
from fusion_models.data.tables.feature_vectors import feature_vectors
from fusion_models.data.tables.time_units import count_of

Floats = npt.NDArray[np.float32]
Value = list[float] | float | str | bool | None
"""What stands in a row of one column."""
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class ItemColumns:
    """Of one modality: a column of vectors, scalar columns `MODALITY.<name>`, or both, vectors first."""

    modality: str
    listed: int
    """Width of the vectors; 0 where there is no such column."""
    encoding: ScalarEncoding

    @cached_property
    def scalars(self) -> dict[str, NumberColumn | CategoryColumn]:
        """Scalar columns by name, in the encoding's order."""
        return {column.name: column for column in self.encoding.columns}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every column that is read."""
        return (*([self.modality] if self.listed else []), *self.scalars)

    @property
    def width(self) -> int:
        """Of what a ranker reads."""
        return self.listed + self.encoding.width

    @property
    def refusal(self) -> str:
        """Why vectors under the modality's own name are not taken, where it is made of scalar columns alone."""
        return f"no column of the training data, which have {', '.join(self.scalars)}"

    def wrong_with(self, name: str, value: Value) -> str | None:
        """What is wrong with a value of the column `name`; None: nothing."""
        if name == self.modality:
            got = f", got {len(value)}" if isinstance(value, list) else ""
            fits = isinstance(value, list) and len(value) == self.listed
            return None if fits else f"expected {self.listed} numbers{got}"
        column = self.scalars[name]
        return _no_category(value) if isinstance(column, CategoryColumn) else _no_number(value, column)

    def of_rows(self, rows: Sequence[Mapping[str, Value]], file: str) -> Floats:
        """`[rows, width]` of rows that hold every column, in which `wrong_with` finds nothing."""
        types = {name: pa.list_(pa.float64()) for name in self.names} | {
            name: pa.float64() if isinstance(column, NumberColumn) else pa.large_string()
            for name, column in self.scalars.items()
        }
        arrays = {
            name: pa.array([_plain(row[name], self.scalars.get(name)) for row in rows], types[name])
            for name in self.names
        }
        return self.encoded(pa.record_batch(arrays), file)

    def encoded(self, batch: Any, file: str) -> Floats:
        """`[rows, width]` of an Arrow record batch that holds every column. Raises DataError, naming column and row."""
        parts = []
        if self.listed:
            parts.append(vectors(batch.column(self.modality), self.listed, file, self.modality))
        if self.encoding.columns:
            parts.append(self.encoding.encode(batch, file))
        found = np.concatenate(parts, axis=1)
        assert found.shape == (batch.num_rows, self.width)
        return found


def item_columns(schema: FeatureSchema, statistics: FeatureStatistics) -> Mapping[str, ItemColumns]:
    """Modality -> its columns, in the dataset's order."""
    encodings = {m: ScalarEncoding.from_json(statistics.encodings.get(m, [])) for m in schema.modalities}
    return {m: ItemColumns(m, schema.width(m) - e.width, e) for m, e in encodings.items()}


def _no_category(value: Value) -> str | None:
    if isinstance(value, str) and "\0" in value:
        return f"{value[:40]!r} holds a NUL character"
    return None if value is None or isinstance(value, str) else "expected a text, or null"


def _no_number(value: Value, column: NumberColumn) -> str | None:
    """As the encoding would say, which is not made for it: V1's answer waits for this."""
    try:
        number = _number(value, column)
    except (ValueError, OverflowError):
        number = None
    if number is None:
        if column.time is None:
            return "expected a number"
        counted = f"a number ({column.time}, counted from its first day)"
        span = column.time.startswith("duration")
        return (
            f"expected {counted}" if span else f"expected a moment as ISO text ({_example(column.time)}), or {counted}"
        )
    if abs((number - column.mean) / column.std) > LARGEST:
        return f"{number:g} is too far from the training items' mean {column.mean:g} for float32"
    return None


def _example(time: str) -> str:
    return "12:30:00" if time.startswith("time") and not time.startswith("timestamp") else "2026-01-31T12:30:00"


def _number(value: Value, column: NumberColumn) -> float | None:
    """What a number column holds; None for a value of another kind. Raises ValueError for what is no ISO moment."""
    if isinstance(value, str) and column.time is not None:
        return float(count_of(value, column.time))
    return float(value) if isinstance(value, bool | int | float) else None


def _plain(value: Value, column: NumberColumn | CategoryColumn | None) -> Value:
    return _number(value, column) if isinstance(column, NumberColumn) else value


def vectors(column: Any, width: int, file: str, name: str) -> Floats:
    """`[rows, width]` of a column of lists. Raises DataError for lists of another width, and for what is no number."""
    found = feature_vectors(column, file, name)
    if found.shape[1] != width:
        said = f"expected {width} numbers, got {found.shape[1]}."
        raise DataError(said, "Give the features that it was trained with.", file=file, column=name, row=0)
    return found
