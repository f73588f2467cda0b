"""`--ablate` of a real trial, with real trainings: killed -9 in the middle, it goes on when asked again."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from roadmap_run import SMALL, kill_driver, options

from fusion_models.config import Recipe
from fusion_models.data import open_dataset
from fusion_models.training import start, train
from search.pipeline.ablation import PAIRS_AMONG, SEEDS, active
from search.report import ReportOptions, report
from search.run_store.journal import open_journal
from search.run_store.records import journal_records
from search.study.seeds import MOST_ON_SHORT_LIST
from spaces import PHASES

pytestmark = pytest.mark.timeout(1800)
"""The roadmap is made within the first test that reads it."""
PATIENCE = 600.0
TRIAL = "t0001"
PHASE = PHASES["phase1"].with_base(options("").changes)


def ablation(path):
    """Trial id -> record of the ablation's trainings so far, a run of which may still be writing."""
    journal = path / "study.journal"
    return {r.trial_id: r for r in journal_records(open_journal(journal)) if r.stage == "ablation"}


def written(path):
    """Of each ablated training that has ended, when its values per query were written."""
    ended = [r.trial_id for r in ablation(path).values() if r.state == "finished"]
    return {t: (path / "checkpoints" / t / "validation.npz").stat().st_mtime_ns for t in ended}


def kill_in_the_middle(path, output):
    """Ask for the ablation as a user does, and kill its driver when the intact trainings and one more have ended."""
    told = (path / "study.journal").read_bytes().count(b'"outcome"')
    with output.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "search.report", str(path), "--ablate", TRIAL],
            stdout=said, stderr=subprocess.STDOUT, start_new_session=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    deadline = time.monotonic() + PATIENCE
    while (path / "study.journal").read_bytes().count(b'"outcome"') < told + MOST_ON_SHORT_LIST + 1:
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.01)
    kill_driver(process)


@pytest.fixture(scope="module")
def ablated(roadmap, shared_ray, tmp_path_factory):
    """The folder of a phase whose trial was ablated in two goes, and what had been trained in the first."""
    place = tmp_path_factory.mktemp("ablate")
    path = place / "phase1"
    shutil.copytree(roadmap[0] / "phase1", path)
    kill_in_the_middle(path, place / "output.txt")
    assert (path / "pareto.csv").read_text() == (roadmap[0] / "phase1" / "pareto.csv").read_text()
    before = written(path)
    report(ReportOptions(run=str(path), ablate=TRIAL), Console(file=io.StringIO()))
    return path, before


@pytest.fixture(scope="module")
def table(ablated):
    return pd.read_csv(ablated[0] / f"ablation-{TRIAL}.csv")


def test_every_component_and_pair_is_measured_with_every_seed_on_validation(ablated, table):
    recipe = next(r.recipe for r in journal_records(open_journal(ablated[0] / "study.journal")) if r.trial_id == TRIAL)
    singles = {v.removed[0] for v in active(PHASE, Recipe.from_flat(recipe))}
    assert len(singles) >= 2
    assert set(table.loc[table["kind"] == "single", "removed"]) == singles
    foremost = min(PAIRS_AMONG, len(singles))
    assert table.loc[table["kind"] == "pair", "removed"].nunique() == foremost * (foremost - 1) // 2
    assert set(table["status"]) == {"measured"}
    assert set(table["split"]) == {"validation"}
    assert set(table["seeds"]) == {len(SEEDS)}
    assert set(table["objective"]) == {o.name for o in PHASE.objectives}


def test_no_training_is_done_twice(ablated):
    path, before = ablated
    after = written(path)
    assert len(before) >= 2
    assert len(after) > len(before)
    assert {name: after[name] for name in before} == before
    lines = (path / "study.journal").read_text().splitlines()
    told = [json.loads(line) for line in lines if '"outcome"' in line]
    assert len({entry["trial_id"] for entry in told}) == len(told)
    assert not list((path / "checkpoints").glob("ablate-*/weights.safetensors"))  # measured, so not kept


def test_the_changes_are_those_of_trainings_done_by_hand(ablated, table):
    """Each variation trained again without Ray: the change of mean nDCG is the table's."""
    path, _ = ablated
    data = open_dataset(f"{SMALL}#halved")
    records = ablation(path)
    removed = table.loc[table["kind"] == "single", "removed"].iloc[0]
    mine = [r for r in records.values() if r.name == f"{TRIAL} without {removed}"]
    intact = [r for r in records.values() if r.name == f"{TRIAL} intact"]
    assert sorted(r.seed for r in mine) == sorted(SEEDS)
    assert len(intact) == MOST_ON_SHORT_LIST
    assert {r.seed for r in mine}.isdisjoint(r.seed for r in intact)  # nothing is paired by seed: it cancels nothing
    best = {}
    for record in (*mine, *intact):
        state = start(Recipe.from_flat(record.recipe), data, seed=record.seed)
        for _ in train(state, data):
            pass
        best[record.trial_id] = state.best_ndcg
    change = np.mean([best[r.trial_id] for r in mine]) - np.mean([best[r.trial_id] for r in intact])
    row = table[(table["removed"] == removed) & (table["objective"] == "ndcg_gain")].iloc[0]
    assert row["change"] == pytest.approx(change, abs=1e-6)
    assert row["ci_low"] < row["change"] < row["ci_high"]


def test_the_report_shows_it_and_the_tables_hold_its_trainings_beside_the_old_front(ablated, table, roadmap):
    path, _ = ablated
    text = (path / "report.html").read_text()
    assert f'id="chart-ablation-{table["objective"].iloc[0]}"' in text
    trials = pd.read_csv(path / "trials.csv")
    assert set(ablation(path)) <= set(trials["trial_id"])
    assert (path / "pareto.csv").read_text() == (roadmap[0] / "phase1" / "pareto.csv").read_text()


def test_explain_reads_the_numbers_of_a_real_trial(ablated):
    path, _ = ablated
    trials = pd.read_parquet(path / "trials.parquet").set_index("trial_id")
    console = Console(file=io.StringIO(), width=160)
    report(ReportOptions(run=str(path), explain=TRIAL), console)
    said = console.file.getvalue()
    row = trials.loc[TRIAL]
    assert f"{TRIAL} {row['name']}, of stage search: finished, {row['epochs']} epochs" in said
    assert f"{row['ndcg_gain']:+.4f}".replace("-", "−") in said
    for key, value in PHASE.base.flat().items():
        stands = re.search(rf"^[│ ]*{re.escape(key)} ", said, flags=re.M) is not None
        assert stands == (str(row[f"config.{key}"]) != str(value)), key
    assert "on the front" in said
