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


SPARK = pa.struct(
    [("type", pa.int8()), ("size", pa.int32()), ("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float64()))]
)
VECTORS = {
    "large_list": lambda rows: pa.array(rows, pa.large_list(pa.float64())),
    "list_view": lambda rows: pa.array(rows, pa.list_view(pa.float32())),
    "large_list_view": lambda rows: pa.array(rows, pa.large_list_view(pa.float64())),
    "fixed_size_list": lambda rows: pa.array(rows, pa.list_(pa.float32(), 3)),
    "float16": lambda rows: pa.array([np.array(row, np.float16) for row in rows], pa.list_(pa.float16())),
    "uint8": lambda rows: pa.array(rows, pa.list_(pa.uint8())),
    "int64": lambda rows: pa.array(rows, pa.list_(pa.int64())),
    "bool": lambda rows: pa.array([[bool(x) for x in row] for row in rows]),
    "decimal": lambda rows: pa.array([[Decimal(str(x)) for x in row] for row in rows], pa.list_(pa.decimal128(9, 3))),
    "lists of a dictionary": lambda rows: pa.ListArray.from_arrays(
        pa.array(range(0, 19, 3), pa.int32()), pa.array([x for row in rows for x in row]).dictionary_encode()
    ),
    "tensor": lambda rows: pa.FixedShapeTensorArray.from_numpy_ndarray(np.array(rows, np.float32).reshape(6, 3, 1)),
    "lists of lists": lambda rows: pa.array([[[x] for x in row] for row in rows]),
    "Spark, dense": lambda rows: pa.array([{"type": 1, "values": row} for row in rows], SPARK),
    "Spark, sparse": lambda rows: pa.array(
        [
            {"type": 0, "size": 3, "indices": [i for i in range(3) if row[i]], "values": [x for x in row if x]}
            for row in rows
        ],
        SPARK,
    ),
}


@pytest.mark.parametrize("kind", VECTORS)
def test_vectors_of_any_type_are_vectors(kind: str, columns: Columns) -> None:
    rows = [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    columns["items"]["visual"] = VECTORS[kind](rows)
    np.testing.assert_array_equal(opened(columns).item_features["visual"], np.array(rows, np.float32))


def test_a_column_of_null_type_is_as_if_absent(columns: Columns) -> None:
    plain = opened(columns)
    for table, names in (
        ("items", ("title", "image", "metadata.brand")),
        ("queries", ("text", "subdomain", "timestamp", "features", "weight")),
        ("judgements", ("features",)),
    ):
        rows = len(next(iter(columns[table].values())))
        columns[table] |= {name: pa.nulls(rows) for name in names}
    data = opened(columns)
    assert data.schema == plain.schema
    assert not data.has_titles
    assert data.query_text is None
    assert data.query_timestamp is None
    assert set(data.subdomain) == {"all"}
    columns["queries"]["split"] = pa.nulls(4)
    columns["queries"]["query_id"] = [f"q{n}" for n in range(4)]
    columns["judgements"]["query_id"] = [f"q{n % 4}" for n in range(9)]
    columns["judgements"]["item_id"] = [f"i{n % 6}" for n in range(9)]
    with pytest.raises(DataError, match="split is empty"):  # assigned by hash: four queries fill no three splits
        opened(columns)


PICTURES = {
    "binary": lambda v: pa.array(v, pa.binary()),
    "large_binary": lambda v: pa.array(v, pa.large_binary()),
    "binary_view": lambda v: pa.array(v, pa.binary_view()),
    "dictionary": lambda v: pa.array(v, pa.binary()).dictionary_encode(),
    "struct of bytes and path": lambda v: pa.array([{"bytes": b, "path": "a.png" if b else None} for b in v]),
    "struct that is null": lambda v: pa.array([{"bytes": b, "path": "a.png"} if b else None for b in v]),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_of_any_type_are_pictures(kind: str, columns: Columns) -> None:
    columns["items"]["image"] = PICTURES[kind]([png(), None, png(), png(), png(), png()])
    data = opened(columns)
    assert data.counts["items_without_image"] == 1
    assert data.thumbnails([0, 1]).float().mean(dim=(2, 3)).tolist() != [[255.0] * 3] * 2
    assert data.thumbnails([1]).min() == 255


# -- numbers that some narrower type would lose ----------------------------------------------------------------------


@pytest.mark.parametrize("offset", [1e9, -1e12, 1.7e12])
def test_v1_keeps_every_bit_of_float64(offset: float, columns: Columns) -> None:
    scores = [offset + s for s in columns["judgements"]["v1_score"]]
    columns["judgements"]["v1_score"] = scores
    data = opened(columns)
    assert sorted(data.v1.tolist()) == sorted(scores)
    batch = data.gather(range(4))
    assert sorted(batch.v1[batch.valid].tolist()) == sorted(scores)
    assert data.counts["queries_tied_v1"] == 0


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64(), pa.timestamp("ns")])
def test_a_whole_number_that_float64_rounds_is_refused(kind: Any, columns: Columns) -> None:
    whole = [1_700_000_000_000_000_000 + n for n in range(9)]
    columns["judgements"]["v1_score"] = pa.array(whole, kind)
    with pytest.raises(DataError, match=r"column 'v1_score', row 1: .* more digits than float64 keeps.*-= df"):
        opened(columns)
    columns["judgements"]["v1_score"] = pa.array([n * 2**40 for n in range(9)], kind)
    assert sorted(opened(columns).v1.tolist()) == [float(n * 2**40) for n in range(9)]


def test_a_decimal_that_float64_rounds_is_refused(columns: Columns) -> None:
    fine = [Decimal("12345678901234567.000000000000000001") + n for n in range(9)]
    columns["judgements"]["v1_score"] = pa.array(fine, pa.decimal256(60, 18))
    with pytest.raises(DataError, match=r"column 'v1_score', row 0: .* more digits than float64 keeps"):
        opened(columns)


@pytest.mark.parametrize("column", ["label", "v1_score"])
def test_a_number_whose_square_is_none_is_refused(column: str, columns: Columns) -> None:
    columns["judgements"][column][5] = 1e300
    with pytest.raises(DataError, match=rf"column '{column}', row 5: 1e\+300 is beyond 1e\+100"):
        opened(columns)


def test_small_and_fractional_labels_stay_what_they_are(columns: Columns) -> None:
    columns["judgements"]["label"] = [1e-50, 0.0, 0.1, 0.1 + 1e-12, 16777217.0, 0.0, 16777216.0, 3.0, 2.0]
    assert sorted(opened(columns).labels.tolist()) == sorted(columns["judgements"]["label"])


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        ([1.7e9 + n for n in range(6)], True),  # seconds since 1970, some apart: float32 counts in 128
        ([1.7e9 + 1e6 * n for n in range(6)], False),
        ([1e12 + 0.125 * n for n in range(6)], True),
        ([2**40 + n for n in range(6)], True),
        ([0.1 * n for n in range(6)], False),
        ([0.1, 0.1 + 1e-17, 0.1, 0.1, 0.1, 0.1], False),  # float64's own noise about a constant
        ([1e-60 * n for n in range(6)], False),  # becomes 0, which the card calls constant
        ([1e30, 1.0, 2.0, 3.0, 4.0, 5.0], False),
    ],
)
@pytest.mark.parametrize("where", ["items", "queries", "judgements"])
def test_features_whose_differences_float32_loses_are_refused(
    values: list[float], refused: bool, where: str, columns: Columns
) -> None:
    name = "text" if where == "items" else "features"
    rows = len(next(iter(columns[where].values())))
    cells = [[1.0, values[row % 6]] for row in range(rows)]
    columns[where][name] = pa.array(cells, pa.list_(pa.float64()))
    if refused:
        with pytest.raises(
            DataError, match=rf"{where}.parquet, column '{name}': feature 1 goes from .*MODALITY.<name>"
        ):
            opened(columns)
    else:
        opened(columns)


def test_metadata_is_standardised_before_it_is_narrowed(columns: Columns) -> None:
    columns["items"]["metadata.added"] = pa.array([1_700_000_000_000 + n for n in range(6)])
    columns["items"]["metadata.place"] = [float(n) for n in range(6)]
    found = opened(columns).item_features["metadata"]
    np.testing.assert_allclose(found[:, -2], found[:, -1], rtol=1e-3)  # their mean has 2e-4 of rounding
    columns["items"]["metadata.added"] = pa.array([2**62 + n for n in range(6)])
    with pytest.raises(DataError, match=r"column 'metadata.added': goes from .* float64 hardly tells these apart"):
        opened(columns)


def test_metadata_too_far_from_training_for_float32_is_refused(columns: Columns) -> None:
    columns["items"]["metadata.price"] = [1.0, 1.0, 1.0, 1.0, 1.0, 1e90]  # i5 is judged in test alone
    with pytest.raises(DataError, match=r"column 'metadata.price', row 5: 1e\+90 is too far"):
        opened(columns)


# -- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.string_view()])
@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("items", "item_id"),
        ("items", "title"),
        ("items", "metadata.brand"),
        ("queries", "query_id"),
        ("queries", "text"),
        ("queries", "subdomain"),
        ("queries", "split"),
        ("queries", "timestamp"),
        ("judgements", "query_id"),
        ("judgements", "item_id"),
    ],
)
def test_text_that_is_not_utf8_stops_at_the_door(table: str, name: str, kind: Any, columns: Columns) -> None:
    rows = len(next(iter(columns[table].values())))
    columns[table][name] = invalid_utf8(rows, 2, kind)
    with pytest.raises(DataError, match=rf"^{table}.parquet, column '{name}', row 2: b'caf\\xe9' is not UTF-8"):
        opened(columns)


def test_a_nul_in_text_stops_at_the_door(columns: Columns) -> None:
    columns["queries"]["subdomain"] = ["a", "b", "b\0", "b"]
    with pytest.raises(DataError, match=r"column 'subdomain', row 2: 'b\\x00' holds a NUL character"):
        opened(columns)


# -- weights ---------------------------------------------------------------------------------------------------------


def test_a_query_s_weight_comes_with_its_batch(columns: Columns) -> None:
    assert opened(columns).gather([0, 1]).weight.tolist() == [1.0, 1.0]
    columns["queries"]["weight"] = [0.5, 0.0, 2.0, 1e6]
    data = opened(columns)
    assert data.weight.tolist() == [0.5, 0.0, 2.0, 1e6]
    assert data.gather([3, 0]).to("cpu").weight.tolist() == [1e6, 0.5]


@pytest.mark.parametrize(
    ("weights", "place", "said"),
    [
        ([1.0, -1.0, 1.0, 1.0], "row 1: ", "the weight -1 is negative"),
        ([1.0, float("nan"), 1.0, 1.0], "row 1: ", "not a finite number"),
        ([1.0, None, 1.0, 1.0], "row 1: ", "missing"),
        (["1", "1", "1", "1"], "row 0: ", "not a number"),
        ([1.0, 1.0, 0.0, 1.0], "", "every query of the validation split has weight 0"),
    ],
)
def test_a_weight_that_counts_for_nothing_is_refused(
    weights: list[Any], place: str, said: str, columns: Columns
) -> None:
    columns["queries"]["weight"] = weights
    with pytest.raises(DataError, match=rf"queries.parquet, column 'weight'.*{place}.*{said}"):
        opened(columns)


# -- columns given twice ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("items", "item_id"),
        ("items", "visual"),
        ("items", "title"),
        ("items", "metadata.price"),
        ("items", "image"),
        ("queries", "subdomain"),
        ("queries", "split"),
        ("queries", "weight"),
        ("queries", "timestamp"),
        ("queries", "features"),
        ("judgements", "label"),
        ("judgements", "features"),
    ],
)
def test_a_column_given_twice_is_refused(table: str, name: str, columns: Columns) -> None:
    rows = len(next(iter(columns[table].values())))
    values = columns[table].get(name, [None] * rows)
    tables = {title: pa.table(cells) for title, cells in columns.items()}
    once = tables[table].drop_columns(name) if name in columns[table] else tables[table]
    array = pa.array(values)
    tables[table] = once.append_column(name, array).append_column(name, array)
    with pytest.raises(
        DataError, match=rf"^{table}.parquet, column '{name}': there are 2 columns of this name. Keep one"
    ):
        open_dataset(**tables)


def test_an_unknown_column_given_twice_is_nobody_s_concern(columns: Columns) -> None:
    table = pa.table(columns["queries"])
    odd = pa.array(["x"] * 4)
    tables = {title: pa.table(cells) for title, cells in columns.items()}
    tables["queries"] = table.append_column("note", odd).append_column("note", odd)
    assert open_dataset(**tables).counts["queries"] == 4
