"""A ranker of 40 lines in a folder of its own: searched on two processes, killed, resumed by DDP, exported, audited."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from roadmap_run import told

from fusion_models.data import open_dataset
from fusion_models.evaluation import Blanking, evaluate
from fusion_models.export import (
    described_inputs,
    eager_scorer,
    export_onnx,
    export_program,
    input_names,
    largest_difference,
    program_scorer,
)
from fusion_models.metrics import BLANKS
from fusion_models.models.own.ranker import OwnRanker
from fusion_models.quantities import numbers
from search.api import audit
from search.run_store.artifacts import load_ranker
from search.run_store.journal import open_journal
from search.run_store.records import journal_records

SOURCE = Path(__file__).parent / "modules" / "two_towers.py"
MODEL = "two_towers:TwoTowers"
DATA = "planted?queries=160&candidates=8"
PATIENCE = 600
pytestmark = pytest.mark.timeout(1800)
PART = ["--trials", "3", "--epochs", "3", "--confirm-seeds", "0"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run folder, and what was seen on the way there: killed, refused with another source, resumed."""
    team, results = tmp_path_factory.mktemp("team"), tmp_path_factory.mktemp("results")
    shutil.copy(SOURCE, team / "two_towers.py")
    command = [
        sys.executable,
        "-m",
        "search.run",
        "phase3",
        "--model",
        MODEL,
        "--data",
        DATA,
        "--results",
        str(results),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "FUSION_SEARCH_REPORT_SECONDS": "0"}
    path = results / "phase3"
    with (results / "output.txt").open("w") as output:
        driver = subprocess.Popen(
            [*command, *PART], cwd=team, stdout=output, stderr=output, start_new_session=True, env=environment
        )
    deadline = time.monotonic() + PATIENCE
    while told(path / "study.journal") < 2:
        assert driver.poll() is None, (results / "output.txt").read_text()
        assert time.monotonic() < deadline, (results / "output.txt").read_text()
        time.sleep(0.1)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()

    def again(*more):
        found = subprocess.run(
            [*command, *PART, *more], cwd=team, env=environment, capture_output=True, text=True, timeout=PATIENCE
        )
        return found.returncode, found.stdout + found.stderr

    (team / "two_towers.py").write_text(SOURCE.read_text() + "# changed\n")
    changed = again("--resume")
    shutil.copy(SOURCE, team / "two_towers.py")
    before = [record.trial_id for record in _records(path) if record.finished]
    resumed = again("--resume", "--workers-per-trial", "2")
    return {"path": path, "changed": changed, "before": before, "resumed": resumed}


def _records(path):
    return journal_records(open_journal(path / "study.journal")) if (path / "study.journal").exists() else []


def test_another_source_is_refused(run):
    code, said = run["changed"]
    assert code == 2, said
    assert "was started with another source of two_towers:TwoTowers" in " ".join(said.split())


def test_it_goes_on_by_ddp_and_ends(run):
    code, said = run["resumed"]
    assert code == 0, said
    records = _records(run["path"])
    assert run["before"]
    assert {record.state for record in records} == {"finished"}, [r.state_reason for r in records]
    assert {record.name for record in records if record.stage == "search"} == {"base", "balanced", "tuned V1"}
    assert all(record.recipe["model.variant"] == MODEL for record in records)


def test_the_run_says_what_it_is_of(run):
    model = json.loads((run["path"] / "run.json").read_text())["model"]
    assert model["reference"] == MODEL
    assert len(model["sha256"]) == 64
    assert "built without it" in (run["path"] / "report.html").read_text()
    assert "config.own.width" in pd.read_csv(run["path"] / "pareto.csv").columns


def test_what_it_trained_loads_and_exports(run):
    data = open_dataset(DATA)
    trial = pd.read_csv(run["path"] / "pareto.csv", dtype={"trial_id": str})["trial_id"][0]
    ranker = load_ranker(run["path"] / "checkpoints" / trial, data)
    assert isinstance(ranker, OwnRanker)
    lists = data.gather(data.rows("validation")[:5])
    complete = ranker.complete(lists)
    program = program_scorer(export_program(ranker), input_names(ranker))
    assert largest_difference(eager_scorer(ranker), program, lists) < 1e-5
    assert ranker(complete).scores.shape == lists.labels.shape


def test_and_is_audited_from_its_export(run, tmp_path):
    """Nothing of the module is needed then: its graph scores lists, and is blanked, timed and judged."""
    data = open_dataset(DATA)
    trial = pd.read_csv(run["path"] / "pareto.csv", dtype={"trial_id": str})["trial_id"][0]
    ranker = load_ranker(run["path"] / "checkpoints" / trial, data)
    path = export_onnx(ranker, tmp_path / "v2.onnx")
    (tmp_path / "inputs.json").write_text(json.dumps(described_inputs(ranker, data.schema, data.statistics)))
    result = audit(data=DATA, model=str(path), phase="phase3", results=tmp_path)
    told = json.loads((result.path / "evidence.json").read_text())["quantities"]
    mine = numbers(evaluate(ranker, data, "test", Blanking(kinds=BLANKS)).outputs)
    for name in ("ndcg_gain", "visual_masking_drop", "text_masking_drop_shuffle_within", "v1_spearman_mean"):
        assert told[name]["mean"] == pytest.approx(mine[name], abs=1e-6), name
    assert result.verdict == "PAUSE_AND_FIX"
    assert told["latency_p95_ms"]["mean"] > 0
