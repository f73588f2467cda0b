"""What the field brings, kind by kind: each case reads like the plain dataset, or is refused in one line.

docs/hard-data.md has the same kinds as a table.
"""

from __future__ import annotations

import datetime
import io
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from fusion_models.data import DataError, RankingDataset, open_dataset

Columns = dict[str, dict[str, Any]]
Write = Callable[[Columns], str]


def opened(columns: Columns) -> RankingDataset:
    return open_dataset(**{name: pa.table(table) for name, table in columns.items()})


def png(**options: Any) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 30, 30)).save(out, "PNG", **options)
    return out.getvalue()


def invalid_utf8(count: int, row: int, kind: Any = None) -> Any:
    raw = pa.array([b"caf\xe9" if i == row else f"n{i}".encode() for i in range(count)], pa.binary())
    return pa.Array.from_buffers(pa.string(), count, raw.buffers()).cast(kind or pa.string())


# -- types -----------------------------------------------------------------------------------------------------------

TEXT = {
    "string_view": lambda v: pa.array(v).cast(pa.string_view()),
    "large_string": lambda v: pa.array(v, pa.large_string()),
    "dictionary": lambda v: pa.array(v).dictionary_encode(),
    "dictionary of string_view": lambda v: pa.DictionaryArray.from_arrays(
        pa.array(range(len(v))), pa.array(v).cast(pa.string_view())
    ),
    "run-end encoded": lambda v: pa.RunEndEncodedArray.from_arrays(
        pa.array(range(1, len(v) + 1), pa.int32()), pa.array(v)
    ),
    "binary": lambda v: pa.array(v).cast(pa.binary()),
    "binary_view": lambda v: pa.array(v).cast(pa.binary()).cast(pa.binary_view()),
    "arrow.json": lambda v: pa.ExtensionArray.from_storage(pa.json_(), pa.array(v)),
}


@pytest.mark.parametrize("kind", TEXT)
def test_text_of_any_type_is_text(kind: str, columns: Columns) -> None:
    columns["items"]["title"] = ["a", "é", "c", "d", "e", "f"]
    plain = opened(columns)
    for table, name in (("items", "item_id"), ("items", "title"), ("queries", "query_id"), ("queries", "split")):
        values = columns[table][name]
        columns[table][name] = TEXT[kind](values)
        data = opened(columns)
        columns[table][name] = values
        assert data.item_ids.tolist() == plain.item_ids.tolist()
        assert data.query_ids.tolist() == plain.query_ids.tolist()
        assert data.titles(range(6)) == plain.titles(range(6))
        assert data.split.tolist() == plain.split.tolist()


IDS: dict[str, tuple[Any, list[str]]] = {
    "int64": (pa.array([0, -1, 2**63 - 1, 3, 4, 5]), ["0", "-1", "9223372036854775807", "3", "4", "5"]),
    "uint64": (pa.array([0, 1, 2**64 - 1, 3, 4, 5], pa.uint64()), ["0", "1", "18446744073709551615", "3", "4", "5"]),
    "uint8": (pa.array([0, 1, 2, 3, 4, 255], pa.uint8()), ["0", "1", "2", "3", "4", "255"]),
    "whole floats": (pa.array([0.0, 1.0, 2.0, 3.0, 4.0, 2.0**53]), ["0", "1", "2", "3", "4", "9007199254740992"]),
    "decimals": (pa.array([Decimal(n) for n in range(6)], pa.decimal128(20, 0)), list("012345")),
    "dates": (
        pa.array([datetime.date(2024, 1, day) for day in range(1, 7)]),
        [f"2024-01-0{day}" for day in range(1, 7)],
    ),
    "dictionary of integers": (pa.array(range(6)).dictionary_encode(), list("012345")),
    "UUID": (
        pa.array([uuid.UUID(int=n).bytes for n in range(6)], pa.uuid()),
        [str(uuid.UUID(int=n)) for n in range(6)],
    ),
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_of_any_type_are_their_one_spelling(kind: str, columns: Columns) -> None:
    ids, spelled = IDS[kind]
    rows = [int(name[1:]) for name in columns["judgements"]["item_id"]]
    columns["items"]["item_id"] = ids
    columns["judgements"]["item_id"] = [spelled[row] for row in rows]  # text there, another type here
    assert opened(columns).item_ids.tolist() == spelled


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (pa.array([0.0, 1.5, 2.0, 3.0, 4.0, 5.0]), "0.0 is of type double, not text or a whole number"),
        (pa.array([0.0, 1.0, 2.0, 3.0, 4.0, 2.0**53 + 2]), "of type double, not text or a whole number"),
        (pa.array([[1]] * 6), "is of type list<"),
        (pa.array([{"a": 1}] * 6), "is of type struct<"),
        (pa.array([b"\xff" * 16] * 6, pa.binary(16)), "is not UTF-8"),
        (pa.nulls(6), r"row 0: the value is missing \(null\)"),
    ],
)
def test_ids_that_have_no_one_spelling_are_refused(ids: Any, said: str, columns: Columns) -> None:
    columns["items"]["item_id"] = ids
    with pytest.raises(DataError, match=rf"^items.parquet, column 'item_id'.*{said}"):
        opened(columns)


NUMBERS = {
    "decimal128": lambda v: pa.array([Decimal(str(x)) for x in v], pa.decimal128(12, 3)),
    "decimal(38, 18), Spark's own": lambda v: pa.array([Decimal(str(x)) for x in v], pa.decimal128(38, 18)),
    "decimal256": lambda v: pa.array([Decimal(str(x)) for x in v], pa.decimal256(60, 20)),
    "float32": lambda v: pa.array(v, pa.float32()),
    "float16": lambda v: pa.array(np.array(v, np.float16)),
    "dictionary": lambda v: pa.array(v).dictionary_encode(),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_of_any_type_are_numbers(kind: str, columns: Columns) -> None:
    columns["items"]["metadata.price"] = [0.5, 1.25, 2.0, 3.0, 4.5, 8.0]
    plain = opened(columns)
    scores = columns["judgements"]["v1_score"]
    columns["judgements"]["v1_score"] = NUMBERS[kind](scores)
    columns["judgements"]["label"] = NUMBERS[kind](columns["judgements"]["label"])
    columns["items"]["metadata.price"] = NUMBERS[kind](columns["items"]["metadata.price"])
    data = opened(columns)
    exact = {"float32": np.float32, "float16": np.float16}.get(kind, np.float64)
    np.testing.assert_array_equal(data.v1, plain.v1.astype(exact).astype(np.float64))
    np.testing.assert_array_equal(data.labels, plain.labels)
    np.testing.assert_array_equal(data.item_features["metadata"], plain.item_features["metadata"])


def test_truth_values_are_labels_weights_and_metadata(columns: Columns) -> None:
    columns["judgements"]["label"] = [True, False, True, False, True, False, True, True, False]
    columns["items"]["metadata.new"] = [True, False, True, False, True, False]
    columns["queries"]["weight"] = [True, True, True, True]
    data = opened(columns)
    assert sorted(set(data.labels.tolist())) == [0.0, 1.0]
    assert data.weight.tolist() == [1.0] * 4
    assert len(np.unique(data.item_features["metadata"][:, -1])) == 2


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64(), pa.timestamp("s"), pa.timestamp("ns", "Europe/Paris")])
def test_moments_of_time_are_metadata_numbers(kind: Any, columns: Columns) -> None:
    days = pa.array([datetime.datetime(2024, 1, 1 + 2 * n) for n in range(6)])
    columns["items"]["metadata.added"] = days.cast(pa.timestamp("us")).cast(kind, safe=False)
    columns["items"]["metadata.day"] = [float(2 * n) for n in range(6)]
    found = opened(columns).item_features["metadata"]
    np.testing.assert_allclose(found[:, -2], found[:, -1], rtol=1e-5)


def test_moments_of_a_query_keep_their_type(columns: Columns) -> None:
    when = [datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), None] * 2
    columns["queries"]["timestamp"] = pa.array(when, pa.timestamp("us", "America/New_York"))
    found = opened(columns).query_timestamp
    assert found is not None
    assert found.tolist() == when
    columns["queries"]["timestamp"] = pa.array([2**62] * 4, pa.timestamp("us"))
    with pytest.raises(DataError, match=r"queries.parquet, column 'timestamp', row 0: .* no moment that Python knows"):
        opened(columns)
    columns["queries"]["timestamp"] = pa.array([0] * 4, pa.timestamp("us", "Mars/Olympus"))
    with pytest.raises(DataError, match=r"queries.parquet, column 'timestamp', row 0: .* no moment that Python knows"):
        opened(columns)
