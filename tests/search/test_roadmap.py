"""A whole small roadmap on real Ray, killed -9 in its second phase: it goes on, takes over what was trained, and no
search reads the half that decides."""

import os
import signal
import subprocess
import sys
import time

import psutil

from search.folder import RunFolder
from search.options import RunOptions

SMALL = "planted?queries=160&candidates=8"
PATIENCE = 300.0


def options(results):
    return RunOptions(
        phase="roadmap",
        data=SMALL,
        trials=2,
        epochs=1,
        set=("model.layers=1", "model.width=16"),
        scheduler="none",
        confirm_seeds=2,
        results=str(results),
    )


def command(asked):
    return [
        sys.executable, "-m", "search.run", "roadmap", "--data", asked.data, "--trials", "2", "--epochs", "1",
        "--set", asked.set[0], "--set", asked.set[1], "--scheduler", "none", "--confirm-seeds", "2",
        "--results", asked.results,
    ]  # fmt: skip


def kill_in_phase_two(asked, output):
    """Start the roadmap as a user would and kill its driver once phase 2 has told its first own training."""
    journal = RunFolder(RunFolder.__call__.__self__ if False else None) if False else None
    del journal
    with output.open("w") as said:
        process = subprocess.Popen(
            command(asked), stdout=said, stderr=subprocess.STDOUT, start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    path = f"{asked.results}/roadmap/phase2/study.journal"
    deadline = time.monotonic() + PATIENCE
    family = []
    while not (os.path.exists(path) and open(path).read().count('"outcome"') > 4):
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.01)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    assert process.wait(PATIENCE) == -signal.SIGKILL
    for child in family:
        if child.is_running():
            child.kill()
