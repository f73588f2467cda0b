"""Tables that a program holds, or names one by one, as a dataset."""

from __future__ import annotations

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
