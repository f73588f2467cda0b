"""What the system says against a file, a connection or the output is one line of `search.report` that fits it."""

import pytest
from report_folders import decided

from search.report import main
from search.reporting.roadmap_page import write_roadmap_report
from search.run_store.folder import RunFolder, RunFolderError, json_text


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    """What a command that fails says of the run in `tmp_path / "phase3"`."""
    folder = decided(tmp_path / "phase3")

    def of(*more):
        monkeypatch.setattr("sys.argv", ["report", str(folder.path), *more])
        assert main() == 2
        return capsys.readouterr().err

    return folder, of


def damage(path):
    """Zero what stands behind the first four bytes, but for the footer: its pages no longer decompress."""
    raw = path.read_bytes()
    footer = int.from_bytes(raw[-8:-4], "little") + 8
    path.write_bytes(raw[:4] + b"\xff" * (len(raw) - footer - 4) + raw[-footer:])


@pytest.mark.parametrize("name", ["trials.parquet", "examples.parquet"])
def test_a_damaged_table_is_named(told, name):
    folder, of = told
    damage(folder.path / name)
    said = of("--explain", "t0001")
    assert f"{folder.path / name} cannot be read (" in said
    assert "put back a whole copy of the run" in said
    assert "output" not in said


def test_a_damaged_table_of_a_roadmap_s_phase_is_named(told, tmp_path):
    folder, _ = told
    damage(folder.path / "trials.parquet")
    roadmap = RunFolder(tmp_path)
    roadmap.write({"phase": "roadmap", "options": {"data": "shop"}, "start": "2026-01-01", "end": None})
    said = {"phase": "phase3", "title": "t", "verdict": "GO", "fragile": False, "finalist": None, "reasons": []}
    said |= {"decided_on": "test split", "look": ""}
    decision = {"verdict": "PAUSE_AND_FIX", "fragile": False, "reasons": [], "not_run": [], "facts": {}}
    decision |= {"phases": [said], "archive_rules": [], "gates": [], "warnings": []}
    (tmp_path / "decision.json").write_text(json_text(decision))
    with pytest.raises(RunFolderError, match=r"trials\.parquet cannot be read \("):
        write_roadmap_report(roadmap)


@pytest.mark.parametrize(
    ("where", "more"), [("search.report.explain", ["--explain", "t0001"]), ("search.report.write_report", [])]
)
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TimeoutError("no worker within 60 s"), "error: no worker within 60 s"),
        (OSError(), "error: OSError"),
        (PermissionError(13, "Permission denied", "x.csv"), "cannot use x.csv (Permission denied)"),
    ],
)
def test_an_error_of_the_system_says_what_it_is_about(told, monkeypatch, where, more, error, said):
    def failing(*_):
        raise error

    monkeypatch.setattr(where, failing)
    text = told[1](*more)
    assert said in text
    assert "output" not in text


def test_an_output_that_is_full_is_told_from_a_disk_that_is(told, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("search.report.explain", full)
    assert "error: the output cannot be written (No space left on device)" in told[1]("--explain", "t0001")
    monkeypatch.setattr("search.report.write_report", full)
    assert "error: [Errno 28] No space left on device" in told[1]()
