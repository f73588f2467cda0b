"""A run that wants more than the cluster has: it waits and says so, uses nodes as they come, and lets them go."""

import json
import re
import shutil
import subprocess
import time

import pandas as pd
import pytest
from hosts import Hosts, missing_rights
from test_cluster_files import ROOT

from fusion_models.modalities import MODALITIES

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]
PATIENCE = 400.0
TRIALS = 7
"""With the single-modality rankers as many trainings as last until a second node has come, which takes some 15 s."""
COMMAND = (
    "python -m search.run phase3 --address auto --data /root/data --results /root/results --max-concurrent 2 "
    f"--trials {TRIALS} --epochs 60 --set train.patience=60 --set model.layers=1 --confirm-seeds 0 --scheduler none"
)


@pytest.fixture(scope="module")
def host(tmp_path_factory, small_data):
    """A host on which Ray has a head without a processor for trainings, and may add two nodes."""
    why_not = missing_rights()
    if why_not:
        pytest.skip(f"NOT TESTED: a growing cluster: {why_not}")
    with Hosts(["alone"], tmp_path_factory.mktemp("hosts") / "share") as hosts:
        root = hosts.root("alone") / "root"
        shutil.copytree(small_data.location, root / "data")
        hosts.run("alone", "ray get-auth-token --generate", timeout=PATIENCE)
        keeper = subprocess.Popen(
            hosts.command("alone", f"python {ROOT}/tests/cluster/growing_cluster.py > cluster.txt 2>&1"),
            stdin=subprocess.PIPE,
        )
        up = root / "cluster.txt"
        hosts.wait(lambda: ": up" in up.read_text() if up.exists() else False, "Ray to start", PATIENCE)
        yield hosts
        keeper.communicate(timeout=PATIENCE)


def nodes(host):
    """How many raylets there are beside the head's."""
    return len(host.processes("alone", "/raylet ")) - 1


@pytest.fixture(scope="module")
def story(host):
    """What the run printed, and how many nodes there were at the most while it ran."""
    assert nodes(host) == 0
    output, most = host.root("alone") / "root" / "said.txt", 0
    run = subprocess.Popen(host.command("alone", f"{COMMAND} > said.txt 2>&1"), stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE
    while run.poll() is None:
        assert time.monotonic() < deadline, output.read_text()
        most = max(most, nodes(host))
        time.sleep(0.5)
    assert run.returncode == 0, output.read_text()
    return output.read_text(), most


def test_the_run_waits_and_says_so_until_two_train_at_once(story):
    said, most = story
    rooms = [int(room) for room in re.findall(r"the cluster has room for (\d) at once now", said)]
    assert re.search(r"2 waiting for room: the cluster has room for 0 at once now", said), said
    assert rooms[0] == 0
    assert max(rooms) == most == 2, said  # an idle node may have left, and come again, since


def test_its_results_are_complete(story, host):
    folder = host.root("alone") / "root" / "results" / "phase3"
    trials = pd.read_csv(folder / "trials.csv")
    searched = ~trials["trial_id"].str.startswith("alone-")
    assert searched.sum() == TRIALS
    assert set(trials[~searched]["trial_id"].str.split("-").str[1]) == set(MODALITIES)
    assert set(trials["state"]) == {"finished"}
    assert json.loads((folder / "decision.json").read_text())["verdict"]


def test_idle_nodes_leave(story, host):
    host.wait(lambda: nodes(host) == 0, "the nodes to leave", PATIENCE)
