"""Scalar columns `MODALITY.<name>` as one vector an item, scaled by the training split alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fusion_models.data.arrays.moments import RunningMoments
from fusion_models.data.errors import DataError
from fusion_models.data.tables import TableReader, checks
from fusion_models.data.tables.columns import EXACT_INTEGER, is_moment, is_number, is_text, plain
from fusion_models.data.tables.feature_vectors import UNDERFLOW
from fusion_models.data.tables.time_units import in_time, named_time
from fusion_models.work.foreign import first_line

DISTINCT_BATCHES = 256
"""Batches of a number column in which different values are counted."""
MAX_CATEGORIES = 32
"""Most frequent categories that get a column of their own; the others, and missing ones, share `other`."""


@dataclass(frozen=True)
class NumberColumn:
    """Encoded as (value - mean) / std."""

    name: str
    mean: float
    std: float
    left: tuple[int, int] | None = None
    """Different values looked at, and as many as float32 tells apart of them encoded, where that is half or less."""
    time: str | None = None
    """The type of time whose units `mean` and `std` count (`timestamp[us]`); None for numbers, and where unknown."""

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        found: dict[str, Any] = {"name": self.name, "mean": self.mean, "std": self.std}
        found |= {} if self.left is None else {"left": list(self.left)}
        return found if self.time is None else found | {"time": self.time}

    @staticmethod
    def from_json(column: dict[str, Any]) -> NumberColumn:
        """What `to_json` wrote."""
        left = tuple(column["left"]) if "left" in column else None
        return NumberColumn(column["name"], column["mean"], column["std"], left, column.get("time"))


@dataclass(frozen=True)
class CategoryColumn:
    """Encoded one-hot: one column a category, most frequent first, and one for every other value."""

    name: str
    categories: tuple[str, ...]


@dataclass(frozen=True)
class ScalarEncoding:
    """How scalar columns become numbers: fitted once, stored with the arrays and with the model."""

    columns: tuple[NumberColumn | CategoryColumn, ...] = ()

    @property
    def width(self) -> int:
        """Encoded features an item."""
        return sum(1 if isinstance(c, NumberColumn) else len(c.categories) + 1 for c in self.columns)

    def encode(self, batch: Any, file: str, first_row: int = 0) -> npt.NDArray[np.float32]:
        """`[n, width]` float32 of a record batch (or table) that holds the columns; DataError on a missing number."""
        parts: list[npt.NDArray[np.float32]] = []
        for column in self.columns:
            values = batch.column(column.name)
            if isinstance(column, NumberColumn):
                parts.append(_scaled(values, column, file, first_row)[:, None])
            else:
                code = {category: i for i, category in enumerate(column.categories)}
                other = len(column.categories)
                texts = _texts(values, file, column.name, first_row)
                codes = np.array([code.get(v, other) if v is not None else other for v in texts])
                parts.append(np.eye(other + 1, dtype=np.float32)[codes])
        return np.concatenate(parts, axis=1) if parts else np.zeros((batch.num_rows, 0), np.float32)

    def to_json(self) -> list[dict[str, Any]]:
        """JSON-ready; `from_json` gives it back."""
        return [
            c.to_json() if isinstance(c, NumberColumn) else {"name": c.name, "categories": list(c.categories)}
            for c in self.columns
        ]

    @staticmethod
    def from_json(columns: list[dict[str, Any]]) -> ScalarEncoding:
        """What `to_json` wrote."""
        return ScalarEncoding(
            tuple(
                CategoryColumn(c["name"], tuple(c["categories"])) if "categories" in c else NumberColumn.from_json(c)
                for c in columns
            )
        )


def scalar_columns(modality: str, names: Sequence[str]) -> list[str]:
    """The `MODALITY.<name>` columns among a table's, in its order."""
    return [name for name in names if name.startswith(f"{modality}.") and len(name) > len(modality) + 1]


def fit_encoding(reader: TableReader, names: Sequence[str], weights: npt.NDArray[np.int64]) -> ScalarEncoding:
    """Fit a modality's scalar columns on the items whose weight (judgements in the training split) is above 0."""
    file = reader.file
    moments = {name: RunningMoments(1) for name in names if _is_numeric(reader.type_of(name), file, name)}
    ranges = {name: _Range() for name in moments}
    counters: dict[str, Counter[str]] = {name: Counter() for name in names if name not in moments}
    times: dict[str, str | None] = {}
    for first, batch in reader.stream(names) if names else ():
        weight = weights[first : first + batch.num_rows]
        for name, moment in moments.items():
            values = read_numbers(batch.column(name), file, name, first)
            ranges[name].update(values, batch.column(name))
            times[name] = named_time(plain(batch.column(name)).type)
            moment.update(values[:, None], weight)
        for name, counter in counters.items():
            for text, w in zip(_texts(batch.column(name), file, name, first), weight.tolist(), strict=True):
                if text is not None and w > 0:
                    counter[text] += w
    for name, seen in ranges.items():
        seen.check(file, name)
    columns: list[NumberColumn | CategoryColumn] = []
    for name in names:
        if name in moments:
            mean, std = float(moments[name].mean[0]), float(moments[name].std[0])
            columns.append(NumberColumn(name, mean, std, ranges[name].left(mean, std), times.get(name)))
        else:
            frequent = sorted(counters[name].items(), key=lambda pair: (-pair[1], pair[0]))[:MAX_CATEGORIES]
            columns.append(CategoryColumn(name, tuple(category for category, _ in frequent)))
    return ScalarEncoding(tuple(columns))


def read_numbers(column: Any, file: str, name: str, first_row: int) -> npt.NDArray[np.float64]:
    """`[n]` float64 of a column of numbers, true and false, or moments of time (units since its fixed day)."""
    return checks.numbers(column, file, name, first_row, exact=False)


class _Range:
    """The range of a number column over the table, beside what float64 and, standardised, float32 tell apart there."""

    def __init__(self) -> None:
        self._low, self._high = np.inf, -np.inf
        self._looked_at: list[npt.NDArray[np.float64]] = []
        self._told_apart = 0
        """Different values in each batch looked at, as they stand in the table."""

    def update(self, values: npt.NDArray[np.float64], column: Any) -> None:
        if len(values):
            self._low, self._high = min(self._low, float(values.min())), max(self._high, float(values.max()))
        if len(self._looked_at) < DISTINCT_BATCHES:
            self._looked_at.append(np.unique(values))
            stored = plain(column)
            floating = pa.types.is_floating(stored.type)  # float64 keeps them all; Arrow tells 0 from -0
            self._told_apart += len(self._looked_at[-1]) if floating else len(pc.unique(stored))

    def check(self, file: str, name: str) -> None:
        """Raise DataError where float64 makes values equal that differ in the table."""
        largest = max(abs(self._low), abs(self._high))
        rounded = self._told_apart >= 2 * sum(map(len, self._looked_at)) > 0
        if rounded and self._low < self._high:
            raise DataError(
                f"goes from {self._low:.6g} to {self._high:.6g}, where float64 makes most of its values equal.",
                "Mend what lies far off (a fill value?), then subtract what all have in common.",
                file=file,
                column=name,
            )
        if largest > EXACT_INTEGER and 0 <= self._high - self._low < largest * 2.0**-40:
            raise DataError(
                f"goes from {self._low:.17g} to {self._high:.17g}: float64 hardly tells these apart.",
                f"Subtract what all have in common: `df[{name!r}] -= df[{name!r}].min()`.",
                file=file,
                column=name,
            )

    def left(self, mean: float, std: float) -> tuple[int, int] | None:
        """See `NumberColumn.left`; None too where all values are as good as 0."""
        if max(abs(self._low), abs(self._high)) <= UNDERFLOW:
            return None
        seen = np.unique(np.concatenate(self._looked_at))
        with np.errstate(over="ignore"):
            kept = len(np.unique(((seen - mean) / std).astype(np.float32)))
        return (len(seen), kept) if len(seen) >= 2 * kept else None


def _scaled(values: Any, column: NumberColumn, file: str, first_row: int) -> npt.NDArray[np.float32]:
    raw = read_numbers(_in_units(values, column, file, first_row), file, column.name, first_row)
    with np.errstate(over="ignore"):
        scaled = ((raw - column.mean) / column.std).astype(np.float32)
    row = checks.first_true(~np.isfinite(scaled))
    if row is not None:
        raise DataError(
            f"{raw[row]:g} is too far from the training items' mean {column.mean:g} for float32.",
            "Write its logarithm, or mend the value.",
            file=file,
            column=column.name,
            row=first_row + row,
        )
    return scaled


def _in_units(values: Any, column: NumberColumn, file: str, first_row: int) -> Any:
    """Moments in the units that the encoding counts; numbers, and moments of an encoding of none, as they are."""
    values = plain(values)
    if column.time is None or not is_moment(values.type):
        return values
    try:
        return in_time(values, column.time)
    except pa.ArrowException as error:
        raise DataError(
            f"{values.type} is not read as {column.time}, in which the training items are ({first_line(error)}).",
            "Write the column with the type that it was trained with.",
            file=file,
            column=column.name,
            row=first_row,
        ) from error


def _texts(column: Any, file: str, name: str, first_row: int) -> list[str | None]:
    values: list[str | None] = checks.texts(column, file, name, first_row).to_pylist()
    return values


def _is_numeric(kind: Any, file: str, name: str) -> bool:
    """`kind`: a plain type."""
    if is_number(kind) or is_moment(kind):
        return True
    if is_text(kind) or pa.types.is_large_binary(kind):
        return False
    raise DataError(
        f"the column is of type {kind}, neither number, true/false nor text.",
        f"Write a number, or text for a category: `df[{name!r}] = df[{name!r}].astype(str)`.",
        file=file,
        column=name,
        row=0,
    )
