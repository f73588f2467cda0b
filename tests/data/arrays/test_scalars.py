"""Named scalar metadata: scaled and encoded by the training split alone, and stored."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fusion_models.data import DataError, open_dataset
from fusion_models.data.arrays import scalars as scalars_module
from fusion_models.data.arrays.moments import RunningMoments
from fusion_models.data.arrays.scalars import MAX_CATEGORIES, ScalarEncoding
from fusion_models.data.commands.card import data_card

Columns = dict[str, dict[str, Any]]
Write = Callable[[Columns], str]


@pytest.fixture
def scalars(columns: Columns) -> Columns:
    """Training judges i0 twice and i1, i2, i3, i4 once; i5 is in test alone."""
    del columns["items"]["metadata"]
    columns["items"] |= {
        "metadata.price": [10.0, 20.0, 30.0, 40.0, 50.0, 1e6],
        "metadata.brand": ["a", "b", "a", None, "c", "only in test"],
        "metadata.sale": [True, False, True, False, False, True],
    }
    return columns


def test_numbers_are_scaled_by_training_judgements(scalars: Columns, write: Write) -> None:
    data = open_dataset(write(scalars))
    prices = np.array([10.0, 10.0, 20.0, 30.0, 40.0, 50.0])
    expected = (np.array(scalars["items"]["metadata.price"]) - prices.mean()) / prices.std()
    np.testing.assert_allclose(data.item_features["metadata"][:, 0], expected, rtol=1e-6)
    assert data.schema.width("metadata") == 1 + 4 + 1


def test_categories_are_those_of_training_most_frequent_first(scalars: Columns, write: Write) -> None:
    encoded = open_dataset(write(scalars)).item_features["metadata"][:, 1:5]
    names = ["a", "b", "c", "other"]
    assert [names[code] for code in encoded.argmax(axis=1)] == ["a", "b", "a", "other", "c", "other"]
    assert (encoded.sum(axis=1) == 1).all()


def test_the_encoding_travels_with_the_statistics(scalars: Columns, write: Write) -> None:
    data = open_dataset(write(scalars))
    stored = json.loads(json.dumps(data.statistics.encodings["metadata"]))
    encoding = ScalarEncoding.from_json(stored)
    assert encoding.to_json() == stored
    new = pa.table({name: scalars["items"][name] for name in ("metadata.price", "metadata.brand", "metadata.sale")})
    again = encoding.encode(new.combine_chunks().to_batches()[0], "new.parquet")
    np.testing.assert_array_equal(again, data.item_features["metadata"])


def test_scalars_join_a_list(columns: Columns, write: Write) -> None:
    columns["items"]["metadata.sale"] = [True, False, True, False, False, True]
    data = open_dataset(write(columns))
    np.testing.assert_array_equal(data.item_features["metadata"][:, :4], np.float32(columns["items"]["metadata"]))
    assert data.schema.width("metadata") == 5


def test_rare_categories_share_a_column(columns: Columns, write: Write) -> None:
    del columns["items"]["metadata"]
    columns["items"]["metadata.brand"] = pa.array([f"b{n}" for n in range(6)]).dictionary_encode()
    many = MAX_CATEGORIES + 8
    for name in ("visual", "text"):
        columns["items"][name] = [columns["items"][name][0]] * many
    columns["items"]["item_id"] = [f"i{n}" for n in range(many)]
    columns["items"]["metadata.brand"] = [f"b{n:02}" for n in range(many)]
    judged = columns["judgements"]
    for n in range(6, many):
        for name, value in zip(judged, ("cat", f"i{n}", 0.0, 0.0), strict=True):
            judged[name].append(value)
    data = open_dataset(write(columns))
    assert data.schema.width("metadata") == MAX_CATEGORIES + 1
    assert data.item_features["metadata"][:, -1].sum() == many - MAX_CATEGORIES


def test_moments_match_numpy_on_hard_numbers() -> None:
    random = np.random.default_rng(0)
    x = 1.6e9 + random.normal(size=(999, 2)) * [1.0, 100.0]  # seconds since 1970: a naive sum of squares cancels
    weights = random.integers(0, 4, 999)
    moments = RunningMoments(2)
    for start in range(0, 999, 100):
        moments.update(x[start : start + 100], weights[start : start + 100])
    repeated = np.repeat(x, weights, axis=0)
    np.testing.assert_allclose(moments.mean, repeated.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.std, repeated.std(axis=0), rtol=1e-6)


def with_prices(columns: Columns, values: Any) -> Columns:
    """300 items, all of them judged in training."""
    many = 300
    del columns["items"]["metadata"]
    for name in ("visual", "text"):
        columns["items"][name] = [columns["items"][name][0]] * many
    columns["items"]["item_id"] = [f"i{n}" for n in range(many)]
    columns["items"]["metadata.price"] = values
    for name, value in zip(columns["judgements"], ("cat", None, 0.0, 0.0), strict=True):
        columns["judgements"][name] += [value] * (many - 6)
    columns["judgements"]["item_id"][9:] = [f"i{n}" for n in range(6, many)]
    return columns


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([*(float(n % 50) for n in range(299)), 1e14], "of 51 different values looked at, 2 are left"),
        ([*(float(n % 50) for n in range(299)), -1e30], "of 51 different values looked at, 2 are left"),
        ([*(float(n % 50) for n in range(250)), *[9.97e36] * 50], "of 51 different values looked at, 2 are left"),
        ([*(n * 1e-30 for n in range(299)), 1.0], "of 300 different values looked at, 2 are left"),
    ],
)
def test_a_value_far_off_that_makes_all_others_equal_is_a_doubt(
    values: Any, said: str, columns: Columns, write: Write
) -> None:
    data = open_dataset(write(with_prices(columns, values)))
    assert f"metadata.price: {said} once" in "\n".join(data_card(data).doubts)
    stored = json.loads(json.dumps(data.statistics.encodings["metadata"]))
    assert ScalarEncoding.from_json(stored).to_json() == stored


@pytest.mark.parametrize(
    "values",
    [
        pa.array([*(1_700_000_000_000_000_000 + n for n in range(299)), 0], pa.timestamp("ns")),
        pa.array([*(2**60 + n for n in range(299)), -(2**60)]),
    ],
)
def test_numbers_that_float64_makes_equal_are_refused(values: Any, columns: Columns, write: Write) -> None:
    with pytest.raises(DataError, match=r"^items.parquet, column 'metadata.price': goes from .* most of its values"):
        open_dataset(write(with_prices(columns, values)))


@pytest.mark.parametrize("values", [[5.0] * 6, [0.0] * 5 + [1e12], [1e-40 * n for n in range(6)], [0.0, 1.0] * 3])
def test_constants_counts_and_tiny_numbers_are_no_loss(values: Any, columns: Columns, write: Write) -> None:
    columns["items"]["metadata.price"] = values
    data = open_dataset(write(columns))
    assert data.schema.width("metadata") == 5
    assert "looked at, " not in "\n".join(doubt for doubt in data_card(data).doubts if "different" in doubt)


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
def test_zeros_of_both_signs_are_one_value(kind: Any, columns: Columns, write: Write, monkeypatch: Any) -> None:
    """The first batches, in which different values are counted, hold nothing else."""
    monkeypatch.setattr(scalars_module, "DISTINCT_BATCHES", 1)
    values = np.array([*([0.0, -0.0] * 128), *range(1, 45)], dtype=kind.to_pandas_dtype())
    data = open_dataset(write(with_prices(columns, pa.array(values, kind))))
    assert data.statistics.encodings["metadata"][0]["mean"] > 0.0


DAYS = [dt.datetime(2020, 1, 1) + dt.timedelta(days=n) for n in range(300)]


@pytest.mark.parametrize(
    ("stored", "served"),
    [
        (pa.timestamp("us"), pa.timestamp("ns")),
        (pa.timestamp("ms", "UTC"), pa.timestamp("ns", "Europe/Berlin")),
        (pa.timestamp("s"), pa.date32()),
        (pa.date32(), pa.timestamp("ns")),
        (pa.date64(), pa.timestamp("us")),
        (pa.timestamp("ns"), pa.timestamp("s")),
    ],
)
def test_moments_are_encoded_in_the_unit_of_training(stored: Any, served: Any, columns: Columns, write: Write) -> None:
    data = open_dataset(write(with_prices(columns, pa.array(DAYS, pa.timestamp("us")).cast(stored))))
    plain = json.loads(json.dumps(data.statistics.encodings["metadata"]))
    encoding = ScalarEncoding.from_json(plain)
    assert encoding.to_json() == plain
    same = pa.table({"metadata.price": pa.array(DAYS, pa.timestamp("us")).cast(served)})
    found = encoding.encode(same, "items")
    rows = [f"i{n}" for n in range(300)]
    order = [data.item_ids.tolist().index(row) for row in rows]
    expected = encoding.encode(pa.table({"metadata.price": pa.array(DAYS, pa.timestamp("us")).cast(stored)}), "items")
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.asarray(data.item_features["metadata"])[order], expected)
    assert abs(found.mean()) < 0.1


@pytest.mark.parametrize("served", [pa.duration("s"), pa.time32("s")])
def test_moments_of_another_kind_are_refused(served: Any, columns: Columns, write: Write) -> None:
    data = open_dataset(write(with_prices(columns, pa.array(DAYS, pa.timestamp("ns")))))
    encoding = ScalarEncoding.from_json(data.statistics.encodings["metadata"])
    with pytest.raises(DataError, match=r"^items, column 'metadata.price', row 0: .* is not read as timestamp\[ns\]"):
        encoding.encode(pa.table({"metadata.price": pa.array([1, 2], served)}), "items")


def test_an_encoding_without_a_unit_reads_moments_as_they_are() -> None:
    old = ScalarEncoding.from_json([{"name": "at", "mean": 10.0, "std": 2.0}])
    assert old.encode(pa.table({"at": pa.array([12], pa.timestamp("ms"))}), "items").tolist() == [[1.0]]
