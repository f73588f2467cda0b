"""The live progress in a real terminal (a pty of 80 columns), and in a file."""

import io
import os
import pty
import re

import pytest
from report_folders import record as trial
from rich.console import Console

from search.monitoring.progress import ProgressObserver
from search.run_store.job import Job, Outcome
from search.run_store.journal import open_journal
from search.study.search_stage import SearchStage
from spaces import PHASES

PHASE = PHASES["phase1"]
GOOD = {"ndcg_gain": 0.02, "visual_masking_drop": 0.06, "attention_max_share": 0.5, "v1_correlation": 0.9}


def redraw(console, progress):
    """What rich's own thread does some times a second."""
    if console.is_terminal:
        progress._status._live.refresh()


def drive(console, path):
    """A trial that finishes and one that fails with a reason full of brackets."""
    stage = SearchStage(open_journal(path / "j"), PHASE, sampler="random", trials=3, seed=0)
    with ProgressObserver(console, PHASE, 3) as progress:
        for state, numbers, reason in (
            ("failed", {}, "ValueError: [bold]shape[/] " + "x" * 90),
            ("finished", GOOD, ""),
        ):
            job = stage.ask()
            assert isinstance(job, Job)
            progress.on_epoch(stage, job, {"epochs": 1})
            redraw(console, progress)
            record = stage.tell(job, Outcome(state=state, reason=reason, epochs=1, numbers=numbers, seconds=1.0))
            progress.on_end(stage, record, {})
        redraw(console, progress)


@pytest.fixture
def screen(tmp_path):
    """What a terminal of 80 columns was sent."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as file:
        drive(Console(file=file, force_terminal=True, width=80), tmp_path)
        os.set_blocking(ours, False)
        sent = b""
        while True:
            try:
                sent += os.read(ours, 65536)
            except BlockingIOError:
                break
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent.decode())


def test_a_terminal_shows_trainings_time_left_front_and_gain_within_its_width(screen):
    lines = [line.rstrip("\r") for part in screen.split("\n") for line in part.split("\r") if line.strip()]
    assert max(len(line) for line in lines) <= 80
    assert any("0/3 trainings, time left unknown yet · t0000 epoch 1" in line for line in lines)
    assert any(
        re.search(r"2/3 trainings, \d+ s left · t0001 balanced: finished, gain \+0\.0200", line) for line in lines
    )
    assert any("front 0 · hypervolume 0.000 · best gain –" in line for line in lines)
    assert any(re.search(r"front 1 · hypervolume 0\.\d+ · best gain \+0\.0200", line) for line in lines)


def test_a_failure_is_printed_in_full_above_the_live_lines(screen):
    assert "ValueError: [bold]shape[/]" in screen
    assert re.sub(r"\s", "", screen).count("x" * 90) >= 1


def test_a_file_gets_a_line_a_training(tmp_path):
    console = Console(file=io.StringIO(), width=80)
    drive(console, tmp_path)
    first, second = console.file.getvalue().splitlines()
    assert first.startswith("1/3 trainings, ")
    assert "best gain – · t0000 base: failed, ValueError: [bold]shape[/] xxx" in first
    assert second.endswith("t0001 balanced: finished, gain +0.0200")


def test_trainings_that_wait_for_a_cluster_to_grow_are_counted(tmp_path):
    console = Console(file=io.StringIO(), width=80)
    stage = SearchStage(open_journal(tmp_path / "j"), PHASE, sampler="random", trials=3, seed=0)
    with ProgressObserver(console, PHASE, 3) as progress:
        progress.on_waiting(3, 0)
        progress.on_waiting(2, 0)  # what has not changed is not said again
        progress.on_waiting(2, 1)
        record = stage.tell(stage.ask(), Outcome(state="finished", reason="", epochs=1, numbers=GOOD, seconds=1.0))
        progress.on_end(stage, record, {})
        progress.on_waiting(0, 2)
    lines = console.file.getvalue().splitlines()
    assert lines[:2] == [
        "0/3 trainings · 3 waiting for room: the cluster has room for 0 at once now",
        "0/3 trainings · 2 waiting for room: the cluster has room for 1 at once now",
    ]
    assert lines[2].startswith("1/3 trainings, 2 waiting (room for 1), ")
    assert lines[3] == "1/3 trainings · the cluster has room for 2 at once now"


def test_the_time_left_names_the_stages_whose_it_is():
    """Other stages follow: "12/12 trainings, 0 s left" was followed by minutes."""
    console = Console(file=io.StringIO(), width=200)
    with ProgressObserver(console, PHASE, 2, of=["baselines", "confirm"]) as progress:
        progress.on_waiting(0, 1)
        progress.on_end(None, trial(1), {})
    assert "1/2 trainings (baselines, short list), " in console.file.getvalue()
