"""A whole run whose data and results lie on a server that speaks S3: its machine is lost, and another one goes on."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import TrialState

from fusion_models.data.tables import TABLES, filesystem_of
from search.pipeline.baselines import reference_seeds
from search.report import ReportOptions, report
from search.run_store.mirror import located
from spaces import PHASES

PATIENCE = 400.0
RUN = "results/phase1/"
COMMAND = (
    *("phase1", "--data", "s3://team/data", "--results", "s3://team/results", "--trials", "2", "--epochs", "2"),
    *("--set", "model.layers=1", "--confirm-seeds", "0", "--max-concurrent", "1", "--scheduler", "none"),
)


@dataclass
class Lost:
    """A run that was begun on one machine and ended on another."""

    store: Any
    before: dict[str, Any]
    """Key -> time of every object when the first machine was lost."""
    told: set[str]
    """Trials that the journal at the URI called finished then."""
    said: str
    """By the second machine."""


def objects(store):
    found = store.list_objects_v2(Bucket="team", Prefix=RUN).get("Contents", [])
    return {entry["Key"].removeprefix(RUN): entry["LastModified"] for entry in found}


def ended(names):
    """Trials whose values have been mirrored."""
    return {name.split("/")[1] for name in names if name.endswith("/validation.npz")}


def told(store):
    """Trials that the journal at the URI calls finished: it is sent after what they left."""
    try:
        lines = store.get_object(Bucket="team", Key=f"{RUN}study.journal")["Body"].read().splitlines()
    except store.exceptions.NoSuchKey:
        return set()
    names, finished = {}, set()
    for line in map(json.loads, lines):
        if "job" in line.get("user_attr", {}):
            names[line["trial_id"]] = line["user_attr"]["job"]["trial_id"]
        if line["op_code"] == JournalOperation.SET_TRIAL_STATE_VALUES and line["state"] == TrialState.COMPLETE:
            finished.add(line["trial_id"])
    return {names[number] for number in finished}


@pytest.fixture(scope="module")
def lost(s3_store, small_data, tmp_path_factory):
    """The driver is killed -9 once two trainings are at the URI; its machine goes with it, and an empty one resumes."""
    filesystem, root = filesystem_of("s3://team/data")
    for table in TABLES:
        filesystem.pipe_file(f"{root}/{table}.parquet", (Path(small_data.location) / f"{table}.parquet").read_bytes())
    first, second = (tmp_path_factory.mktemp(name) for name in ("first", "second"))
    command = [sys.executable, "-m", "search.run", *COMMAND]

    def machine(folder):
        return os.environ | {"FUSION_SEARCH_CACHE": str(folder), "OMP_NUM_THREADS": "1"}

    with (first / "said.txt").open("w") as file:
        driver = subprocess.Popen(command, env=machine(first), stdout=file, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + PATIENCE
        while len(told(s3_store)) < 2:
            assert driver.poll() is None, (first / "said.txt").read_text()
            assert time.monotonic() < deadline, (first / "said.txt").read_text()
            time.sleep(0.1)
    finally:
        driver.kill()
        driver.wait()
    before, finished = objects(s3_store), told(s3_store)
    shutil.rmtree(first, ignore_errors=True)  # what is left of its processes may still write
    resumed = subprocess.run(
        [*command, "--resume"], env=machine(second), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert resumed.returncode == 0, resumed.stdout
    return Lost(s3_store, before, finished, resumed.stdout)


@pytest.fixture
def third(lost, tmp_path, monkeypatch):
    """Yet another machine, which has never seen the run."""
    monkeypatch.setenv("FUSION_SEARCH_CACHE", str(tmp_path))
    return lost


def test_the_whole_run_is_at_the_uri_and_reads_back_anywhere(third, small_data):
    assert "mirrored to s3://team/results/phase1" in third.said
    folder, _ = located("s3://team/results/phase1")
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names >= {"run.json", "study.journal", "trials.csv", "pareto.csv", "decision.json", "report.html"}
    assert not [name for name in names if "/training/" in name]
    trials = pd.read_csv(folder / "trials.csv")
    assert len(trials) == 3 * reference_seeds(PHASES["phase3"]) + 2
    assert set(trials["state"]) == {"finished"}
    for place in pd.read_csv(folder / "pareto.csv")["checkpoint"]:
        assert (folder / place / "weights.safetensors").is_file()
    description = json.loads((folder / "run.json").read_text())
    assert (description["resumed"], description["fingerprint"]) == (1, small_data.fingerprint)


def test_what_had_been_mirrored_was_not_trained_again(lost):
    after = objects(lost.store)
    kept = [name for name in lost.before if name.endswith("/validation.npz") and name.split("/")[1] in lost.told]
    assert len(kept) == len(lost.told) >= 2
    assert {name: after[name] for name in kept} == {name: lost.before[name] for name in kept}
    assert len(ended(after)) == 3 * reference_seeds(PHASES["phase3"]) + 2


def test_the_report_is_built_anew_from_the_uri_and_goes_back_there(third, console):
    before = objects(third.store)["report.html"]
    time.sleep(1.0)  # S3 tells times by the second
    report(ReportOptions(run="s3://team/results/phase1"), console)
    assert objects(third.store)["report.html"] > before
