"""What is written whole is seen whole: by readers that look all the time, after errors, and on a full disk."""

import os
import threading

import pytest

from fusion_models.files import link_or_copy, whole, whole_folder, write_whole


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "file"
    write_whole(path, "a" * 100_000)
    seen, done = set(), threading.Event()

    def read():
        while not done.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for letter in "bcdefgh" * 20:
        write_whole(path, letter * 100_000)
    done.set()
    reader.join()
    assert {len(set(text)) for text in seen} == {1}
    assert {len(text) for text in seen} == {100_000}
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_text_is_utf8_and_bytes_are_bytes(tmp_path):
    write_whole(tmp_path / "text", "größer → 1\n")
    write_whole(tmp_path / "bytes", b"\x00\xff\r\n")
    assert (tmp_path / "text").read_bytes() == "größer → 1\n".encode()
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff\r\n"


def breaks_off(writing, begin):
    """Begin to write, and fail."""
    with writing as staging:
        begin(staging)
        raise OSError("broken")


def test_an_error_leaves_what_was_there_and_nothing_beside_it(tmp_path):
    write_whole(tmp_path / "file", "old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").touch()
    with pytest.raises(OSError, match="broken"):
        breaks_off(whole(tmp_path / "file"), lambda staging: staging.write_text("half"))
    with pytest.raises(OSError, match="broken"):
        breaks_off(whole_folder(tmp_path / "folder"), lambda staging: (staging / "half").touch())
    assert (tmp_path / "file").read_text() == "old"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder", "old"]


def test_a_full_disk_leaves_what_was_there(full_disk):
    write_whole(full_disk.path / "file", "old")
    full_disk.fill()
    with pytest.raises(OSError, match="No space left"):
        write_whole(full_disk.path / "file", "x" * 100_000)
    assert (full_disk.path / "file").read_text() == "old"
    assert sorted(p.name for p in full_disk.path.iterdir()) == ["file", "filler"]


def test_a_folder_is_replaced_and_may_be_kept_as_the_one_before(tmp_path):
    folder, previous = tmp_path / "folder", tmp_path / ".folder.previous"
    for name in ("first", "second", "third"):
        with whole_folder(folder, previous=previous) as staging:
            (staging / name).touch()
    assert ([p.name for p in folder.iterdir()], [p.name for p in previous.iterdir()]) == (["third"], ["second"])
    with whole_folder(folder) as staging:
        (staging / "fourth").touch()
    assert [p.name for p in folder.iterdir()] == ["fourth"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".folder.previous", "folder"]


def test_a_file_is_linked_or_copied_where_that_cannot_be(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.write_text("content")
    link_or_copy(source, tmp_path / "deep" / "linked")
    assert (tmp_path / "deep" / "linked").samefile(source)

    def refused(*_):
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", refused)
    link_or_copy(source, tmp_path / "copied")
    assert (tmp_path / "copied").read_text() == "content"
    assert not (tmp_path / "copied").samefile(source)
    (tmp_path / "copied").write_text("another")
    link_or_copy(source, tmp_path / "copied")  # what is there stands
    link_or_copy(tmp_path / "nothing", tmp_path / "nowhere")
    assert (tmp_path / "copied").read_text() == "another"
    assert not (tmp_path / "nowhere").exists()
