"""Tables that a program holds, or names one by one, as a dataset."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusion_models.data import DataError, open_dataset


@pytest.fixture
def tables(columns: Any) -> dict[str, Any]:
    return {name: pa.table(table) for name, table in columns.items()}


def test_arrow_tables_frames_dicts_and_paths_open_alike(tables: Any, tmp_path: Path) -> None:
    pq.write_table(tables["items"].slice(0, 2), tmp_path / "a-0.parquet")
    pq.write_table(tables["items"].slice(2), tmp_path / "a-1.parquet")
    plain = open_dataset(**tables)
    frames = {name: table.to_pandas() for name, table in tables.items()}
    for given in (
        frames,
        tables | {"queries": tables["queries"].to_pydict()},
        tables | {"items": str(tmp_path / "a-*.parquet")},
        {name: pa.RecordBatchReader.from_batches(t.schema, t.to_batches()) for name, t in tables.items()},
    ):
        data = open_dataset(**given)
        np.testing.assert_array_equal(data.v1, plain.v1)
        np.testing.assert_array_equal(data.item_features["visual"], plain.item_features["visual"])
        assert data.item_ids.tolist() == plain.item_ids.tolist()


def test_what_was_opened_has_a_folder_that_any_process_opens(tables: Any) -> None:
    data = open_dataset(**tables)
    again = open_dataset(data.source)
    assert (again.fingerprint, again.location) == (data.fingerprint, data.location)
    assert pickle.loads(pickle.dumps(data)).fingerprint == data.fingerprint


def test_equal_tables_share_a_copy_and_others_do_not(tables: Any) -> None:
    first = open_dataset(**tables)
    assert open_dataset(**tables).source == first.source
    shuffled = tables["judgements"].take(pa.array([1, 0, *range(2, 9)]))
    assert open_dataset(**tables | {"judgements": shuffled}).source != first.source


def test_a_missing_table_and_two_answers_are_refused(tables: Any) -> None:
    with pytest.raises(DataError, match=r"judgements.parquet: not given\. Give all of items="):
        open_dataset(items=tables["items"], queries=tables["queries"])
    with pytest.raises(DataError, match="both a source and tables"):
        open_dataset("clipart", **tables)
    with pytest.raises(DataError, match="no dataset is named"):
        open_dataset()


def test_what_is_no_table_is_named(tables: Any) -> None:
    mixed = pd.DataFrame({"query_id": ["cat", "dog", "red car", 7], "split": ["train", "train", "validation", "test"]})
    with pytest.raises(DataError, match=r"queries.parquet: DataFrame is no table that Arrow reads .*query_id"):
        open_dataset(**tables | {"queries": mixed})
    with pytest.raises(DataError, match=r"items.parquet: int is no table that Arrow reads"):
        open_dataset(**tables | {"items": 7})
    with pytest.raises(DataError, match=r"no table at .*gone"):
        open_dataset(**tables | {"items": "/gone/items.parquet"})


def test_a_frame_s_own_faults_are_those_of_a_file(tables: Any) -> None:
    frame = tables["judgements"].to_pandas()
    frame.loc[3, "label"] = -1.0
    with pytest.raises(DataError, match=r"judgements.parquet, column 'label', row 3: the label -1 is negative"):
        open_dataset(**tables | {"judgements": frame})
    doubled = pd.concat([frame, frame[["label"]]], axis=1)
    with pytest.raises(DataError, match=r"judgements.parquet: DataFrame is no table .*[Dd]uplicate"):
        open_dataset(**tables | {"judgements": doubled})


def parts(folder: Path, *tables: Any) -> str:
    folder.mkdir()
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"{number}.parquet")
    return str(folder)


def typed(table: Any, name: str, values: Any) -> Any:
    return table.set_column(table.schema.get_field_index(name), name, values)


def test_parts_that_type_a_column_differently_lose_nothing(tables: Any, tmp_path: Path) -> None:
    judged, items = tables["judgements"], tables["items"]
    scores = [0.5, 0.25, *(1e9 + n / 8 for n in range(7))]
    judged = typed(judged, "v1_score", pa.array(scores))
    narrow = typed(judged.slice(0, 2), "v1_score", pa.array(scores[:2], pa.float32()))
    names = {f"i{n}": str(n) if n < 3 else f"{n:05d}" for n in range(6)}
    judged, narrow = (
        typed(t, "item_id", pa.array([names[i] for i in t["item_id"].to_pylist()])) for t in (judged, narrow)
    )
    numbered = typed(items.slice(0, 3), "item_id", pa.array([0, 1, 2]))
    zeros = typed(items.slice(3), "item_id", pa.array([names[f"i{n}"] for n in range(3, 6)]))
    zeros = zeros.append_column("title", pa.array(["x", "y", "z"]))
    data = open_dataset(
        items=parts(tmp_path / "items", numbered, zeros),
        queries=tables["queries"],
        judgements=parts(tmp_path / "judged", narrow, judged.slice(2)),
    )
    assert sorted(data.v1.tolist()) == sorted(scores)
    assert data.item_ids.tolist() == list(names.values())
    assert data.titles(range(6)) == [None, None, None, "x", "y", "z"]
    assert open_dataset(data.source).fingerprint == data.fingerprint


@pytest.mark.parametrize("column", ["split", "subdomain"])
def test_a_column_twice_is_refused_by_every_door(column: str, tables: Any, tmp_path: Path) -> None:
    queries = tables["queries"].append_column("subdomain", pa.array(["a", "b", "a", "b"]))
    queries = queries.append_column(column, queries[column])
    pq.write_table(queries, tmp_path / "queries.parquet")
    for given in (queries, str(tmp_path / "queries.parquet"), str(tmp_path / "*.parquet")):
        with pytest.raises(DataError, match=rf"queries.parquet, column '{column}': there are 2 columns of this name"):
            open_dataset(**tables | {"queries": given})


def test_parts_without_rows_are_an_empty_table(tables: Any, tmp_path: Path) -> None:
    empty = tables["queries"].slice(0, 0)
    for given in (empty, parts(tmp_path / "q", empty, empty)):
        with pytest.raises(DataError, match=r"queries.parquet: the table has no rows"):
            open_dataset(**tables | {"queries": given})


def test_a_type_that_parquet_lacks_is_named(tables: Any) -> None:
    spans = pa.array([pa.MonthDayNano([1, 2, 3])] * 4)
    with pytest.raises(DataError, match=r"queries.parquet, column 'span': of type month_day_nano_interval"):
        open_dataset(**tables | {"queries": tables["queries"].append_column("span", spans)})


def test_a_full_disk_is_no_matter_of_types(tables: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_batch", full)
    with pytest.raises(DataError, match=r"^the cache folder .* is full .*Free some space"):
        open_dataset(**tables)


def test_a_column_twice_that_nobody_reads_is_left_out(tables: Any, tmp_path: Path) -> None:
    queries = tables["queries"].append_column("note", pa.array(["a", "b", "c", "d"]))
    pq.write_table(queries.append_column("note", queries["note"]), tmp_path / "queries.parquet")
    pq.write_table(queries.slice(0, 0), tmp_path / "queries-1.parquet")
    for given in ("queries.parquet", "queries*.parquet"):
        data = open_dataset(**tables | {"queries": str(tmp_path / given)})
        assert data.query_ids.tolist() == open_dataset(**tables).query_ids.tolist()
