"""Each check at the door, with its message: file, column, row and what to do."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fusion_models.data import DataError, open_dataset

Columns = dict[str, dict[str, Any]]
Write = Callable[[Columns], str]


def put(table: str, column: str, row: int, value: Any) -> Callable[[Columns], None]:
    def change(columns: Columns) -> None:
        columns[table][column][row] = value

    return change


def column(table: str, name: str, values: Any) -> Callable[[Columns], None]:
    def change(columns: Columns) -> None:
        columns[table][name] = values

    return change


def drop(table: str, name: str) -> Callable[[Columns], None]:
    def change(columns: Columns) -> None:
        del columns[table][name]

    return change


def add_row(table: str, *values: Any) -> Callable[[Columns], None]:
    def change(columns: Columns) -> None:
        for cells, value in zip(columns[table].values(), values, strict=True):
            cells.append(value)

    return change


def empty(table: str) -> Callable[[Columns], None]:
    def change(columns: Columns) -> None:
        columns[table] = {name: pa.array(cells).slice(0, 0) for name, cells in columns[table].items()}

    return change


CASES: dict[str, tuple[Callable[[Columns], None], tuple[str | None, str | None, int | None], str]] = {
    "missing column": (
        drop("items", "text"),
        ("items.parquet", "text", None),
        "the table has item_id",
    ),
    "missing metadata": (drop("items", "metadata"), ("items.parquet", "metadata", None), "missing"),
    "missing score": (drop("judgements", "v1_score"), ("judgements.parquet", "v1_score", None), "missing"),
    "empty table": (empty("judgements"), ("judgements.parquet", None, None), "no rows"),
    "features not lists": (
        column("items", "visual", [1.0] * 6),
        ("items.parquet", "visual", 0),
        "of type double, not lists of float",
    ),
    "features of text": (column("items", "visual", [["a"]] * 6), ("items.parquet", "visual", 0), "not lists of float"),
    "ragged width": (
        put("items", "text", 4, [1.0, 2.0, 3.0]),
        ("items.parquet", "text", 4),
        "3 numbers, and 2 in row 0. Give every row a list of the same width",
    ),
    "empty lists": (column("items", "text", [[0.0][:0]] * 5 + [[1.0]]), ("items.parquet", "text", 0), "is empty"),
    "missing list": (put("items", "text", 3, None), ("items.parquet", "text", 3), r"missing \(null\)"),
    "null in a list": (put("items", "text", 3, [1.0, None]), ("items.parquet", "text", 3), "null at position 1"),
    "NaN in a list": (put("items", "visual", 2, [0, math.nan, 0]), ("items.parquet", "visual", 2), "nan at position 1"),
    "infinite feature": (put("items", "visual", 5, [0, 0, -math.inf]), ("items.parquet", "visual", 5), "-inf at"),
    "beyond float32": (put("items", "visual", 5, [0, 0, 1e300]), ("items.parquet", "visual", 5), r"1e\+300 at"),
    "ids of floats": (column("items", "item_id", [0.5] * 6), ("items.parquet", "item_id", 0), "0.5 is of type double"),
    "missing id": (put("judgements", "item_id", 2, None), ("judgements.parquet", "item_id", 2), "missing"),
    "label of text": (
        column("judgements", "label", ["good"] * 9),
        ("judgements.parquet", "label", 0),
        "'good' is of type string, not a number. Write the column as float",
    ),
    "missing label": (put("judgements", "label", 7, None), ("judgements.parquet", "label", 7), "missing"),
    "negative label": (
        put("judgements", "label", 3, -1.0),
        ("judgements.parquet", "label", 3),
        "label -1 is negative. Use 0 for not relevant",
    ),
    "NaN label": (put("judgements", "label", 3, math.nan), ("judgements.parquet", "label", 3), "nan is not a finite"),
    "infinite score": (put("judgements", "v1_score", 8, math.inf), ("judgements.parquet", "v1_score", 8), "inf is not"),
    "unknown item": (
        put("judgements", "item_id", 6, "i77"),
        ("judgements.parquet", "item_id", 6),
        "'i77' is not in items.parquet. Add it to items.parquet",
    ),
    "unknown query": (put("judgements", "query_id", 5, "bird"), ("judgements.parquet", "query_id", 5), "'bird' is not"),
    "duplicate pair": (
        add_row("judgements", "dog", "i2", 0.0, 0.0),
        ("judgements.parquet", "item_id", 9),
        "already judged in row 2. Keep one judgement a pair",
    ),
    "duplicate item": (put("items", "item_id", 4, "i1"), ("items.parquet", "item_id", 4), "'i1' was already given"),
    "duplicate query": (add_row("queries", "dog", "train"), ("queries.parquet", "query_id", 4), "'dog' was already"),
    "query in two splits": (
        add_row("queries", "dog", "test"),
        ("queries.parquet", "split", 4),
        r"'dog' is in test here and in train in row 1. .* one id a split \(`dog@train`\)",
    ),
    "unknown split": (
        put("queries", "split", 2, "dev"),
        ("queries.parquet", "split", 2),
        "'dev' is not a split. Use train",
    ),
    "missing split": (put("queries", "split", 1, None), ("queries.parquet", "split", 1), "missing"),
    "empty split": (
        put("queries", "split", 2, "test"),
        ("queries.parquet", "split", None),
        "the validation split is empty",
    ),
    "split without candidates": (
        lambda columns: (
            add_row("queries", "moon", "validation")(columns),
            put("queries", "split", 2, "test")(columns),
        )[0],
        ("queries.parquet", "split", None),
        "the validation split is empty",
    ),
    "text of numbers": (column("queries", "text", [1, 2, 3, 4]), ("queries.parquet", "text", 0), "not text"),
    "titles of numbers": (column("items", "title", list(range(6))), ("items.parquet", "title", 0), "not text"),
    "missing subdomain": (
        column("queries", "subdomain", ["a", None, "b", "b"]),
        ("queries.parquet", "subdomain", 1),
        "missing",
    ),
    "ragged query features": (
        column("queries", "features", [[1.0], [1.0], [1.0, 2.0], [1.0]]),
        ("queries.parquet", "features", 2),
        "2 numbers, and 1 in row 0",
    ),
    "NaN pair feature": (
        column("judgements", "features", [[0.0]] * 8 + [[math.nan]]),
        ("judgements.parquet", "features", 8),
        "nan at position 0",
    ),
    "image of text": (column("items", "image", ["x"] * 6), ("items.parquet", "image", 0), "not bytes"),
    "broken image": (
        column("items", "image", [None, None, b"no picture", None, None, None]),
        ("items.parquet", "image", 2),
        "10 bytes that are no picture",
    ),
    "missing metadata number": (
        column("items", "metadata.price", [1.0, 2.0, None, 4.0, 5.0, 6.0]),
        ("items.parquet", "metadata.price", 2),
        "missing",
    ),
    "metadata of lists": (
        column("items", "metadata.tags", [["a"]] * 6),
        ("items.parquet", "metadata.tags", 0),
        "neither number, true/false nor text",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_broken_dataset_names_file_column_row_and_remedy(case: str, columns: Columns, write: Write) -> None:
    change, place, message = CASES[case]
    change(columns)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(write(columns))
    assert (caught.value.file, caught.value.column, caught.value.row) == place
    for part in place:
        assert part is None or str(part) in str(caught.value)


def test_nothing_is_left_of_a_dataset_that_was_refused(columns: Columns, write: Write, tmp_path: Path) -> None:
    columns["judgements"]["label"][3] = -1.0
    path = write(columns)
    with pytest.raises(DataError):
        open_dataset(path)
    assert [p.name for p in (tmp_path / "cache" / "arrays").iterdir() if not p.name.endswith(".lock")] == []


def test_the_row_counts_over_batches_of_the_stream(columns: Columns, write: Write) -> None:
    many = 3000
    columns["items"] = {
        "item_id": [f"i{n}" for n in range(many)],
        "visual": [[0.0]] * many,
        "text": [[0.0]] * 2500 + [[math.nan]] + [[0.0]] * 499,
        "metadata": [[0.0]] * many,
    }
    with pytest.raises(DataError, match=r"items.parquet, column 'text', row 2500"):
        open_dataset(write(columns))


def test_a_missing_table_is_named(columns: Columns, write: Write) -> None:
    path = write(columns)
    (Path(path) / "queries.parquet").unlink()
    with pytest.raises(DataError, match=r"queries.parquet: missing from .*Give `clipart`"):
        open_dataset(path)


def test_a_table_that_is_not_parquet_is_named(columns: Columns, write: Write) -> None:
    path = write(columns)
    (Path(path) / "items.parquet").write_bytes(b"id,visual\n")
    with pytest.raises(DataError, match=r"items.parquet: cannot be read as Parquet"):
        open_dataset(path)


def test_a_path_without_a_dataset_says_what_one_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder. Give `clipart`, `planted`"):
        open_dataset(tmp_path / "nothing")
    file = tmp_path / "flat.parquet"
    file.write_bytes(b"")
    with pytest.raises(DataError, match=r"is a file. .*convert FLAT OUT"):
        open_dataset(file)
    with pytest.raises(DataError, match="cannot open 'nosuch://bucket'"):
        open_dataset("nosuch://bucket")


def test_an_error_survives_the_way_out_of_a_worker_process() -> None:
    error = DataError("wrong.", "Mend it.", file="items.parquet", column="text", row=3)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "items.parquet, column 'text', row 3: wrong. Mend it."
    assert (again.file, again.column, again.row) == ("items.parquet", "text", 3)


def test_odd_queries_are_counted_and_kept(columns: Columns, write: Write) -> None:
    columns["judgements"]["label"][4] = 0.0  # the only candidate of "red car"
    columns["judgements"]["v1_score"][0] = columns["judgements"]["v1_score"][6]  # both of "cat"
    add_row("queries", "moon", "test")(columns)
    data = open_dataset(write(columns))
    assert data.counts == {
        "items": 6,
        "queries": 5,
        "judgements": 9,
        "train": 2,
        "validation": 1,
        "test": 1,
        "queries_without_relevant": 1,
        "queries_single_candidate": 1,
        "queries_tied_v1": 1,
        "queries_without_candidates": 1,
        "items_never_judged": 0,
    }
    assert data.rows("validation").tolist() == [2]
    assert data.rows("test").tolist() == [3]
