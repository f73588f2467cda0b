"""A small roadmap, started as a user does, killed -9 in its second phase and resumed: what several tests read."""

import contextlib
import dataclasses
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from search.options import RunOptions
from search.pipeline.baselines import reference_seeds
from search.pipeline.roadmap import run_roadmap
from search.run_store.folder import RunFolderError
from spaces import PHASES

SMALL = "planted?queries=160&candidates=8&v1_noise=10"
"""V1 is weak, so that no small ranker of these is archived for gaining less."""
SET = ("model.layers=1", "model.width=16", "model.scale=feature", "model.text_tokens=1", "loss.unimodal=0.0")
"""A small ranker, and little that an ablation could take away."""
BASELINES = 3 * reference_seeds(PHASES["phase3"])
"""Trainings of rankers of one modality."""
PATIENCE = 1200.0
"""Seconds until a driver that hangs is a failure."""


def options(results, **changes):
    """Two trials a phase, of one epoch and one small layer, nothing confirmed: fifteen trainings in all."""
    asked = RunOptions(
        phase="roadmap",
        data=SMALL,
        trials=2,
        epochs=1,
        set=SET,
        scheduler="none",
        confirm_seeds=0,
        results=str(results),
    )
    return dataclasses.replace(asked, **changes)


def told(journal):
    """How many trainings have ended in a journal that a run is writing."""
    return journal.read_bytes().count(b'"outcome"') if journal.exists() else 0


def kill_driver(process):
    """kill -9 a driver, and whatever of its processes outlives it by 90 s."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    assert process.wait(PATIENCE) == -signal.SIGKILL
    psutil.wait_procs(family, timeout=90)
    for child in family:
        with contextlib.suppress(psutil.Error):  # it has ended since
            child.kill()


def kill_in_phase_two(asked, output):
    """Start the roadmap as a user does, and kill its driver when phase 2 has trained something of its own."""
    command = [sys.executable, "-m", "search.run", "roadmap", "--data", asked.data, "--trials", "2", "--epochs", "1"]
    command += [word for change in SET for word in ("--set", change)]
    command += ["--scheduler", "none", "--confirm-seeds", "0"]
    with output.open("w") as said:
        process = subprocess.Popen(
            [*command, "--results", asked.results], stdout=said, stderr=subprocess.STDOUT, start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    journal = Path(asked.results) / "roadmap" / "phase2" / "study.journal"
    deadline = time.monotonic() + PATIENCE
    while told(journal) < BASELINES + 3:  # baselines and two of phase 1's trials are taken over, the next is its own
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.01)
    kill_driver(process)


def killed_and_resumed(results):
    """The folder of a roadmap that was killed in phase 2 and resumed, and what it printed after."""
    asked = options(results)
    kill_in_phase_two(asked, results / "output.txt")
    with pytest.raises(RunFolderError, match=r"unfinished roadmap: add --resume .* or --fresh"):
        run_roadmap(asked, Console(file=io.StringIO()))
    with pytest.raises(RunFolderError, match="seed was 0 and is now 5"):
        run_roadmap(options(results, resume=True, seed=5), Console(file=io.StringIO()))
    before = {p: p.stat().st_mtime_ns for p in (results / "roadmap" / "phase1").rglob("*") if p.is_file()}
    console = Console(file=io.StringIO(), width=200)
    folder = run_roadmap(options(results, resume=True), console)
    assert {p: p.stat().st_mtime_ns for p in before} == before  # phase 1 was done, and is not touched again
    return folder.path, console.file.getvalue()
