"""Moments of time: years beyond 2262 as INT96, and parts of one table in different units."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusion_models.data import DataError, open_dataset
from fusion_models.data.commands.convert import convert_flat
from fusion_models.data.tables import TableReader, table_parts
from fusion_models.data.tables.time_units import TIMES, MixedTimesError, count_of, joint_time

FAR = [datetime.datetime(9999, 12, 31), None, datetime.datetime(1, 1, 1), datetime.datetime(2024, 5, 6, 7, 8, 9, 10)]


def as_int96(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path, use_deprecated_int96_timestamps=True, row_group_size=3)
    return path


def reader_of(path: Path) -> TableReader:
    filesystem, parts = table_parts(str(path))
    return TableReader(filesystem, parts, path.name)


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_int96_keeps_every_year(rows: int, tmp_path: Path) -> None:
    path = as_int96(tmp_path / "t.parquet", at=pa.array(FAR, pa.timestamp("us")), n=[1, 2, 3, 4])
    read = [moment for _, batch in reader_of(path).stream(["n", "at"], rows) for moment in batch["at"].to_pylist()]
    assert read == FAR


def test_nanoseconds_of_int96_are_no_silent_loss(tmp_path: Path) -> None:
    moments = pa.array([1_000, 2_000, None, -1], pa.timestamp("ns"))
    path = as_int96(tmp_path / "t.parquet", at=moments, n=[1, 2, 3, 4])
    with pytest.raises(DataError, match=r"t.parquet, column 'at', row 3: 1969-12-31 23:59:59.999999 and some nanosec"):
        list(reader_of(path).stream(["at"], 2))
    assert [first for first, _ in reader_of(path).stream(["n"], 4)] == [0]


def test_int96_by_every_door(columns: Any, tmp_path: Path) -> None:
    queries, items = columns["queries"], columns["items"]
    items["metadata.until"] = pa.array([FAR[0], FAR[2], FAR[3]] * 2, pa.timestamp("us"))
    queries["timestamp"] = pa.array(FAR, pa.timestamp("us"))
    tables = {name: pa.table(table) for name, table in columns.items()}
    plain = open_dataset(**tables)
    paths = {name: as_int96(tmp_path / f"{name}.parquet", **table) for name, table in columns.items()}
    for data in (open_dataset(tmp_path), open_dataset(**paths)):
        assert data.query_timestamp.tolist() == plain.query_timestamp.tolist()
        np.testing.assert_array_equal(data.item_features["metadata"], plain.item_features["metadata"])


T = pa.timestamp


@pytest.mark.parametrize(
    ("kinds", "joint"),
    [
        ([T("s"), T("us")], T("us")),
        ([T("us", "UTC"), T("ns", "Europe/Berlin")], T("ns", "UTC")),
        ([pa.date32(), T("ms")], T("ms")),
        ([pa.date32(), pa.date64()], pa.date64()),
        ([pa.time32("s"), pa.time64("us")], pa.time64("us")),
        ([pa.duration("s"), pa.duration("ms")], pa.duration("ms")),
        ([T("s"), pa.null(), T("s")], None),
        ([pa.int64(), pa.float64()], None),
        ([T("s"), pa.large_string()], None),
    ],
)
def test_parts_have_one_unit(kinds: list[Any], joint: Any) -> None:
    assert joint_time(kinds) == joint
    assert joint_time(kinds[::-1]) == joint or joint == T("ns", "UTC")


@pytest.mark.parametrize("kinds", [[T("s"), pa.int64()], [T("s"), T("s", "UTC")], [pa.duration("s"), T("s")]])
def test_moments_beside_other_things_are_refused(kinds: list[Any]) -> None:
    with pytest.raises(MixedTimesError):
        joint_time(kinds)


def test_parts_in_two_units_are_one_scale(columns: Any, tmp_path: Path) -> None:
    days = [1, 2, 3, 4, 5, 6]
    columns["items"]["metadata.until"] = pa.array(days, pa.date32()).cast(pa.timestamp("s"))
    tables = {name: pa.table(table) for name, table in columns.items()}
    plain = open_dataset(**tables)
    for name in ("queries", "judgements"):
        pq.write_table(tables[name], tmp_path / f"{name}.parquet")
    (tmp_path / "items").mkdir()
    place = tables["items"].schema.get_field_index("metadata.until")
    for part, kind in enumerate((pa.timestamp("us"), pa.date32(), pa.timestamp("ns"))):
        piece = tables["items"].slice(2 * part, 2)
        whole = piece.set_column(place, "metadata.until", piece["metadata.until"].cast(kind))
        pq.write_table(whole, tmp_path / "items" / f"{part}.parquet")
    for given in ({"source": tmp_path}, tables | {"items": str(tmp_path / "items")}):
        data = open_dataset(**given)
        np.testing.assert_array_equal(data.item_features["metadata"], plain.item_features["metadata"])
    empty = pa.table({"item_id": ["none"], "metadata.until": [1]}).slice(0, 0)
    pq.write_table(empty, tmp_path / "items" / "4.parquet")
    assert len(list(reader_of(tmp_path / "items").stream(["metadata.until"]))) == 3
    far = pa.table({"item_id": ["far"], "metadata.until": pa.array(FAR[:1], pa.timestamp("us"))})
    pq.write_table(far, tmp_path / "items" / "3.parquet")
    with pytest.raises(DataError, match=r"items/3.parquet, column 'metadata.until': timestamp\[us\] of this file does"):
        list(reader_of(tmp_path / "items").stream(["metadata.until"]))


def test_a_flat_table_s_far_moments(tmp_path: Path) -> None:
    flat = {
        "query_id": ["a", "a", "b", "c"],
        "item_id": ["1", "2", "1", "2"],
        "label": [1.0, 0.0, 1.0, 0.0],
        "v1_score": [1.0, 2.0, 3.0, 4.0],
        "split": ["train", "train", "validation", "test"],
        "metadata.until": pa.array([400_000_000_000, 1, 400_000_000_000, 1], pa.timestamp("s")),  # the year 14645
    } | {name: [[1.0, 2.0]] * 4 for name in ("visual", "text")}
    pq.write_table(pa.table(flat), tmp_path / "flat.parquet")
    assert convert_flat(tmp_path / "flat.parquet", tmp_path / "out")["items"] == 2
    flat["timestamp"] = flat["metadata.until"]
    pq.write_table(pa.table(flat), tmp_path / "flat.parquet")
    with pytest.raises(
        DataError, match=r"flat.parquet, column 'timestamp', row 0: 400000000000000 of type .* no moment"
    ):
        convert_flat(tmp_path / "flat.parquet", tmp_path / "other")


@pytest.mark.parametrize("name", [name for name in TIMES if not name.startswith("duration")])
@pytest.mark.parametrize(
    "moment", [datetime.datetime(2024, 5, 6, 7, 8, 9, 123456), datetime.datetime(1969, 12, 31, 23, 59, 59, 999999)]
)
def test_iso_text_counts_as_the_same_moment_of_a_table(name: str, moment: datetime.datetime) -> None:
    clock = name.startswith(("time32", "time64"))
    text = (moment.time() if clock else moment).isoformat()
    value = moment.time() if clock else moment.date() if name.startswith("date") else moment
    stored = pa.array([value], TIMES[name])
    counts = stored.cast(pa.int32() if "32" in name else pa.int64())
    assert count_of(text, name) == counts[0].as_py()


@pytest.mark.parametrize(
    ("text", "name"),
    [("yesterday", "timestamp[us]"), ("", "date32[day]"), ("2024-05-06", "time64[us]"), ("7", "duration[s]")],
)
def test_text_that_is_no_moment_is_refused(text: str, name: str) -> None:
    with pytest.raises(ValueError, match=r"Invalid isoformat|has no moments"):
        count_of(text, name)


def test_a_zone_is_read_and_utc_without_one() -> None:
    told = [count_of(f"2024-05-06T07:08:09{zone}", "timestamp[s]") for zone in ("", "Z", "+02:00")]
    assert told == [told[0], told[0], told[0] - 7200]
