"""A flat table becomes the same dataset as its three tables; what disagrees is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fusion_models.data import DataError, open_dataset
from fusion_models.data.commands.convert import convert_flat

Columns = dict[str, dict[str, Any]]
Write = Callable[[Columns], str]


def flat_columns(columns: Columns) -> dict[str, list[Any]]:
    """Each judgement with the features of its item and its query."""
    items, queries, judged = columns["items"], columns["queries"], columns["judgements"]
    item = [items["item_id"].index(name) for name in judged["item_id"]]
    query = [queries["query_id"].index(name) for name in judged["query_id"]]
    renamed = {"features": "query_features", "text": "query_text"}
    return (
        dict(judged)
        | {name: [cells[row] for row in item] for name, cells in items.items() if name != "item_id"}
        | {renamed.get(n, n): [cells[row] for row in query] for n, cells in queries.items() if n != "query_id"}
    )


def write_flat(folder: Path, flat: dict[str, list[Any]]) -> Path:
    path = folder / "flat.parquet"
    pq.write_table(pa.table(flat), path)
    return path


@pytest.fixture
def full(columns: Columns) -> Columns:
    """A dataset with every optional column."""
    columns["items"] |= {"title": [f"title {n}" for n in range(6)], "metadata.price": [float(n) for n in range(6)]}
    columns["queries"] |= {
        "features": [[0.5 * n] for n in range(4)],
        "text": ["a cat", "a dog", None, "the sun"],
        "subdomain": ["x", "x", "y", "y"],
    }
    columns["judgements"]["features"] = [[float(n), 1.0] for n in range(9)]
    return columns


def test_the_flat_table_opens_to_the_same_numbers(full: Columns, write: Write, tmp_path: Path) -> None:
    direct = open_dataset(write(full))
    written = convert_flat(write_flat(tmp_path, flat_columns(full)), tmp_path / "out")
    assert written == {"items": 6, "queries": 4, "judgements": 9}
    converted = open_dataset(tmp_path / "out")
    place = {name: row for row, name in enumerate(converted.query_ids)}
    for row, name in enumerate(direct.query_ids):
        a, b = direct.gather([row]), converted.gather([place[name]])
        for modality in a.features:
            np.testing.assert_array_equal(a.features[modality], b.features[modality])
        np.testing.assert_array_equal(a.context, b.context)
        np.testing.assert_array_equal(a.labels, b.labels)
        np.testing.assert_array_equal(a.v1, b.v1)
        titles = [direct.titles(a.item[0].tolist()), converted.titles(b.item[0].tolist())]
        assert titles[0] == titles[1]
        assert direct.split[row] == converted.split[place[name]]
        assert direct.subdomain[row] == converted.subdomain[place[name]]
    assert direct.counts == converted.counts
    np.testing.assert_allclose(direct.statistics.mean["context"], converted.statistics.mean["context"], rtol=1e-6)


def test_many_batches_and_row_groups(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(9000, 2)).astype(np.float32)
    item = np.concatenate([random.permutation(9000) for _ in range(2)])
    flat = {
        "query_id": [f"q{n // 10}" for n in range(18_000)],
        "item_id": [f"i{n}" for n in item],
        "label": random.integers(0, 2, 18_000).astype(float),
        "v1_score": random.normal(size=18_000),
    } | {name: features[item].tolist() for name in ("visual", "text", "metadata")}
    assert convert_flat(write_flat(tmp_path, flat), tmp_path / "out")["items"] == 9000
    data = open_dataset(tmp_path / "out")
    rows = np.array([int(name[1:]) for name in data.item_ids])
    np.testing.assert_array_equal(data.item_features["text"], features[rows])


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        (
            "visual",
            5,
            [9.0, 9.0, 9.0],
            r"flat.parquet, column 'visual', row 5: item 'i0' has another value .*row 0",
        ),
        ("title", 5, "other", "column 'title', row 5: item 'i0' has another value"),
        ("split", 3, "test", r"row 3: query 'cat' is in test here and in another split in row 0\. .*one id a split"),
        ("subdomain", 3, "z", "column 'subdomain', row 3: query 'cat' has another value"),
        ("text", 4, [1.0], "column 'text', row 4: the list has 1 numbers, and 2 in row 0"),
        ("label", 2, -2.0, "column 'label', row 2: the label -2 is negative"),
        ("item_id", 5, "i2", "row 5: this query-item pair was already judged in row 2"),
    ],
)
def test_a_broken_flat_table_is_named_and_leaves_nothing(
    column: str, row: int, value: Any, message: str, full: Columns, tmp_path: Path
) -> None:
    flat = flat_columns(full)
    flat[column][row] = value
    with pytest.raises(DataError, match=message):
        convert_flat(write_flat(tmp_path, flat), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_there_is_not_overwritten(full: Columns, tmp_path: Path) -> None:
    flat = write_flat(tmp_path, flat_columns(full))
    convert_flat(flat, tmp_path / "out")
    with pytest.raises(DataError, match=r"items.parquet is already there. Name a new folder"):
        convert_flat(flat, tmp_path / "out")
    with pytest.raises(DataError, match="no flat table at"):
        convert_flat(tmp_path / "none.parquet", tmp_path / "new")
    with pytest.raises(DataError, match=r"flat.parquet, column 'v1_score': missing"):
        convert_flat(write_flat(tmp_path, {"query_id": ["q"], "item_id": ["i"], "label": [1.0]}), tmp_path / "new")


def test_files_that_type_a_column_differently_lose_nothing(full: Columns, tmp_path: Path) -> None:
    flat = pa.table(flat_columns(full))
    scores = [0.5, 0.25, *(1e9 + n / 8 for n in range(7))]
    place = flat.schema.get_field_index("v1_score")
    parts = tmp_path / "flat"
    parts.mkdir()
    for number, (start, kind) in enumerate(((0, pa.float32()), (2, pa.float64()))):
        piece = flat.slice(start, None if number else 2)
        values = pa.array(scores[start : start + piece.num_rows], kind)
        pq.write_table(piece.set_column(place, "v1_score", values), parts / f"{number}.parquet")
    assert convert_flat(parts, tmp_path / "out") == {"items": 6, "queries": 4, "judgements": 9}
    assert sorted(open_dataset(tmp_path / "out").v1.tolist()) == sorted(scores)
    with pytest.raises(DataError, match="already there"):
        convert_flat(parts, tmp_path / "out")


@pytest.mark.parametrize("out", ["/dev/null/x", "/proc/x"])
def test_a_folder_that_cannot_be_made_is_one_line(out: str, full: Columns, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"^'{out}' cannot be made .* folder that can be written\.$"):
        convert_flat(write_flat(tmp_path, flat_columns(full)), out)


@pytest.mark.parametrize("keyed", [[0], [1], [0, 2], [1, 2]])
def test_files_of_which_some_lie_in_folders_of_a_key(keyed: list[int], full: Columns, tmp_path: Path) -> None:
    columns = flat_columns(full)
    flat = pa.table({name: values for name, values in columns.items() if name != "query_text"})
    for number in range(3):
        folder = tmp_path / "flat" / (f"query_text={number}" if number in keyed else "plain" + str(number))
        folder.mkdir(parents=True)
        same = pa.array(flat["query_id"].to_pylist())
        queries = same.unique().to_pylist()[number::3]
        pq.write_table(flat.filter(pc.is_in(same, pa.array(queries))), folder / f"{number}.parquet")
    assert convert_flat(tmp_path / "flat", tmp_path / "out") == {"items": 6, "queries": 4, "judgements": 9}
    assert sorted(open_dataset(tmp_path / "out").v1.tolist()) == sorted(full["judgements"]["v1_score"])
