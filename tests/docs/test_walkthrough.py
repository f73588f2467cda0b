"""The walk-through's code is run as it stands on its page, block after block."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "bring-your-own-ranker.md"


def blocks():
    return re.findall(r"^```(python|bash)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.timeout(900)
def test_every_block_runs_and_ends_in_a_verdict(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    package = os.pathsep.join([str(PAGE.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PATH": path, "PYTHONPATH": package, "OMP_NUM_THREADS": "1"}
    names = {}
    said = ""
    for language, code in blocks():
        if language == "python":
            exec(compile(code, PAGE.name, "exec"), names)
        else:
            done = subprocess.run(
                ["bash", "-euc", code], env=environment, capture_output=True, text=True, timeout=800, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
            said += done.stdout
    assert names["decision"]["verdict"] == "PAUSE_AND_FIX"
    assert len(names["front"]) >= 1
    assert names["scored"].ndcg().mean() > 0.3
    assert "V1" in said
