"""Vectors that are none, and whole or decimal numbers in vectors, which no narrowing may make equal."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from fusion_models.data import DataError, RankingDataset, open_dataset

Columns = dict[str, dict[str, Any]]


def opened(columns: Columns) -> RankingDataset:
    return open_dataset(**{name: pa.table(table) for name, table in columns.items()})


SPARK = pa.struct(
    [("type", pa.int8()), ("size", pa.int32()), ("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float64()))]
)


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        ((0, 3, [0, 7], [1.0, 2.0]), r"size 3 and indices \[0, 7\]"),
        ((0, 3, [-1], [1.0]), r"size 3 and indices \[-1\]"),
        ((0, 3, [None], [1.0]), r"size 3 and indices \[None\]"),
        ((0, 3, [0, 0], [1.0, 2.0]), "an index stands twice"),
        ((0, 3, [0, 1], [1.0]), "2 indices and 1 values"),
        ((0, None, [0], [1.0]), "size or indices are missing"),
        ((0, 3, None, [1.0]), "size or indices are missing"),
        ((1, None, None, None), "values are missing"),
        ((0, 3, [0], None), "values are missing"),
        ((2, 3, [0], [1.0]), "type 2"),
        ((None, 3, [0], [1.0]), "type None"),
    ],
)
def test_a_vector_that_spark_never_wrote_is_refused(vector: Any, said: str, columns: Columns) -> None:
    names = ("type", "size", "indices", "values")
    rows = [dict(zip(names, (1, None, None, v), strict=True)) for v in columns["items"]["visual"]]
    rows[4] = dict(zip(names, vector, strict=True))
    columns["items"]["visual"] = pa.array(rows, SPARK)
    with pytest.raises(DataError, match=rf"^items.parquet, column 'visual', row 4: {said}: this is no vector of Spark"):
        opened(columns)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([[2**60 + n, 1] for n in range(6)]),
        pa.array([[2**60 + 1000 * n, 1] for n in range(6)]),
        pa.array([[2**63 + n, 1] for n in range(6)], pa.list_(pa.uint64())),
        pa.array([[Decimal(10**20 + n), Decimal(1)] for n in range(6)], pa.list_(pa.decimal128(30, 0))),
        pa.array([[Decimal(1) + Decimal(n) / 10**25, Decimal(1)] for n in range(6)], pa.list_(pa.decimal128(30, 25))),
    ],
)
def test_whole_features_that_float64_makes_equal_are_refused(values: Any, columns: Columns) -> None:
    columns["items"]["visual"] = values
    with pytest.raises(DataError, match=r"^items.parquet, column 'visual': feature 0 goes from .* hardly differ"):
        opened(columns)


@pytest.mark.parametrize(
    "values",
    [
        [[2**60, 1]] * 6,
        [[(-1) ** n * (2**60 + n), n] for n in range(6)],
        pa.array([[Decimal(10**20), Decimal(n)] for n in range(6)], pa.list_(pa.decimal128(30, 0))),
    ],
)
def test_whole_features_that_are_constant_or_far_apart_are_no_loss(values: Any, columns: Columns) -> None:
    columns["items"]["visual"] = values
    assert opened(columns).schema.width("visual") == 2
