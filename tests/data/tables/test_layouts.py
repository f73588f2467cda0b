"""A table in one file or many: folders of parts, hive partitions, shards, and what is no part of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusion_models.data import DataError, RankingDataset, open_dataset

Put = Callable[[Path, str, Any], None]


def spark_folder(root: Path, name: str, table: Any) -> None:
    """As Spark writes it, with an empty part and the files that are none."""
    folder = root / f"{name}.parquet"
    folder.mkdir()
    for place, (start, end) in enumerate(((0, 1), (1, 1), (1, table.num_rows))):
        pq.write_table(table.slice(start, end - start), folder / f"part-{place:05d}.c000.snappy.parquet")
    (folder / "_SUCCESS").touch()
    (folder / "._SUCCESS.crc").write_bytes(b"crc\0")
    (folder / ".part-00000.c000.snappy.parquet.crc").write_bytes(b"crc\0")
    (folder / "_metadata").write_bytes(b"no table")
    (folder / "_temporary").mkdir()
    (folder / "_temporary" / "part-9.parquet").write_bytes(b"half a file")


def plain_folder(root: Path, name: str, table: Any) -> None:
    """`items/*.parquet`, as many tools write it."""
    (root / name).mkdir()
    pq.write_table(table.slice(0, 2), root / name / "0.parquet")
    pq.write_table(table.slice(2), root / name / "1.parquet")


def hive_names(root: Path, name: str, table: Any) -> None:
    """Files without an ending, as Hive calls them."""
    (root / name).mkdir()
    pq.write_table(table.slice(0, 2), root / name / "000000_0")
    pq.write_table(table.slice(2), root / name / "000001_0")


def shards(root: Path, name: str, table: Any) -> None:
    """Beside one another, as Hugging Face's datasets lie."""
    pq.write_table(table.slice(0, 2), root / f"{name}-00000-of-00002.parquet")
    pq.write_table(table.slice(2), root / f"{name}-00001-of-00002.parquet")


@pytest.fixture
def tables(columns: Any) -> dict[str, Any]:
    columns["items"]["title"] = ["a", None, "c", "d", "e", "f"]
    return {name: pa.table(table) for name, table in columns.items()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    return tmp_path / "shop"


def same(data: RankingDataset, other: RankingDataset) -> None:
    assert data.item_ids.tolist() == other.item_ids.tolist()
    assert data.query_ids.tolist() == other.query_ids.tolist()
    assert data.split.tolist() == other.split.tolist()
    assert data.titles(range(6)) == other.titles(range(6))
    for name in ("judged_item", "labels", "v1", "offset"):
        np.testing.assert_array_equal(getattr(data, name), getattr(other, name))
    for name in data.item_features:
        np.testing.assert_array_equal(data.item_features[name], other.item_features[name])


@pytest.mark.parametrize("put", [spark_folder, plain_folder, hive_names, shards])
def test_parts_read_like_one_file(put: Put, root: Path, tables: Any) -> None:
    for name, table in tables.items():
        put(root, name, table)
    same(open_dataset(root), open_dataset(**tables))


def test_a_hive_partition_is_a_column(root: Path, tables: Any) -> None:
    order: list[int] = []
    splits = tables["queries"]["split"].to_pylist()
    for split in sorted(set(splits)):
        rows = [row for row, s in enumerate(splits) if s == split]
        order += rows
        folder = root / "queries.parquet" / f"split={split}"
        folder.mkdir(parents=True)
        pq.write_table(tables["queries"].take(pa.array(rows)).drop_columns("split"), folder / "part-0.parquet")
    for name in ("items", "judgements"):
        pq.write_table(tables[name], root / f"{name}.parquet")
    same(open_dataset(root), open_dataset(**tables | {"queries": tables["queries"].take(pa.array(order))}))


def test_a_partition_of_numbers_and_of_nothing(root: Path, tables: Any) -> None:
    judged = tables["judgements"].drop_columns("label")
    for place, label in enumerate(("0", "2.0", "3")):
        folder = root / "judgements.parquet" / f"label={label}"
        folder.mkdir(parents=True)
        pq.write_table(judged.slice(place * 3, 3), folder / "0.parquet")
    queries = tables["queries"]
    for value, rows in (("shoes%20%26%20bags", [0, 1]), ("__HIVE_DEFAULT_PARTITION__", [2, 3])):
        folder = root / "queries.parquet" / f"subdomain={value}"
        folder.mkdir(parents=True)
        pq.write_table(queries.take(pa.array(rows)), folder / "0.parquet")
    pq.write_table(tables["items"], root / "items.parquet")
    with pytest.raises(
        DataError,
        match=r"subdomain=__HIVE_DEFAULT_PARTITION__/0.parquet, column 'subdomain', row 0: the value is missing",
    ):
        open_dataset(root)
    (root / "queries.parquet" / "subdomain=__HIVE_DEFAULT_PARTITION__").rename(root / "queries.parquet" / "subdomain=x")
    data = open_dataset(root)
    assert sorted(set(data.labels.tolist())) == [0.0, 2.0, 3.0]
    assert data.subdomain.tolist() == ["shoes & bags", "shoes & bags", "x", "x"]


def test_parts_may_type_a_column_differently(root: Path, tables: Any) -> None:
    judged = tables["judgements"]
    label = judged.schema.get_field_index("label")
    whole = judged.slice(0, 4).set_column(label, "label", pa.array([2, 0, 1, 0], pa.int32()))
    folder = root / "judgements.parquet"
    folder.mkdir()
    pq.write_table(whole, folder / "0.parquet")
    pq.write_table(judged.slice(4), folder / "1.parquet")
    items = tables["items"]
    (root / "items.parquet").mkdir()
    pq.write_table(items.slice(0, 3).drop_columns("title"), root / "items.parquet" / "0.parquet")
    pq.write_table(items.slice(3), root / "items.parquet" / "1.parquet")
    pq.write_table(tables["queries"], root / "queries.parquet")
    data = open_dataset(root)
    np.testing.assert_array_equal(data.labels, open_dataset(**tables).labels)
    assert data.titles(range(6)) == [None, None, None, "d", "e", "f"]


def test_an_error_names_the_part_and_its_row(root: Path, tables: Any) -> None:
    for name, table in tables.items():
        plain_folder(root, name, table)
    bad = tables["judgements"].slice(2)
    labels = [*bad["label"].to_pylist()[:-1], -2.0]
    pq.write_table(bad.set_column(2, "label", pa.array(labels)), root / "judgements" / "1.parquet")
    with pytest.raises(DataError, match=r"^judgements/1.parquet, column 'label', row 6: the label -2 is negative"):
        open_dataset(root)


def test_a_part_that_lacks_a_column_is_named(root: Path, tables: Any) -> None:
    for name, table in tables.items():
        plain_folder(root, name, table)
    pq.write_table(tables["judgements"].slice(2).drop_columns("v1_score"), root / "judgements" / "1.parquet")
    with pytest.raises(DataError, match=r"^judgements/1.parquet, column 'v1_score': missing"):
        open_dataset(root)


@pytest.mark.parametrize(("mark", "named"), [("_delta_log", "Delta"), (".hoodie", "Hudi"), ("metadata", "Iceberg")])
def test_a_table_whose_log_says_which_files_count_is_refused(root: Path, tables: Any, mark: str, named: str) -> None:
    for name, table in tables.items():
        plain_folder(root, name, table)
    (root / "items" / mark).mkdir()
    (root / "items" / mark / "v1.metadata.json").touch()
    with pytest.raises(DataError, match=f"items.parquet: is a {named} table, .*hand the Arrow table to `open_dataset"):
        open_dataset(root)


def test_a_folder_of_pictures_beside_a_table_is_no_table(root: Path, tables: Any) -> None:
    for name, table in tables.items():
        pq.write_table(table, root / f"{name}.parquet")
    (root / "items").mkdir()
    (root / "items" / "1.png").touch()
    assert open_dataset(root).counts["items"] == 6
    (root / "items.parquet").unlink()
    with pytest.raises(DataError, match=r"items.parquet: missing from"):
        open_dataset(root)


def test_a_truncated_part_is_named(root: Path, tables: Any) -> None:
    for name, table in tables.items():
        plain_folder(root, name, table)
    whole = (root / "items" / "1.parquet").read_bytes()
    (root / "items" / "1.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"^items/1.parquet: cannot be read as Parquet \(ArrowInvalid"):
        open_dataset(root)


def test_a_page_that_is_broken_is_named(root: Path, tables: Any) -> None:
    """The footer is whole: only reading the values shows it."""
    for name, table in tables.items():
        pq.write_table(table, root / f"{name}.parquet", compression="zstd")
    raw = bytearray((root / "judgements.parquet").read_bytes())
    raw[4:200] = bytes(196)
    (root / "judgements.parquet").write_bytes(bytes(raw))
    with pytest.raises(DataError, match=r"^judgements.parquet: cannot be read \("):
        open_dataset(root)


@pytest.mark.parametrize("name", ["run[1]", "what?", "a*b", "[x]-[!y]"])
@pytest.mark.parametrize("put", [spark_folder, shards])
def test_a_folder_s_name_is_no_glob(put: Put, name: str, tmp_path: Path, tables: Any) -> None:
    (tmp_path / name).mkdir()
    for table in tables:
        put(tmp_path / name, table, tables[table])
    same(open_dataset(tmp_path / name), open_dataset(**tables))


@pytest.mark.parametrize("given", ["run[1]/items-0.parquet", "run[1]/items-*.parquet", "run[1]/items-[0-3].parquet"])
def test_a_table_s_path_may_look_like_a_glob(given: str, tmp_path: Path, tables: Any) -> None:
    (tmp_path / "run[1]").mkdir()
    pq.write_table(tables["items"], tmp_path / "run[1]" / "items-0.parquet")
    same(open_dataset(**tables | {"items": str(tmp_path / given)}), open_dataset(**tables))


def test_a_signed_url_is_no_glob_and_its_signature_no_name(root: Path, tables: Any) -> None:
    pq.write_table(tables["items"].drop_columns("item_id"), root / "i?signature=secret")
    with pytest.raises(DataError, match=r"column 'item_id': missing") as caught:
        open_dataset(**tables | {"items": f"file://{root}/i?signature=secret"})
    assert "secret" not in str(caught.value)


def test_a_glob_takes_no_hidden_files(root: Path, tables: Any) -> None:
    shards(root, "items", tables["items"])
    (root / "._items-00000-of-00002.parquet").write_bytes(b"\0\5\26\7")  # as macOS leaves them
    (root / "_items.parquet").write_bytes(b"half a file")
    same(open_dataset(**tables | {"items": str(root / "*.parquet")}), open_dataset(**tables))


def test_parts_without_an_ending_beside_others_count(root: Path, tables: Any) -> None:
    for name, table in tables.items():
        hive_names(root, name, table)
        (root / name / "000001_0").rename(root / name / "part.parquet")
        (root / name / "README").write_text("PAR2: no part")
    same(open_dataset(root), open_dataset(**tables))


def test_a_file_and_a_folder_of_one_name_are_refused(root: Path, tables: Any) -> None:
    for name, table in tables.items():
        pq.write_table(table, root / f"{name}.parquet")
    plain_folder(root, "items", tables["items"])
    with pytest.raises(DataError, match=r"^items.parquet: items, with Parquet in it, lies beside it\. Keep one"):
        open_dataset(root)


@pytest.mark.parametrize("name", ["~nobody-of-this-name/d", "~nobody-of-this-name"])
def test_a_home_folder_that_nobody_has(name: str, tables: Any) -> None:
    for given in ({"source": name}, tables | {"items": name}):
        with pytest.raises(DataError, match="nobody-of-this-name"):
            open_dataset(**given)
