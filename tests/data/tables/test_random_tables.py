"""Random tables: what opens equals what Arrow says, what does not is refused in one line that says why.

CI opens 200. More by hand: `FUSION_FUZZ_TABLES=2000 python -m pytest tests/data/tables/test_random_tables.py`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from random_tables import FAULTS, RandomDataset, datasets

from fusion_models.data import DataError, RankingDataset, open_dataset

TABLES = int(os.environ.get("FUSION_FUZZ_TABLES", "200"))


@pytest.mark.timeout(3600)
@settings(
    max_examples=TABLES, deadline=None, derandomize=TABLES == 200,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)  # fmt: skip
@given(datasets(), st.sampled_from(["files", "parts", "shards", "api"]), st.integers(1, 3), st.booleans())
def test_a_random_table_opens_as_arrow_reads_it_or_says_why_not(
    dataset: RandomDataset, layout: str, row_group: int, dictionary: bool
) -> None:
    event(dataset.fault or "none")
    root = Path(tempfile.mkdtemp())
    try:
        tables = {name: _table(dataset, name) for name in dataset.tables}
        if layout == "api":
            opened = lambda: open_dataset(**tables, cache=root / "cache")  # noqa: E731
        else:
            for name, table in tables.items():
                _write(root, name, table, layout, row_group, dictionary)
            opened = lambda: open_dataset(root, cache=root / "cache")  # noqa: E731
        if dataset.fault:
            with pytest.raises(DataError) as caught:
                opened()
            _assert_clear(caught.value)
        else:
            _assert_holds(opened(), dataset)
    finally:
        shutil.rmtree(root)


def test_every_fault_is_drawn() -> None:
    assert len(FAULTS) > 30


def _table(dataset: RandomDataset, name: str) -> Any:
    columns = dataset.tables[name]
    names, arrays = list(columns), list(columns.values())
    for table, column in dataset.duplicates:
        if table == name:
            names.append(column)
            arrays.append(columns[column])
    return pa.Table.from_arrays(arrays, names=names)


def _write(root: Path, name: str, table: Any, layout: str, row_group: int, dictionary: bool) -> None:
    options: dict[str, Any] = {"row_group_size": row_group, "use_dictionary": dictionary}
    if layout == "files":
        pq.write_table(table, root / f"{name}.parquet", **options)
        return
    cut = max(1, table.num_rows // 2)
    for place, part in enumerate((table.slice(0, cut), table.slice(cut), table.slice(0, 0))):
        if layout == "parts":
            path = root / f"{name}.parquet" / f"part-{place:05d}.c000.snappy.parquet"
            path.parent.mkdir(exist_ok=True)
            (path.parent / "_SUCCESS").touch()
        else:
            path = root / f"{name}-{place:05d}-of-00003.parquet"
        pq.write_table(part, path, **options)


def _assert_clear(error: DataError) -> None:
    said = str(error)
    assert "\n" not in said
    assert error.file is not None or error.remedy, said
    assert error.problem, said
    assert len(said) < 700, said


def _assert_holds(data: RankingDataset, dataset: RandomDataset) -> None:
    """Every value of every column is where it belongs."""
    items, queries, judged = (dataset.tables[name] for name in ("items", "queries", "judgements"))
    assert data.item_ids.tolist() == _spelled(items["item_id"])
    assert data.query_ids.tolist() == _spelled(queries["query_id"])
    assert [data.splits[code] for code in data.split] == _spelled(queries["split"])
    item_row = {name: row for row, name in enumerate(data.item_ids)}
    pairs = list(zip(_spelled(judged["query_id"]), _spelled(judged["item_id"]), strict=True))
    order = sorted(range(len(pairs)), key=lambda j: data.query_ids.tolist().index(pairs[j][0]))
    assert data.judged_item.tolist() == [item_row[pairs[j][1]] for j in order]
    for name, kept in (("label", data.labels), ("v1_score", data.v1)):
        wanted = _numbers(judged[name])
        assert kept.tolist() == [wanted[j] for j in order], (name, judged[name].type)
    wanted = _numbers(queries["weight"]) if _there(queries, "weight") else [1.0] * len(data.weight)
    assert data.weight.tolist() == wanted
    for name in ("visual", "text", "metadata"):
        if name in items:
            np.testing.assert_array_equal(data.item_features[name], _vectors(items[name]))
    np.testing.assert_array_equal(
        np.zeros((0, 0)) if data.query_features is None else data.query_features,
        _vectors(queries["features"]) if _there(queries, "features") else np.zeros((0, 0)),
    )
    if _there(judged, "features"):
        assert data.pair_features is not None
        np.testing.assert_array_equal(data.pair_features, _vectors(judged["features"])[order])
    titles = _spelled(items["title"]) if _there(items, "title") else [None] * len(item_row)
    assert data.titles(range(len(item_row))) == titles
    texts = data.query_text
    wanted_texts = _spelled(queries["text"]) if _there(queries, "text") else None
    assert (None if texts is None else texts.tolist()) == wanted_texts
    subdomains = _spelled(queries["subdomain"]) if _there(queries, "subdomain") else ["all"] * len(data.query_ids)
    assert data.subdomain.tolist() == subdomains


def _there(columns: dict[str, Any], name: str) -> bool:
    return name in columns and not pa.types.is_null(columns[name].type)


def _spelled(column: Any) -> list[str | None]:
    def spell(value: Any) -> str | None:
        return value.decode() if isinstance(value, bytes) else None if value is None else str(value)

    return [spell(value) for value in column.to_pylist()]


def _numbers(column: Any) -> list[float]:
    return [float(value) for value in column.to_pylist()]


def _vectors(column: Any) -> Any:
    def numbers(value: Any) -> list[float]:
        if isinstance(value, dict) and value["type"] == 1:
            return list(value["values"])
        if isinstance(value, dict):
            full = [0.0] * value["size"]
            for place, x in zip(value["indices"], value["values"], strict=True):
                full[place] = x
            return full
        flat = np.ravel(np.array(value, dtype=object))
        return [float(x) for x in flat]

    if isinstance(column, pa.FixedShapeTensorArray):
        return column.to_numpy_ndarray().reshape(len(column), -1).astype(np.float32)
    return np.array([numbers(value) for value in column.to_pylist()], dtype=np.float64).astype(np.float32)
