"""The cache: keyed by content, built once by ten processes that start at once, healed when files are lost."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from fusion_models.data import DataError, open_dataset
from fusion_models.data.arrays.cache import build_once, cache_root
from fusion_models.data.tables import TABLES

Columns = dict[str, dict[str, Any]]
Write = Callable[[Columns], str]


def _open_at_the_gate(gate: Any, answers: Any, cache: str) -> None:
    gate.wait()
    data = open_dataset("planted?queries=60", cache=cache)
    answers.put((data.fingerprint, float(data.gather(np.arange(60)).features["text"].sum())))


def test_ten_processes_at_once_open_one_dataset(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")  # imports torch once, not ten times
    context.set_forkserver_preload(["fusion_models.data"])
    gate, answers = context.Barrier(10, timeout=200), context.Queue()
    arguments = (gate, answers, str(tmp_path / "cache"))
    processes = [context.Process(target=_open_at_the_gate, args=arguments, daemon=True) for _ in range(10)]
    for process in processes:
        process.start()
    found = {answers.get(timeout=300) for _ in processes}
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    ((fingerprint, _),) = found
    (built,) = [path for path in (tmp_path / "cache" / "arrays").iterdir() if path.is_dir()]
    assert built.name.startswith(fingerprint)


def test_ten_builders_at_one_moment_build_once(tmp_path: Path) -> None:
    gate, builds = threading.Barrier(10), []

    def build(out: Path) -> None:
        builds.append(out)
        (out / "half").write_text("1")
        time.sleep(0.1)
        (out / "whole").write_text("2")

    def race(_: int) -> str:
        gate.wait()
        return (build_once(tmp_path / "store" / "key", build) / "whole").read_text()

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        assert set(pool.map(race, range(10))) == {"2"}
    assert len(builds) == 1


def test_a_build_that_fails_leaves_nothing_and_the_next_succeeds(tmp_path: Path) -> None:
    def broken(out: Path) -> None:
        (out / "half").write_text("1")
        raise RuntimeError("disk full")

    folder = tmp_path / "store" / "key"
    with pytest.raises(RuntimeError, match="disk full"):
        build_once(folder, broken)
    assert [p.name for p in folder.parent.iterdir()] == ["key.lock"]
    assert build_once(folder, lambda out: None) == folder


def test_what_a_killed_builder_left_is_swept(tmp_path: Path) -> None:
    folder = tmp_path / "store" / "key"
    stale = folder.parent / "key.building-dead"
    stale.mkdir(parents=True)
    (stale / "half").write_text("1")
    build_once(folder, lambda out: None)
    assert not stale.exists()


def test_lost_files_are_built_again(columns: Columns, write: Write) -> None:
    path = write(columns)
    data = open_dataset(path)
    before = data.gather([0]).features["text"].clone()
    (data.folder / "modality_text.npy").unlink()
    again = open_dataset(path)
    assert again.folder == data.folder
    assert (again.gather([0]).features["text"] == before).all()


def test_the_fingerprint_follows_the_content_and_not_the_place(columns: Columns, write: Write, tmp_path: Path) -> None:
    path = write(columns)
    first = open_dataset(path)
    copy = tmp_path / "copy"
    copy.mkdir()
    for table in TABLES:
        (copy / f"{table}.parquet").write_bytes((Path(path) / f"{table}.parquet").read_bytes())
    assert open_dataset(copy).fingerprint == first.fingerprint
    assert open_dataset(copy).folder == first.folder

    columns["judgements"]["label"][0] = 1.0
    changed = open_dataset(write(columns))
    assert changed.fingerprint != first.fingerprint
    assert changed.labels.max() == first.labels.max() == 3.0
    assert changed.gather([0]).labels[0, 0] == 1.0


@pytest.mark.parametrize("scheme", ["file://{}", "memory://{}"])
def test_uris_open_like_paths(scheme: str, columns: Columns, write: Write) -> None:
    path = write(columns)
    uri = scheme.format(path)
    if uri.startswith("memory"):
        memory = fsspec.filesystem("memory")
        for table in TABLES:
            memory.pipe_file(f"{path}/{table}.parquet", (Path(path) / f"{table}.parquet").read_bytes())
    data = open_dataset(uri)
    assert data.fingerprint == open_dataset(path).fingerprint
    assert data.counts["judgements"] == 9


def test_the_cache_folder_is_the_one_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_root(tmp_path / "given") == tmp_path / "given"
    assert cache_root() == tmp_path / "cache"
    monkeypatch.delenv("FUSION_SEARCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "fusion-search"
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be made .*Name a writable one"):
        cache_root(tmp_path / "file" / "below")


@pytest.mark.parametrize("lost", ["a", "items.parquet/0.parquet", "deep/er/b"])
def test_a_folder_that_lost_a_file_at_any_depth_is_built_again(lost: str, tmp_path: Path) -> None:
    def build(out: Path) -> None:
        for name in ("a", "items.parquet/0.parquet", "items.parquet/1.parquet", "deep/er/b"):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(name)

    folder = build_once(tmp_path / "built", build)
    (folder / lost).unlink()
    build_once(folder, build)
    assert (folder / lost).read_text() == lost
    (folder / lost).write_text("cut")
    build_once(folder, build)
    assert (folder / lost).read_text() == lost


def test_a_copy_of_a_signed_folder_is_whole_and_is_fetched_once(tmp_path: Path) -> None:
    """A machine that is sent the arrays gets the signature with them: it must not sign its old size."""
    first = build_once(tmp_path / "here" / "key", lambda out: (out / "a.npy").write_bytes(b"a" * 100) and None)
    fetched = []

    def fetch(out: Path) -> None:
        fetched.append(out)
        for path in first.iterdir():
            (out / path.name).write_bytes(path.read_bytes())

    for _ in range(2):
        copy = build_once(tmp_path / "there" / "key", fetch)
    assert len(fetched) == 1
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == {
        p.name: p.read_bytes() for p in first.iterdir()
    }
