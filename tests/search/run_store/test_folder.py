"""A run folder: which names it may have, and what may be deleted for a run that starts over."""

import contextlib
import errno
import os
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from report_folders import searched
from rich.console import Console

from fusion_models.data.tables import TABLES
from search import report
from search.audit.audit import run_audit
from search.audit.options import AuditOptions
from search.options import RunOptions
from search.pipeline.release.production import run_production
from search.run import main
from search.run_store.folder import REPORT_DUE, RunFolder, RunFolderError
from search.run_store.given_tables import keep_tables
from search.run_store.job import NoRoomError

SMALL = "planted?queries=160&candidates=8"


@pytest.mark.parametrize("name", ["", ".", "./", "..", "../other", "a/../..", "/tmp/elsewhere"])
def test_a_name_lies_below_the_results(name):
    with pytest.raises(ValueError, match="names no folder below --results"):
        RunOptions(phase="phase1", name=name)
    with pytest.raises(ValueError, match="names no folder below --results"):
        AuditOptions(name=name)


@pytest.mark.parametrize("name", ["shop", "team/shop", ".hidden", "a b"])
def test_a_name_may_be_a_path_below_them(name):
    assert RunOptions(phase="phase1", name=name).name == AuditOptions(name=name).name == name


def test_fresh_deletes_runs_alone(tmp_path):
    team = tmp_path / "team"
    (team / "phase3").mkdir(parents=True)
    (team / "phase3" / "run.json").write_text("{}")
    with pytest.raises(RunFolderError, match=r"holds no run.*phase3.*--fresh does not delete it"):
        RunFolder(team).prepare(resume=False, fresh=True)
    assert (team / "phase3" / "run.json").exists()
    RunFolder(team / "phase3").prepare(resume=False, fresh=True)
    assert list((team / "phase3").iterdir()) == []
    RunFolder(team / "phase3").prepare(resume=False, fresh=True)  # an empty folder is anybody's


@pytest.mark.parametrize("phase", ["phase1", "phase4", "roadmap"])
def test_results_that_cannot_hold_a_folder_are_one_line(tmp_path, monkeypatch, capsys, phase):
    (tmp_path / "results").write_text("a file")
    monkeypatch.setattr(sys, "argv", ["search.run", phase, "--data", SMALL, "--results", str(tmp_path / "results")])
    assert main() == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"error: cannot use {tmp_path / 'results'}" in said


def test_a_report_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, capsys):
    searched(tmp_path / "run")
    (tmp_path / "run" / "figures").write_text("a file")
    monkeypatch.setattr(sys, "argv", ["search.report", str(tmp_path / "run")])
    assert report.main() == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "error: cannot use" in said


@pytest.mark.parametrize("form", ["file://{}", "~/results"])
def test_every_phase_resolves_results_in_one_way(tmp_path, monkeypatch, console, form):
    """Phase 4 made a folder called `~`, or `file:`, where it was started."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results" / "phase4"
    folder.mkdir(parents=True)
    options = RunOptions(phase="phase4", results=form.format(tmp_path / "results"))
    said = {"phase": "phase4", "end": "now", "options": {"data": options.data}}
    RunFolder(folder).write(said)
    assert run_production(options, console).path == folder
    (tmp_path / "results" / "audit").mkdir()
    RunFolder(tmp_path / "results" / "audit").write({"phase": "audit", "end": "now"})
    with pytest.raises(RunFolderError, match="holds a finished run"):
        run_audit(AuditOptions(results=options.results), console)


def test_tables_from_python_too(tmp_path):
    (tmp_path / "results").write_text("a file")
    table = pd.DataFrame({"a": [1]})
    with pytest.raises(RunFolderError, match="cannot use"):
        keep_tables(str(tmp_path / "results"), dict.fromkeys(TABLES, table))


FILES = ("run.json", "study.journal", "finalist.json", "decision.json", "trials.csv", "checkpoints/t0000/weights")


@pytest.fixture
def whole(tmp_path):
    """A run folder with a file of each kind."""
    for name in FILES:
        (tmp_path / "phase3" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "phase3" / name).write_text("{}")
    return RunFolder(tmp_path / "phase3")


def test_a_fresh_start_that_was_killed_leaves_no_half_run(whole, tmp_path, monkeypatch):
    def killed(path, *_):
        (path / "run.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            whole.prepare(resume=False, fresh=True)
    assert not whole.path.exists()
    assert len(list(tmp_path.iterdir())) == 1
    assert whole.prepare(resume=False, fresh=True) == []
    assert list(tmp_path.iterdir()) == [whole.path]
    assert list(whole.path.iterdir()) == []


def test_files_that_cannot_be_deleted_are_said_and_in_nobody_s_way(whole, monkeypatch):
    def refused(path, *_):
        raise PermissionError(13, "Permission denied", str(path / "trials.csv"))

    monkeypatch.setattr(shutil, "rmtree", refused)
    (said,) = whole.prepare(resume=False, fresh=True)
    assert "trials.csv cannot be deleted (Permission denied): delete" in said
    assert list(whole.path.iterdir()) == []


@pytest.mark.parametrize("after", range(1, len(FILES)))
def test_a_folder_that_cannot_be_renamed_says_to_the_last_that_it_is_of_a_run(whole, monkeypatch, after):
    """Such as a mounted volume; killed while it was emptied, it can be deleted again."""

    def refused(*_):
        raise OSError(16, "Device or resource busy")

    unlink, left = Path.unlink, [after]

    def killed(path, *given, **more):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        unlink(path, *given, **more)

    monkeypatch.setattr(Path, "rename", refused)
    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(Path, "unlink", killed)
        whole.prepare(resume=False, fresh=True)
    whole.prepare(resume=False, fresh=True)
    assert list(whole.path.iterdir()) == []


def test_a_folder_behind_a_link_is_emptied(whole, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(whole.path)
    RunFolder(link).prepare(resume=False, fresh=True)
    assert list(whole.path.iterdir()) == []
    assert link.is_symlink()


@pytest.mark.parametrize("name", ["finalist.json", "decision.json"])
def test_a_new_run_does_not_begin_beside_what_is_left_of_another(tmp_path, name):
    folder = RunFolder(tmp_path / "phase3")
    folder.path.mkdir()
    (folder.path / name).write_text("{}")
    with pytest.raises(RunFolderError, match=rf"left of another run \({name}\): give --fresh"):
        folder.prepare(resume=False, fresh=False)
    folder.prepare(resume=False, fresh=True)
    folder.prepare(resume=False, fresh=False)


def test_a_report_that_is_written_is_not_due(tmp_path, monkeypatch):
    for drawn, out in (("sections", []), ("page", "a page")):
        monkeypatch.setattr(f"search.reporting.page.{drawn}", lambda *given, out=out: out)
    folder = RunFolder(searched(tmp_path / "run").path)
    folder.write(folder.read() | {REPORT_DUE: True})
    assert folder.report_due()
    report.report(report.ReportOptions(run=str(folder.path)), Console(quiet=True))
    assert not folder.report_due()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_no_mistake_in_what_was_asked(tmp_path, monkeypatch, code):
    def full(*given):
        raise OSError(code, os.strerror(code), str(tmp_path / "run.json"))

    monkeypatch.setattr("search.run_store.folder.write_whole", full)
    with pytest.raises(NoRoomError, match=r"run.json .*: free some room, then go on with --resume"):
        RunFolder(tmp_path).write({})


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_that_the_driver_meets_is_one_line(monkeypatch, capsys, code):
    def full(console):
        raise OSError(code, os.strerror(code), "study.journal")

    monkeypatch.setattr("search.run._run", full)
    monkeypatch.setattr(sys, "argv", ["search.run", "phase1"])
    if code == errno.EIO:
        with pytest.raises(OSError, match=r"study\.journal"):
            main()
    else:
        assert main() == 2
        assert "cannot write study.journal" in capsys.readouterr().err
