"""Scores and ids of a table of any type: as the dataset's own are read, and never narrowed in silence."""

import datetime
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from fusion_models.data import DataError
from fusion_models.data.tables import checks
from search.audit.score_cells import read_ids, read_names, read_numbers
from search.audit.score_table import read_scores

MODALITIES = ("visual", "text", "metadata")
DAY = datetime.datetime(2026, 1, 2, 3, 4, 5)
NARROWED = {
    "int64": lambda n: pa.array([2**60 + i for i in range(n)]),
    "uint64": lambda n: pa.array([2**63 + i for i in range(n)], pa.uint64()),
    "int64 with nulls": lambda n: pa.array([*(2**60 + i for i in range(n - 1)), None]),
    "decimal128": lambda n: pa.array([Decimal(10**20 + i) for i in range(n)]),
    "decimal256": lambda n: pa.array([Decimal(10**40 + i) for i in range(n)], pa.decimal256(50)),
    "dictionary": lambda n: pa.array([2**60 + i for i in range(n)]).dictionary_encode(),
}
OBJECTS = {
    "whole numbers of any size": [10**20, 10**20 + 1],
    "whole numbers beside floats": [2**60, 2**60 + 1, 0.5],
    "long doubles": [np.longdouble(1), np.nextafter(np.longdouble(1), np.longdouble(2))],
}


def of_the_data(data, scores):
    query = np.repeat(data.query_ids, data.candidates)
    items = data.item_ids[data.judged_item]
    return pa.table({"query_id": pa.array(query), "item_id": pa.array(items), "v2_score": scores(len(items))})


@pytest.mark.parametrize(
    ("kind", "form"),
    [(k, f) for k in NARROWED for f in ("file", "table", "frame") if (k, f) != ("int64 with nulls", "frame")],
)  # of which pandas itself makes floats
def test_scores_that_float64_makes_one_are_refused(small_data, tmp_path, kind, form):
    table = of_the_data(small_data, NARROWED[kind])
    pq.write_table(table, tmp_path / "scores.parquet")
    forms = {"file": tmp_path / "scores.parquet", "table": table, "frame": table.to_pandas()}
    with pytest.raises(DataError, match=r"column 'v2_score', row 1: .* differ, are one number in float64") as caught:
        read_scores(forms[form], small_data, MODALITIES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", OBJECTS)
def test_numbers_of_python_that_float64_makes_one_are_refused(kind):
    with pytest.raises(DataError, match=r"row 1: .* are one number in float64"):
        read_numbers(pd.Series(OBJECTS[kind], dtype=object), "v2_score", "scores")


@pytest.mark.parametrize("last", [0, None])
def test_whole_numbers_of_a_csv_are_not_narrowed_before_they_are_looked_at(small_data, tmp_path, last):
    table = of_the_data(small_data, lambda n: pa.array([*(2**60 + i for i in range(n - 1)), last]))
    csv.write_csv(table, tmp_path / "scores.csv")
    with pytest.raises(DataError, match=r"column 'v2_score', row 1: .* are one number in float64"):
        read_scores(tmp_path / "scores.csv", small_data, MODALITIES)


def test_numbers_of_a_csv_are_the_nearest_float64(small_data, tmp_path):
    scores = np.random.default_rng(0).normal(size=len(small_data.judged_item)) * 1e-7
    frame = of_the_data(small_data, lambda n: pa.array(scores)).to_pandas()
    frame["v2_score"] = [repr(float(v)) for v in scores]
    frame.to_csv(tmp_path / "scores.csv", index=False)
    assert (
        read_scores(tmp_path / "scores.csv", small_data, MODALITIES).values["v2_score"][0].tolist() == scores.tolist()
    )


def test_large_numbers_that_stay_apart_are_read(small_data):
    apart = of_the_data(small_data, lambda n: pa.array([2**60 + 256 * i for i in range(n)]))
    found = read_scores(apart, small_data, MODALITIES).values["v2_score"]
    assert len(np.unique(found)) == len(small_data.judged_item)


IDS = {
    "bytes": pa.array([b"a", b"b"]),
    "true and false": pa.array([True, False]),
    "days": pa.array([DAY.date(), datetime.date(2027, 1, 1)]),
    "moments": pa.array([DAY, datetime.datetime(2027, 1, 1)], pa.timestamp("us")),
    "decimals": pa.array([Decimal("1.50"), Decimal("2.00")]),
    "UUIDs": pa.array([uuid.UUID(int=i).bytes for i in (1, 2)], pa.uuid()),
    "views": pa.array(["a", "b"], pa.string_view()),
    "whole floats": pa.array([1.0, 2.0]),
    "dictionary": pa.array(["a", "b"]).dictionary_encode(),
}


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("form", ["file", "frame"])
def test_ids_have_the_spelling_of_the_dataset_s(tmp_path, kind, form):
    table = pa.table({"item_id": IDS[kind]})
    pq.write_table(table, tmp_path / "scores.parquet")
    if form == "file":
        column = pd.read_parquet(tmp_path / "scores.parquet", dtype_backend="pyarrow")["item_id"]
    else:
        column = table.to_pandas()["item_id"]
    assert read_ids(column, "item_id", "scores") == checks.ids(IDS[kind], "items", "item_id").to_pylist()


NAMES = {
    "fractions": (pd.Series([0.1, 1.0]), ["0.1", "1.0"]),
    "fractions of Arrow": (pd.Series([0.1, 0.2]).astype(pd.ArrowDtype(pa.float64())), ["0.1", "0.2"]),
    "fractions as objects": (pd.Series([0.1, 0.2], dtype=object), ["0.1", "0.2"]),
    "whole floats": (pd.Series([1.0, 2.0]), ["1", "2"]),
    "text": (pd.Series(["seed-2", "seed-1"]), ["seed-2", "seed-1"]),
}


@pytest.mark.parametrize(("column", "expected"), NAMES.values(), ids=NAMES)
def test_a_training_may_be_named_by_any_number(column, expected):
    assert read_names(column, "training", "scores") == expected


def test_a_training_without_a_name_is_refused():
    with pytest.raises(DataError, match=r"row 1: empty"):
        read_names(pd.Series([0.1, None]), "training", "scores")
