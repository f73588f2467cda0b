"""What the disk and the store refuse, in one line: what, where, what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fusion_models.data import DataError, open_dataset
from fusion_models.data.arrays import cache
from fusion_models.data.arrays.cache import build_once, cache_root
from fusion_models.data.tables import TABLES

Write = Callable[[Any], str]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, r"is full \(.* GB free\)\. Free some space, or name another one with `cache=`"),
        (errno.EDQUOT, r"is full .* Free some space"),
        (errno.EROFS, r"cannot be written \(Read-only file system\)\. Name a writable one with `cache=`"),
        (errno.EACCES, r"cannot be written \(Permission denied\)"),
    ],
)
def test_a_disk_that_refuses_is_named(number: int, said: str, tmp_path: Path) -> None:
    def build(_: Path) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(DataError, match=rf"^the cache folder {tmp_path}/arrays {said}"):
        build_once(tmp_path / "arrays" / "one", build)
    assert not any(path.is_dir() for path in (tmp_path / "arrays").iterdir())


def test_a_disk_that_is_really_full(full_disk: Any, columns: Any, write: Write) -> None:
    path = write(columns)
    full_disk.fill()
    with pytest.raises(DataError, match=r"the cache folder .* (is full|cannot be made)"):
        open_dataset(path, cache=full_disk.path / "cache")
    full_disk.empty()
    assert open_dataset(path, cache=full_disk.path / "cache").counts["items"] == 6


def test_a_file_where_the_cache_should_be(tmp_path: Path, columns: Any, write: Write) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(
        DataError, match=r"the cache folder .*taken cannot be made \(File exists\)\. Name a writable one"
    ):
        open_dataset(write(columns), cache=tmp_path / "taken")


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: type[Path]) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("FUSION_SEARCH_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", classmethod(nobody))
    with pytest.raises(DataError, match=r"no cache folder: Could not determine home directory\. Name a writable one"):
        cache_root()


def test_a_cache_that_one_may_only_read_serves_what_is_in_it(
    columns: Any, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(columns)
    open_dataset(path, cache=tmp_path / "shared")
    for note in (tmp_path / "shared" / "fingerprints").iterdir():
        note.unlink()

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "write_text", refuse)
    assert open_dataset(path, cache=tmp_path / "shared").counts["items"] == 6


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock; use SoftFileLock instead")

    monkeypatch.setattr(cache, "FileLock", refuse)
    with pytest.raises(DataError, match=r"the cache folder .*arrays knows no locks .*Name a writable one"):
        build_once(tmp_path / "arrays" / "one", lambda _: None)


STORE: dict[str, Exception] = {
    "denied": PermissionError("Forbidden"),
    "down": OSError("Could not connect to the endpoint URL: http://store/\nand more lines"),
    "slow": TimeoutError("timed out"),
    "no credentials": type("NoCredentialsError", (Exception,), {})("Unable to locate credentials"),
}


@pytest.mark.parametrize("stage", ["isfile", "info", "open"])
@pytest.mark.parametrize("why", STORE)
def test_a_store_that_fails_is_one_line(
    why: str, stage: str, columns: Any, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(columns)
    memory = fsspec.filesystem("memory")
    for table in TABLES:
        memory.pipe(f"/shop-{why}/{table}.parquet", (Path(path) / f"{table}.parquet").read_bytes())

    def fail(*_: Any, **__: Any) -> Any:
        raise STORE[why]

    monkeypatch.setattr(type(memory), stage, fail)
    with pytest.raises(DataError, match=r"cannot be (looked at|read)") as caught:
        open_dataset(f"memory://shop-{why}")
    assert "\n" not in str(caught.value)
    assert str(STORE[why]).split("\n", maxsplit=1)[0].rstrip(".") in str(caught.value)


def test_a_file_that_may_not_be_read(columns: Any, write: Write) -> None:
    path = write(columns)
    os.chmod(Path(path) / "queries.parquet", 0)
    if os.access(Path(path) / "queries.parquet", os.R_OK):
        pytest.skip("NOT TESTED: root reads every file")
    with pytest.raises(DataError, match=r"queries.parquet: cannot be read .*Permission"):
        open_dataset(path)
