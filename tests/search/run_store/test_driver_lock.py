"""One process at a time writes a run folder."""

import contextlib
import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from search import report
from search.audit.audit import run_audit
from search.audit.options import AuditOptions
from search.options import RunOptions
from search.pipeline.phase import run_phase
from search.pipeline.release.production import run_production
from search.pipeline.roadmap import run_roadmap
from search.run_store.driver_lock import driven, driving
from search.run_store.folder import RunFolderError
from search.run_store.job import NoRoomError

HOLD = """
import fcntl, os, sys
with open(sys.argv[1], "a") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    file.write(f"process {os.getpid()} on this machine")
    file.flush()
    print("held", flush=True)
    sys.stdin.read()
"""
"""What `driving` does, without the seconds that its imports take."""


@pytest.fixture
def held():
    """Has a process of its own drive a folder, until the test ends or it is killed."""
    there = []

    def hold(folder):
        command = [sys.executable, "-S", "-c", HOLD, str(folder.with_name(f".{folder.name}.driven"))]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        there.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in there:
        process.kill()
        process.communicate()


def ask(console, results, command):
    options = {"results": str(results), "name": "shop"}
    if command == "ablate":
        report.report(report.ReportOptions(run=str(results / "shop"), ablate="t0000"), console)
    elif command == "audit":
        run_audit(AuditOptions(scores="none.parquet", **options), console)
    elif command == "roadmap":
        run_roadmap(RunOptions(phase="roadmap", **options), console)
    elif command == "phase4":
        run_production(RunOptions(phase="phase4", **options), console)
    else:
        run_phase(RunOptions(phase="phase3", **options, **WAYS[command]), console)


WAYS = {
    "plain": {},
    "resume": {"resume": True},
    "fresh": {"fresh": True},
    "settle": {"settle": True},
    "extend": {"extend": True, "trials": 48},
}


@pytest.mark.parametrize("command", [*WAYS, "ablate", "audit", "roadmap", "phase4"])
def test_every_command_that_writes_a_run_is_refused_while_another_process_does(tmp_path, console, held, command):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "study.journal").write_text("a line")
    (tmp_path / "shop" / "study.journal.lock").write_text("")
    process = held(tmp_path / "shop")
    with pytest.raises(RunFolderError, match=rf"is being run now by process {process.pid} on .*another --name"):
        ask(console, tmp_path, command)
    assert {p.name for p in (tmp_path / "shop").iterdir()} == {"study.journal", "study.journal.lock"}


def test_phase_4_reads_no_phase_3_that_is_being_written(tmp_path, console, held):
    held(tmp_path / "phase3")
    with pytest.raises(RunFolderError, match="phase3 is being run now"):
        run_production(RunOptions(phase="phase4", results=str(tmp_path)), console)


@pytest.mark.parametrize(("mine", "theirs"), [("roadmap", "roadmap/phase3"), ("roadmap/phase3", "roadmap")])
def test_a_roadmap_and_a_phase_in_it_keep_each_other_out(tmp_path, held, mine, theirs):
    (tmp_path / "roadmap" / "phase3").mkdir(parents=True)
    held(tmp_path / theirs)
    with pytest.raises(RunFolderError, match="is being run now"), driving(tmp_path / mine):
        pass


def test_a_process_that_was_killed_keeps_nobody_out(tmp_path, held):
    process = held(tmp_path / "shop")
    assert driven(tmp_path / "shop")
    process.kill()
    process.wait()
    with driving(tmp_path / "shop"), driving(tmp_path / "shop" / "phase3"), driving(tmp_path / "shop"):
        assert driven(tmp_path / "shop")
    assert not driven(tmp_path / "shop")
    assert list(tmp_path.iterdir()) == []


def test_another_thread_is_another_driver(tmp_path):
    said = []

    def other():
        try:
            with driving(tmp_path / "shop"):
                said.append("drives")
        except RunFolderError as error:
            said.append(str(error))

    with driving(tmp_path / "shop"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert "is being run now" in said[0]


def test_what_is_refused_leaves_no_folder(tmp_path, console):
    with pytest.raises(RunFolderError, match="no finished run"):
        run_phase(RunOptions(phase="phase1", results=str(tmp_path / "results"), settle=True), console)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_another_driver_deletes_as_it_ends_is_made_anew(tmp_path, monkeypatch):
    place, deleted = tmp_path / "results" / "shop", []
    opened = Path.open

    def open_after_deletion(path, *given):
        if not deleted:
            deleted.append(path.parent)
            path.parent.rmdir()
        return opened(path, *given)

    monkeypatch.setattr(Path, "open", open_after_deletion)
    with driving(place):
        assert driven(place)
    assert deleted == [place.parent]


@pytest.mark.parametrize(
    ("code", "kept_out"),
    [(errno.ENOLCK, None), (errno.EACCES, None), (errno.ENOSPC, NoRoomError), (errno.EIO, RunFolderError)],
)
def test_nobody_is_kept_out_where_there_are_no_locks_and_any_other_error_is_said(tmp_path, monkeypatch, code, kept_out):
    def refused(file, how):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("search.run_store.driver_lock.fcntl.flock", refused)
    refusal = pytest.raises(kept_out, match=os.strerror(code)) if kept_out else contextlib.nullcontext()
    with refusal, driving(tmp_path / "shop"):
        pass
