"""A run that wants more than the cluster has: it waits, says so, uses nodes as they come, and outlives one that goes.

The cluster is Ray's own AutoscalingCluster, inside a test host, since its start and end stop every Ray that they see.
"""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from hosts import Hosts, missing_rights

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]
PATIENCE = 300.0
EPOCHS = 30
TRAINING, RAYLET = "ray::ResourceTrainable", "/raylet "
"""Words in the command lines of a training's process and of a node's."""
COMMAND = (
    f"python {Path(__file__).parent / 'autoscaling.py'} python -m search.run phase1 --address auto --data /root/data "
    f"--results /root/results --max-concurrent 2 --trials 2 --epochs {EPOCHS} --set train.patience={EPOCHS} "
    "--set model.layers=1 "
    "--confirm-seeds 0 --scheduler none"
)


@pytest.fixture(scope="module")
def grown(tmp_path_factory, small_data):
    """(what the run said, its trials, the most trainings and raylets that were seen at once).

    Once two trainings go on side by side, the raylet of one of them is killed -9.
    """
    why_not = missing_rights()
    if why_not:
        pytest.skip(f"NOT TESTED: a cluster that grows: {why_not}")
    with Hosts(["alone"], tmp_path_factory.mktemp("hosts") / "share") as hosts:
        root = hosts.root("alone") / "root"
        shutil.copytree(small_data.location, root / "data")
        hosts.run("alone", "ray get-auth-token --generate", timeout=PATIENCE)
        run = subprocess.Popen(hosts.command("alone", f"{COMMAND} > said.txt 2>&1"), stdin=subprocess.DEVNULL)
        most = dict.fromkeys((TRAINING, RAYLET), 0)
        lost = []

        def ended():
            for word, before in most.items():
                most[word] = max(before, len(hosts.processes("alone", word)))
            found = (root / "results" / "phase1" / "checkpoints").glob("*/training/progress.json")
            under_way = [path for path in found if json.loads(path.read_text())["epoch"] >= 2]
            if not lost and len(under_way) == 2:
                lost.append(parent(hosts.processes("alone", TRAINING)[0]))
                os.kill(lost[0], signal.SIGKILL)
            return run.poll() is not None

        try:
            hosts.wait(ended, "the run on a cluster that grows", PATIENCE)
        finally:
            run.kill()
            said = (root / "said.txt").read_text()
        assert run.returncode == 0, said
        assert lost, said
        yield said, pd.read_csv(root / "results" / "phase1" / "trials.csv"), most


def parent(process):
    """The process id of a process's parent: of a worker, its raylet."""
    (line,) = [x for x in Path(f"/proc/{process}/status").read_text().splitlines() if x.startswith("PPid:")]
    found = int(line.split()[1])
    assert RAYLET in Path(f"/proc/{found}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def test_it_waits_and_says_so_until_nodes_come(grown):
    said, *_ = grown
    lines = [line for line in said.splitlines() if "at once now" in line]
    assert lines[0] == "0/5 trainings · 2 waiting for room: the cluster has room for 0 at once now"
    assert any("the cluster has room for 2 at once now" in line for line in lines)


def test_it_uses_every_node_that_came(grown):
    _, trials, most = grown
    assert most[RAYLET] >= 1 + 2
    assert most[TRAINING] == 2
    assert set(trials["state"]) == {"finished"}
    assert len(trials) == 3 + 2


def test_the_training_on_the_node_that_went_is_preempted_and_no_other(grown):
    _, trials, _ = grown
    assert trials["preemptions"].dropna().to_list() == [1.0]
    assert set(trials["epochs"]) == {EPOCHS}
