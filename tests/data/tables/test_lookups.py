"""What is asked of a file system to find a table: as little as says it, and nothing that a signature forbids."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusion_models.data import DataError, open_dataset
from fusion_models.data.tables import parts as module
from fusion_models.data.tables.parts import parts_of


@pytest.fixture
def tables(columns: Any) -> dict[str, Any]:
    return {name: pa.table(table) for name, table in columns.items()}


@pytest.fixture
def signed(tables: Any, tmp_path: Path) -> Iterator[str]:
    """The base URL of a server that answers 403 to whatever is not signed to the letter."""
    held = {}
    for name, table in tables.items():
        pq.write_table(table, tmp_path / name)
        held[f"/{name}.parquet?signature={name}"] = (tmp_path / name).read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            body = held.get(self.path)
            if body is None:
                self.send_error(403)
                return
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            start, end = (int(asked[1]), min(int(asked[2]) + 1, len(body))) if asked else (0, len(body))
            self.send_response(206 if asked else 200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(end - start))
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(body)}")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body[start:end])

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is printed."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_signed_url_is_asked_for_alone(signed: str, tables: Any) -> None:
    pytest.importorskip("aiohttp")
    data = open_dataset(**{name: f"{signed}/{name}.parquet?signature={name}" for name in tables})
    assert data.labels.tolist() == open_dataset(**tables).labels.tolist()
    with pytest.raises(DataError, match="cannot be looked at"):
        open_dataset(**tables | {"items": f"{signed}/items.parquet?signature=queries"})


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are opened to see whether they are Parquet."""
    found: list[str] = []

    def noted(filesystem: Any, path: str) -> bool:
        found.append(path)
        with filesystem.open(path, "rb") as file:
            return bool(file.read(4) == b"PAR1")

    monkeypatch.setattr(module, "is_parquet", noted)
    return found


def test_pictures_beside_a_table_are_neither_opened_nor_walked(
    tables: Any, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, table in tables.items():
        pq.write_table(table, tmp_path / f"{name}.parquet")
    for place in range(40):
        (tmp_path / "items" / str(place)).mkdir(parents=True)
        (tmp_path / "items" / str(place) / "picture").write_bytes(b"\x89PNG")
        (tmp_path / "items" / f"{place}-bare").write_bytes(b"\x89PNG")
    monkeypatch.setattr(type(fsspec.filesystem("file")), "find", lambda *_, **__: pytest.fail("walked"))
    assert open_dataset(tmp_path).counts["items"] == 6
    assert opened == []


@pytest.mark.parametrize("below", ["a.parquet", "a.PQ", "kind=a/a.parquet", "kind=a/year=1/a.parq"])
def test_parquet_of_the_same_name_beside_a_table_is_refused(below: str, tables: Any, tmp_path: Path) -> None:
    for name, table in tables.items():
        pq.write_table(table, tmp_path / f"{name}.parquet")
    (tmp_path / "items" / below).parent.mkdir(parents=True)
    pq.write_table(tables["items"], tmp_path / "items" / below)
    with pytest.raises(DataError, match=r"^items.parquet: items, with Parquet in it, lies beside it"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("bare", [3, 16, 1000])
def test_few_files_without_an_ending_are_opened(bare: int, tables: Any, tmp_path: Path, opened: list[str]) -> None:
    pq.write_table(tables["items"], tmp_path / "0.parquet")
    for place in range(bare):
        (tmp_path / f"{place:04d}").write_bytes(b"\x89PNG")
    found = parts_of(fsspec.filesystem("file"), str(tmp_path), "items")
    assert [part.name for part in found] == ["items/0.parquet"]
    assert len(opened) <= module.SAMPLE


def test_many_parts_without_an_ending_beside_others_count(tables: Any, tmp_path: Path) -> None:
    pq.write_table(tables["items"], tmp_path / "0.parquet")
    for place in range(20):
        (tmp_path / f"{place:06d}_0").write_bytes(b"PAR1")
    (tmp_path / "LICENCE").write_text("no part")
    assert len(parts_of(fsspec.filesystem("file"), str(tmp_path), "items")) == 21
