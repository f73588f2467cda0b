"""A phase on a real cluster: hosts brought up by `ray up`, trainings of two workers on two of them, one host lost.

The hosts share no file system, and the dataset lies on the head alone, as does somebody's own module, which a second
phase searches. See hosts.py for what a host is.
"""

import contextlib
import json
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from hosts import Hosts, missing_rights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_cluster_files import ROOT

from fusion_models.config import Recipe
from fusion_models.training import start, train
from search.pipeline.baselines import reference_seeds
from search.run_store.journal import open_journal
from search.run_store.records import journal_records
from spaces import PHASES

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]
WORKERS = ("one", "two", "three")
EPOCHS = 12
"""So that a host can be lost before the training that it is at has ended."""
PATIENCE = 400.0
"""Seconds for a step that takes some ten on a machine that nobody else loads."""
COMMAND = (
    "python -m search.run phase3 --address auto --data /root/data --results /root/results --workers-per-trial 2 "
    "--max-concurrent 1 "
    f"--trials 2 --epochs {EPOCHS} --set train.patience={EPOCHS} --set model.layers=1 --set model.dropout=0 "
    "--confirm-seeds 0 --scheduler none > said.txt 2>&1"
)

OWN = "two_towers:TwoTowers"
OWN_COMMAND = (
    f"cd /root/team && python -m search.run phase3 --address auto --model {OWN} --data /root/data "
    "--results /root/results --name own --workers-per-trial 2 --max-concurrent 1 --trials 1 --epochs 1 "
    "--confirm-seeds 0 --scheduler none"
)


@dataclass
class Story:
    """What happened, for the tests to look at."""

    hosts: Hosts
    spread: set[str]
    """Hosts on which the first training's workers were."""
    lost: str
    """Of those, the one whose raylet was killed: rank 0 was on it."""
    victim: str
    """The trial that was trained there."""
    after: set[str]
    """Hosts on which its workers were then."""
    folder: Path
    said: str


def cluster_file(hosts):
    """cluster.onprem.yaml with what it asks to be changed; a host has room for one worker, so that two need two."""
    config = yaml.safe_load((ROOT / "cluster.onprem.yaml").read_text())
    config["provider"] |= {"head_ip": hosts.address("head"), "worker_ips": [hosts.address(name) for name in WORKERS]}
    config["auth"]["ssh_user"] = "root"
    for kind, more in (("head", ""), ("worker", " --num-cpus=1")):
        config[f"{kind}_start_ray_commands"][-1] += f"{more} --object-store-memory=200000000"
    return config


def training_on(hosts):
    """Hosts on which workers of a group are."""
    return {name for name in WORKERS if hosts.processes(name, "RayTrainWorker")}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, small_data):
    """A head and three workers without a common file system, and a desk from which `ray up` brings them up."""
    why_not = missing_rights()
    if why_not:
        pytest.skip(f"NOT TESTED: a cluster of hosts: {why_not}")
    with Hosts(["head", *WORKERS, "desk"], tmp_path_factory.mktemp("hosts") / "share") as hosts:
        (hosts.root("desk") / "root" / "cluster.yaml").write_text(yaml.safe_dump(cluster_file(hosts)))
        shutil.copytree(small_data.location, hosts.root("head") / "root" / "data")
        print(f"{time.monotonic():.0f} s: the hosts are up")
        hosts.run("desk", "ray get-auth-token --generate", timeout=PATIENCE)
        hosts.run("desk", "ray up -y cluster.yaml", timeout=PATIENCE)
        print(f"{time.monotonic():.0f} s: the head is up")
        yield hosts


@pytest.fixture(scope="module")
def story(cluster, tmp_path_factory):
    """A phase submitted from the desk; a host that trains is lost after an epoch or two."""
    run = subprocess.Popen(
        cluster.command("desk", f"ray exec cluster.yaml '{COMMAND}'"),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    output = cluster.root("head") / "root" / "said.txt"
    results = cluster.root("head") / "root" / "results" / "phase3"

    def wait(reached, what):
        def reached_or_ended():
            assert run.poll() is None, output.read_text()
            return reached()

        try:
            cluster.wait(reached_or_ended, what, PATIENCE)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{output.read_text()}") from error

    trained = []

    def under_way():
        for path in results.glob("checkpoints/*/training/progress.json"):
            with contextlib.suppress(OSError, ValueError):  # a checkpoint is replaced, or its training has ended
                if json.loads(path.read_text())["epoch"] >= 1:
                    trained.append(path.parts[-3])
        return trained

    try:
        wait(under_way, "a checkpoint of a training elsewhere")
        victim = trained[-1]
        spread = training_on(cluster)
        print(f"{time.monotonic():.0f} s: {victim} trains on {spread}")
        (lost,) = [name for name in spread if list((cluster.root(name) / "tmp").glob("fusion-search-*/*/training"))]
        cluster.kill(lost, "/raylet ")
        wait(lambda: len(training_on(cluster) - {lost}) == 2, "new workers elsewhere")
        after = training_on(cluster)
        print(f"{time.monotonic():.0f} s: {lost} was lost, and {after} go on")
        assert run.wait(PATIENCE) == 0, output.read_text()
    finally:
        run.kill()
    print(f"{time.monotonic():.0f} s: the run has ended")
    folder = tmp_path_factory.mktemp("results") / "phase3"
    shutil.copytree(results, folder)
    return Story(cluster, spread, lost, victim, after, folder, output.read_text())


@pytest.fixture(scope="module")
def trials(story):
    return pd.read_csv(story.folder / "trials.csv").set_index("trial_id")


def test_a_training_of_two_workers_was_spread_over_two_hosts_and_went_on_with_the_third(story):
    assert len(story.spread) == 2
    assert story.lost in story.spread
    assert story.after == set(WORKERS) - {story.lost}


def test_the_results_are_complete(story, trials):
    assert json.loads((story.folder / "decision.json").read_text())["verdict"] == "PAUSE_AND_FIX"
    assert len(trials) == 3 * reference_seeds(PHASES["phase3"]) + 2
    assert set(trials["state"]) == {"finished"}
    assert set(trials["epochs"]) == {EPOCHS}
    for place in pd.read_csv(story.folder / "pareto.csv")["checkpoint"]:
        assert (story.folder / place / "weights.safetensors").is_file()
    assert (story.folder / "report.html").is_file()
    assert re.search("PAUSE.AND.FIX", story.said)


def test_the_lost_host_counts_as_a_preemption_of_its_trial_alone(story, trials):
    assert trials["preemptions"].dropna().to_dict() == {story.victim: 1.0}
    assert trials["state_reason"].isna().all()


def test_the_trial_went_on_from_its_checkpoint(story):
    events = EventAccumulator(str(story.folder / "tensorboard" / story.victim))
    events.Reload()
    steps = [event.step for event in events.Scalars("loss/total")]
    assert len(set(steps)) >= EPOCHS - 1  # an epoch may be in the checkpoint of a worker that died before it said so
    assert len(steps) <= len(set(steps)) + 1  # none was trained twice; a trial's end is written once more


def test_it_came_to_the_numbers_of_an_undisturbed_training(story, trials, small_data):
    (record,) = [
        record
        for record in journal_records(open_journal(story.folder / "study.journal"))
        if record.trial_id == story.victim
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the workers
    try:
        state = start(Recipe.from_flat(record.recipe), small_data, seed=record.seed)
        for _ in train(state, small_data):
            pass
    finally:
        torch.set_num_threads(threads)
    assert trials.loc[story.victim, "ndcg"] == pytest.approx(state.best_ndcg, abs=1e-5)


def test_the_data_was_sent_once_to_each_host_that_trained(story):
    for name in story.after:
        root = story.hosts.root(name) / "root"
        assert not (root / "data").exists()
        assert list((root / ".cache" / "fusion-search").rglob("meta.json"))


def test_a_module_of_ones_own_reaches_other_machines_by_its_import_name(story, tmp_path):
    """Its file lies in a folder of the head alone; a training's two workers are on two other hosts."""
    hosts = story.hosts
    team = hosts.root("head") / "root" / "team"
    team.mkdir()
    shutil.copy(Path(__file__).parents[1] / "own" / "modules" / "two_towers.py", team)
    said = hosts.run("head", f". /root/.bashrc; {OWN_COMMAND}", timeout=PATIENCE)
    folder = hosts.root("head") / "root" / "results" / "own"
    trials = pd.read_csv(folder / "trials.csv").set_index("trial_id")
    assert set(trials["state"]) == {"finished"}, (trials["state_reason"].dropna().tolist(), said)
    assert set(trials["config.model.variant"]) == {OWN}
    assert len(json.loads((folder / "run.json").read_text())["model"]["sha256"]) == 64
    for name in story.after:
        assert not list((hosts.root(name) / "root").rglob("two_towers.py"))


def test_ray_down_ends_the_head_and_ray_stop_a_worker(story):
    hosts = story.hosts
    hosts.run("desk", "ray down -y cluster.yaml", timeout=PATIENCE)
    ssh = "ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    stops = [f"{ssh} {hosts.address(name)} /root/fusion/bin/ray stop &" for name in story.after]
    hosts.run("desk", f"{' '.join(stops)} wait", timeout=PATIENCE)
    for name in ("head", *story.after):
        hosts.wait(lambda name=name: not hosts.processes(name, "/raylet "), f"{name} to stop", PATIENCE)
