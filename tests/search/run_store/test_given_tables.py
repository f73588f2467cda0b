"""Tables given to `search.api.run` are kept as `open_dataset` reads them: the same doors, the same errors."""

import contextlib
import errno
import hashlib
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from fusion_models.data import DataError, open_dataset
from fusion_models.data.planted import write_planted
from fusion_models.data.planted.presets import planted_config
from search.run_store.given_tables import keep_tables


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    write_planted(planted_config("planted?queries=160&candidates=6"), folder)
    return {name: pq.read_table(folder / f"{name}.parquet") for name in ("items", "queries", "judgements")}


class Frame:
    """What polars and others give: a stream of Arrow's C interface."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


def swapped(table, name, values):
    return table.set_column(table.schema.get_field_index(name), name, values)


def test_whatever_open_dataset_takes_is_kept(tables, tmp_path):
    pq.write_table(tables["queries"], tmp_path / "q-0.parquet")
    first = open_dataset(keep_tables(str(tmp_path / "r"), tables))
    encoded = pa.RunEndEncodedArray.from_arrays(
        pa.array(range(1, tables["queries"].num_rows + 1), pa.int32()),
        tables["queries"]["query_id"].combine_chunks(),
    )
    for queries in (
        tables["queries"].to_pandas(),
        tables["queries"].to_pydict(),
        Frame(tables["queries"]),
        str(tmp_path / "q-*.parquet"),
        tmp_path / "q-0.parquet",
        swapped(tables["queries"], "query_id", encoded),
    ):
        data = open_dataset(keep_tables(str(tmp_path / "r"), tables | {"queries": queries}))
        assert data.query_ids.tolist() == first.query_ids.tolist()


def test_parts_lose_neither_digits_nor_columns(tables, tmp_path):
    judged, items = tables["judgements"], tables["items"]
    half = judged.num_rows // 2
    scores = np.arange(judged.num_rows) / 8 + 1e9
    scores[:half] = np.arange(half) / 8
    narrow = swapped(judged.slice(0, half), "v1_score", pa.array(scores[:half], pa.float32()))
    wide = swapped(judged.slice(half), "v1_score", pa.array(scores[half:]))
    given = {"judgements": (narrow, wide)}
    untitled = items.drop_columns([name for name in ("title",) if name in items.column_names])
    titles = pa.array([f"title {n}" for n in range(items.num_rows - 9)])
    given["items"] = (untitled.slice(0, 9), untitled.slice(9).append_column("title", titles))
    for name, parts in given.items():
        (tmp_path / name).mkdir()
        for number, part in enumerate(parts):
            pq.write_table(part, tmp_path / name / f"{number}.parquet")
    paths = {name: str(tmp_path / name) for name in given}
    place = keep_tables(str(tmp_path / "r"), tables | paths)
    data = open_dataset(place)
    assert sorted(data.v1.tolist()) == sorted(scores.tolist())
    assert data.titles([8, 9]) == [None, "title 0"]
    assert keep_tables(str(tmp_path / "r"), tables | paths) == place


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            lambda q: q.append_column("x", pa.array([pa.MonthDayNano([1, 2, 3])] * q.num_rows)),
            "column 'x': of type mon",
        ),
        (lambda q: q.to_pandas().assign(query_id=[2**70 + n for n in range(q.num_rows)]), "DataFrame is no table"),
        (lambda q: pd.concat([q.to_pandas(), q.to_pandas()], axis=1), "DataFrame is no table .*[Dd]uplicate"),
        (lambda _: 3, "int is no table that Arrow reads"),
        (lambda _: "/gone/*.parquet", "no table at '/gone/"),
    ],
)
def test_what_cannot_be_kept_is_one_line(given, said, tables, tmp_path):
    with pytest.raises(DataError, match=said):
        keep_tables(str(tmp_path), tables | {"queries": given(tables["queries"])})


def test_the_same_tables_are_kept_by_two_at_once(tables, tmp_path, monkeypatch):
    put, inner = LocalFileSystem.put_file, []

    def meanwhile(self, *given, **more):
        """Another process keeps them all after each file of this one is written, and before it has its name."""
        put(self, *given, **more)
        if not inner:
            inner.append("")
            inner[0] = keep_tables(str(tmp_path), tables)

    monkeypatch.setattr(LocalFileSystem, "put_file", meanwhile)
    place = keep_tables(str(tmp_path), tables)
    assert inner == [place]
    assert sorted(path.name for path in Path(place).iterdir()) == sorted(f"{name}.parquet" for name in tables)
    assert open_dataset(place).counts


@pytest.mark.parametrize("error", [FileExistsError, PermissionError])
def test_what_a_store_says_of_a_file_that_is_there_by_then(tables, tmp_path, monkeypatch, error):
    def refuse(self, part, target):
        raise error(part)

    monkeypatch.setattr(LocalFileSystem, "mv", refuse)
    with pytest.raises(ValueError, match="cannot use") if error is PermissionError else contextlib.nullcontext():
        keep_tables(str(tmp_path), tables)
    assert not list(tmp_path.rglob("*.part"))


def test_no_room_for_temporary_files_is_one_line(tables, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(DataError, match=r"temporary files cannot be written \(No space left .*\$TMPDIR"):
        keep_tables(str(tmp_path), tables)


def test_results_in_a_home_that_nobody_has(tables):
    with pytest.raises(DataError, match=r"'~nobody-of-this-name/r' lies in no home folder"):
        keep_tables("~nobody-of-this-name/r", tables)


def test_equal_parts_of_other_names_add_no_rows(tables, tmp_path):
    queries = tables["queries"]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        pq.write_table(queries.slice(0, 9), tmp_path / name / f"{name}-0.parquet")
        pq.write_table(queries.slice(9), tmp_path / name / f"{name}-1.parquet")
        data = open_dataset(keep_tables(str(tmp_path / "r"), tables | {"queries": tmp_path / name}))
        assert data.query_ids.tolist() == queries["query_id"].to_pylist()


def test_tables_in_memory_have_the_identity_of_plain_files(tables, tmp_path):
    """A run on them can be resumed, and its looks are counted, in whatever version it was started."""
    (tmp_path / "plain").mkdir()
    frames = {name: table.to_pandas() for name, table in tables.items()}
    for name, frame in frames.items():
        table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
        pq.write_table(table, tmp_path / "plain" / f"{name}.parquet")
    place = keep_tables(str(tmp_path / "r"), frames)
    digests = [hashlib.sha256((tmp_path / "plain" / f"{name}.parquet").read_bytes()).digest() for name in frames]
    assert place.endswith(f"/r/data/{hashlib.sha256(b''.join(digests)).hexdigest()[:16]}")
    kept = open_dataset(place)
    assert kept.fingerprint == open_dataset(tmp_path / "plain").fingerprint
