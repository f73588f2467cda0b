"""Long work is shown while it goes on, wherever the output goes, and says nothing on a quiet console."""

import io
import json
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from fusion_models.data import open_dataset
from fusion_models.data.tables.parts import BATCH_ROWS, Part, TableReader
from fusion_models.terminal import ERRORS
from fusion_models.work import bar as work_bar
from fusion_models.work import heard_by, tell, told
from fusion_models.work.bar import shown_work
from fusion_models.work.foreign import first_line


def test_work_is_told_to_whoever_listens_and_to_nobody_else():
    heard = []
    tell("before", 1, 2)
    with heard_by(lambda *said: heard.append(said)):
        assert list(told("exports", ["a", "b"])) == ["a", "b"]
    tell("after", 1, 2)
    assert heard == [("exports", 0, 2), ("exports", 1, 2), ("exports", 2, 2)]


def test_a_table_tells_its_rows_from_the_first_on(tmp_path):
    import fsspec

    rows = 3 * BATCH_ROWS + 5
    pq.write_table(pa.table({"a": list(range(rows)), "b": list(range(rows))}), tmp_path / "t.parquet")
    reader = TableReader(fsspec.filesystem("file"), [Part(str(tmp_path / "t.parquet"), "t.parquet")], "t.parquet")
    heard = []
    with heard_by(lambda *said: heard.append(said)):
        for _ in reader.stream(["a", "b"]):
            pass
    assert heard[0] == ("t.parquet: a, b", 0, rows)
    assert heard[-1] == ("t.parquet: a, b", rows, rows)
    assert [done for _, done, _ in heard] == sorted(done for _, done, _ in heard)


def test_opening_a_dataset_is_told(tmp_path):
    heard = []
    with heard_by(lambda *said: heard.append(said)):
        open_dataset("planted?queries=161&candidates=8", cache=tmp_path)
    said = {what for what, _, _ in heard}
    assert any(what.startswith("items.parquet: fingerprint") for what in said)
    assert any(what.startswith("items.parquet: visual") for what in said)


def drive(console, monkeypatch, steps=6, pause=0.0):
    monkeypatch.setattr(work_bar, "AFTER", 0.0)
    with shown_work(console):
        for done in range(steps):
            tell("items.parquet: [bold]visual[/]", done, steps)
            time.sleep(pause)
        tell("items.parquet: [bold]visual[/]", steps, steps)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("width", [80, 140])
def test_a_terminal_has_a_bar_with_the_time_left(monkeypatch, width, encoding):
    written = io.BytesIO()
    file = io.TextIOWrapper(written, encoding=encoding, errors=ERRORS, newline="\n")
    console = Console(file=file, width=width, force_terminal=True, color_system=None)
    drive(console, monkeypatch, pause=0.15)
    file.flush()
    text = written.getvalue().decode(encoding)
    assert "items.parquet: [bold]visual[/]" in text
    assert "left" in text
    assert " %" in text
    assert all(len(line.split("\r")[-1]) <= width + 12 for line in text.splitlines())  # control codes apart


def test_the_bar_s_name_is_not_obeyed(monkeypatch):
    monkeypatch.setattr(work_bar, "AFTER", 0.0)
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with shown_work(console):
        for done in range(4):
            tell("\x1b[2J\x07items.parquet", done, 4)
            time.sleep(0.15)
    assert r"\x1b[2J\x07items.parquet" in console.file.getvalue()
    assert "\x1b[2J" not in console.file.getvalue()


def test_a_log_has_a_line_now_and_then(monkeypatch):
    monkeypatch.setattr(work_bar, "EVERY", 0.0)
    console = Console(file=io.StringIO(), width=20)
    drive(console, monkeypatch, pause=0.01)
    lines = console.file.getvalue().splitlines()
    assert lines[0].startswith("items.parquet: [bold]visual[/]: 17 %, about ")
    assert all(line.endswith(" s left") for line in lines)


def test_a_quiet_console_and_another_display_are_left_alone(monkeypatch):
    quiet = Console(file=io.StringIO(), quiet=True, force_terminal=True)
    drive(quiet, monkeypatch)
    assert quiet.file.getvalue() == ""
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with console.status("trainings"):
        drive(console, monkeypatch)


def test_a_run_that_a_script_asks_for_prints_one_object(tmp_path, monkeypatch, capsys):
    from report_folders import decided

    from search.api import read
    from search.reporting.terminal import print_json

    folder = decided(tmp_path / "phase3")
    print_json(read(folder.path).as_json())
    said = json.loads(capsys.readouterr().out)
    assert said["verdict"] == said["decision"]["verdict"] == "PAUSE_AND_FIX"
    assert said["phase"] == "phase3"
    assert said["finished"]
    from search.run import main

    monkeypatch.setattr("sys.argv", ["run", "phase3", "--data", str(tmp_path / "nowhere"), "--json", "--name", "x"])
    assert main() == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "nowhere" in captured.err


class _Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("\n\n  first \nsecond\nthird"), "first second"),
        (ValueError(""), "ValueError"),
        (ValueError(" \n\n"), "ValueError"),
        (_Mute(), "_Mute"),
        (ValueError("\x1b[31mred\x1b[0m"), "red"),
        (ValueError("x" * 1_000), "x" * 300),
    ],
)
def test_what_a_foreign_error_says_is_one_line_whatever_it_says(error: Exception, said: str) -> None:
    assert first_line(error) == said
