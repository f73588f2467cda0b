"""Runs the measuring of a model in a process of its own, so that one that hangs or dies costs itself alone."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from search.audit.model.files import ModelError, require_known
from search.audit.model.input_map import InputMap

Arrays = dict[str, npt.NDArray[Any]]
CODE = "from search.audit.model.measure import main; main()"
OPENING = 10.0
"""Times the limit of an answer that opening the model may take."""
GLANCE = 0.5
"""Seconds after which a silent process is looked at: one that it has forked may hold its pipe open."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
"""Of the libraries that a callable may use; onnxruntime and torch are told when they are opened."""


def measured_model(
    model: str, inputs: InputMap, data: str, *, seed: int, limit: float, say: Callable[[str], None]
) -> Arrays:
    """What `measure` found of the model on the dataset `data`. `limit`: seconds that one answer may take.

    Raises ModelError, in one line: what the model's process said, that it hung, or how it died, and while doing what.
    """
    require_known(model)
    with tempfile.TemporaryDirectory(prefix="fusion-audit-") as place:
        into, errors = Path(place) / "measured.npz", Path(place) / "stderr"
        job = {"model": model, "inputs": inputs.plain(), "data": data, "seed": seed, "into": str(into)}
        reading, writing = os.pipe()
        try:
            with errors.open("wb") as stderr:
                process = subprocess.Popen(
                    [sys.executable, "-c", CODE, str(writing)],
                    stdin=subprocess.PIPE,
                    stdout=stderr,
                    stderr=stderr,
                    pass_fds=(writing,),
                    env=os.environ | ONE_THREAD | {"PYTHONPATH": os.pathsep.join(_search_path())},
                    start_new_session=True,
                )
            os.close(writing)
            writing = -1
            try:
                _hand_over(process, job)
                _wait(process, reading, model, limit, say, errors)
            finally:
                _end(process)
        finally:
            os.close(reading)
            if writing >= 0:
                os.close(writing)
        with np.load(into, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}


def _search_path() -> list[str]:
    """Where this process finds its modules, this project's own first: what it can import, the model's process can."""
    own = str(Path(__file__).resolve().parents[3])
    return [own, *(entry for entry in sys.path if entry and entry != own)]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill it with all that it has started, which its session holds together."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _hand_over(process: subprocess.Popen[bytes], job: dict[str, Any]) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(job).encode())
        process.stdin.close()
    except BrokenPipeError:
        pass  # it died at once: waiting says how


def _wait(
    process: subprocess.Popen[bytes],
    reading: int,
    model: str,
    limit: float,
    say: Callable[[str], None],
    errors: Path,
) -> None:
    """Read what the process says until it is done."""
    doing, buffer = "starting", b""
    while True:
        patience = limit * OPENING if doing in ("starting", "opening the model") else limit
        if not _speaks(process, reading, patience):
            raise ModelError(
                f"--model {model} gave no answer in {patience:g} s while {doing}: it hangs, or --answer-limit is too "
                "short"
            )
        part = os.read(reading, 1 << 16) if _has_said(reading) else b""
        if not part:
            process.wait()
            raise ModelError(f"--model {model} died while {doing}: {_death(process.returncode, errors)}")
        buffer += part
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "error" in said:
                raise ModelError(said["error"])
            if said.get("done"):
                return
            if said["doing"].split(",")[0] != doing.split(",")[0]:
                say(said["doing"].split(",")[0])
            doing = said["doing"]


def _speaks(process: subprocess.Popen[bytes], reading: int, patience: float) -> bool:
    """Wait until the process has said something, or has ended; False where it does neither for so many seconds."""
    until = time.monotonic() + patience
    while (left := until - time.monotonic()) > 0:
        if _has_said(reading, min(left, GLANCE)) or process.poll() is not None:
            return True
    return False


def _has_said(reading: int, seconds: float = 0.0) -> bool:
    return bool(select.select([reading], [], [], seconds)[0])


def _death(status: int, errors: Path) -> str:
    """How a process ended that said nothing, and the last line that it wrote."""
    how = f"its process ended with status {status}"
    if status < 0:
        known = {s.value for s in signal.Signals}
        name = signal.Signals(-status).name if -status in known else str(-status)
        how = f"its process was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    lines = errors.read_text(errors="replace").strip().splitlines()
    return f"{how}; its last line: {lines[-1][:200]}" if lines else how
