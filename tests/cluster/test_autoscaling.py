"""A run that wants more than the cluster has: it waits, says so, and uses nodes as they come.

The cluster is Ray's own AutoscalingCluster, inside a test host, since its start and end stop every Ray that they see.
"""

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from hosts import Hosts, missing_rights

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]
PATIENCE = 300.0
COMMAND = (
    f"python {Path(__file__).parent / 'autoscaling.py'} python -m search.run phase1 --address auto --data /root/data "
    "--results /root/results --max-concurrent 2 --trials 2 --epochs 30 --set train.patience=30 --set model.layers=1 "
    "--confirm-seeds 0 --scheduler none"
)


@pytest.fixture(scope="module")
def grown(tmp_path_factory, small_data):
    """(what the run said, its trials, the most trainings and raylets that were seen at once)."""
    why_not = missing_rights()
    if why_not:
        pytest.skip(f"NOT TESTED: a cluster that grows: {why_not}")
    with Hosts(["alone"], tmp_path_factory.mktemp("hosts") / "share") as hosts:
        root = hosts.root("alone") / "root"
        shutil.copytree(small_data.location, root / "data")
        run = subprocess.Popen(
            hosts.command("alone", f"unset RAY_AUTH_MODE; {COMMAND} > said.txt 2>&1"), stdin=subprocess.DEVNULL
        )
        most = {"ray::FusionTrial": 0, "/raylet ": 0}

        def ended():
            for word, before in most.items():
                most[word] = max(before, len(hosts.processes("alone", word)))
            return run.poll() is not None

        try:
            hosts.wait(ended, "the run on a cluster that grows", PATIENCE)
        finally:
            run.kill()
            said = (root / "said.txt").read_text()
        assert run.returncode == 0, said
        yield said, pd.read_csv(root / "results" / "phase1" / "trials.csv"), most


def test_it_waits_and_says_so_until_nodes_come(grown):
    said, *_ = grown
    lines = [line for line in said.splitlines() if "trainings · " in line]
    assert lines[0] == "0/5 trainings · 2 waiting for room: the cluster has room for 0 at once now"
    assert "the cluster has room for 2 at once now" in said


def test_it_uses_every_node_that_came(grown):
    _, trials, most = grown
    assert most["/raylet "] == 1 + 2
    assert most["ray::FusionTrial"] == 2
    assert set(trials["state"]) == {"finished"}
    assert len(trials) == 3 + 2
