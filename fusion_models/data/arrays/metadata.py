"""Named scalar columns `metadata.<name>` as one vector an item, scaled by the training split alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fusion_models.data.arrays.moments import RunningMoments
from fusion_models.data.errors import DataError
from fusion_models.data.tables import checks

PREFIX = "metadata."
MAX_CATEGORIES = 32
"""Most frequent categories that get a column of their own; the others, and missing ones, share `other`."""


@dataclass(frozen=True)
class NumberColumn:
    """Encoded as (value - mean) / std."""

    name: str
    mean: float
    std: float


@dataclass(frozen=True)
class CategoryColumn:
    """Encoded one-hot: one column a category, most frequent first, and one for every other value."""

    name: str
    categories: tuple[str, ...]


@dataclass(frozen=True)
class MetadataEncoding:
    """How scalar metadata becomes numbers: fitted once, stored with the arrays and with the model."""

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
                scaled = (read_numbers(values, file, column.name, first_row) - column.mean) / column.std
                parts.append(scaled.astype(np.float32)[:, None])
            else:
                code = {category: i for i, category in enumerate(column.categories)}
                other = len(column.categories)
                codes = np.array([code.get(v, other) if v is not None else other for v in _texts(values)])
                parts.append(np.eye(other + 1, dtype=np.float32)[codes])
        return np.concatenate(parts, axis=1) if parts else np.zeros((batch.num_rows, 0), np.float32)

    def to_json(self) -> list[dict[str, Any]]:
        """JSON-ready; `from_json` gives it back."""
        return [
            {"name": c.name, "mean": c.mean, "std": c.std}
            if isinstance(c, NumberColumn)
            else {"name": c.name, "categories": list(c.categories)}
            for c in self.columns
        ]

    @staticmethod
    def from_json(columns: list[dict[str, Any]]) -> MetadataEncoding:
        """What `to_json` wrote."""
        return MetadataEncoding(
            tuple(
                CategoryColumn(c["name"], tuple(c["categories"]))
                if "categories" in c
                else NumberColumn(c["name"], c["mean"], c["std"])
                for c in columns
            )
        )


def scalar_columns(schema: Any) -> list[str]:
    """Names of the `metadata.<name>` columns, in the table's order."""
    return [name for name in schema.names if name.startswith(PREFIX) and len(name) > len(PREFIX)]


def fit_encoding(
    schema: Any, batches: Iterator[tuple[int, Any]], weights: npt.NDArray[np.int64], file: str
) -> MetadataEncoding:
    """Fit on the items whose weight (judgements in the training split) is above 0.

    `batches` are (first row, record batch) over the columns of `scalar_columns(schema)`.
    """
    names = scalar_columns(schema)
    moments = {name: RunningMoments(1) for name in names if _is_numeric(schema.field(name).type, file, name)}
    counters: dict[str, Counter[str]] = {name: Counter() for name in names if name not in moments}
    for first, batch in batches:
        weight = weights[first : first + batch.num_rows]
        for name, moment in moments.items():
            moment.update(read_numbers(batch.column(name), file, name, first)[:, None], weight)
        for name, counter in counters.items():
            for text, w in zip(_texts(batch.column(name)), weight.tolist(), strict=True):
                if text is not None and w > 0:
                    counter[text] += w
    columns: list[NumberColumn | CategoryColumn] = []
    for name in names:
        if name in moments:
            columns.append(NumberColumn(name, float(moments[name].mean[0]), float(moments[name].std[0])))
        else:
            frequent = sorted(counters[name].items(), key=lambda pair: (-pair[1], pair[0]))[:MAX_CATEGORIES]
            columns.append(CategoryColumn(name, tuple(category for category, _ in frequent)))
    return MetadataEncoding(tuple(columns))


def read_numbers(column: Any, file: str, name: str, first_row: int) -> npt.NDArray[np.float64]:
    """`[n]` float64 of a number or true/false column."""
    return checks.numbers(column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column, file, name, first_row)


def _texts(column: Any) -> list[str | None]:
    plain = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    values: list[str | None] = plain.to_pylist()
    return values


def _is_numeric(kind: Any, file: str, name: str) -> bool:
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return True
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_string(inner) or pa.types.is_large_string(inner):
        return False
    raise DataError(
        f"the column is of type {kind}, neither number, true/false nor text.",
        "Write a number (a date as days since a fixed day), or text for a category.",
        file=file,
        column=name,
        row=0,
    )
