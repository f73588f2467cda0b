"""The end of a roadmap on real Ray: killed in the ablation of its finalist and resumed, it goes on to phase 4."""

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import time

import pandas as pd
import pytest
from rich.console import Console
from roadmap_run import PATIENCE, SET, kill_driver, options

from search.pipeline.release.runtime_variants import TimingSize
from search.pipeline.roadmap import run_roadmap
from search.run_store.journal import open_journal
from search.run_store.records import journal_records
from spaces import ROADMAP_STEPS

pytestmark = pytest.mark.timeout(1800)
"""The roadmap is made within the first test that reads it."""
QUICK = TimingSize(compiled=False, requests=20, candidates=())


def asked(results, **changes):
    """The shared roadmap's options, but with a short list confirmed over two seeds."""
    return dataclasses.replace(options(results), confirm_seeds=2, **changes)


def with_phase_three_to_do(roadmap, results):
    """A copy of the shared roadmap as if it had been cut off after phase 2, on a run with confirmation."""
    path = results / "roadmap"
    shutil.copytree(roadmap, path)
    shutil.rmtree(path / "phase3")
    for name in ("decision.json", "decision.md", "report.html"):
        (path / name).unlink()
    described = json.loads((path / "run.json").read_text())
    described |= {"end": None, "options": described["options"] | {"confirm_seeds": 2, "results": str(results)}}
    (path / "run.json").write_text(json.dumps(described))
    return path


def kill_in_the_ablation(path, output):
    """Go on as a user does, and kill the driver when one training of phase 3's ablation has ended."""
    command = [sys.executable, "-m", "search.run", "roadmap", "--data", options("").data, "--trials", "2"]
    command += ["--epochs", "1", "--scheduler", "none", "--confirm-seeds", "2", "--results", str(path.parent)]
    command += [word for change in SET for word in ("--set", change)]
    with output.open("w") as said:
        process = subprocess.Popen(
            [*command, "--resume"], stdout=said, stderr=subprocess.STDOUT, start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    kept = path / "phase3" / "checkpoints"
    deadline = time.monotonic() + PATIENCE
    while not list(kept.glob("ablate-*/validation.npz")):
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.01)
    kill_driver(process)


def ended(path):
    """Trial id -> when its values per query were written, of phase 3's trainings that have ended."""
    records = [r for r in journal_records(open_journal(path / "phase3" / "study.journal")) if r.state == "finished"]
    return {
        r.trial_id: (path / "phase3" / "checkpoints" / r.trial_id / "validation.npz").stat().st_mtime_ns
        for r in records
    }


@pytest.fixture(scope="module")
def released(roadmap, shared_ray, tmp_path_factory):
    """The folder of a roadmap that went through phase 4, what had ended before the kill, and what was printed."""
    results = tmp_path_factory.mktemp("release")
    path = with_phase_three_to_do(roadmap[0], results)
    kill_in_the_ablation(path, results / "output.txt")
    before = ended(path)
    console = Console(file=io.StringIO(), width=200)
    run_roadmap(asked(results, resume=True), console, timing=QUICK)
    return path, before, console.file.getvalue()


def decision_of(path):
    return json.loads((path / "decision.json").read_text())


def test_an_interrupted_ablation_is_ended_and_no_training_done_twice(released):
    path, before, _ = released
    after = ended(path)
    assert {name: after[name] for name in before} == before
    assert [name for name in after if name.startswith("ablate-") and name not in before]
    table = pd.read_csv(path / "phase3" / "ablation.csv")
    assert len(table)
    assert set(table["status"]) <= {"measured", "screened"}
    names = [r.trial_id for r in journal_records(open_journal(path / "phase3" / "study.journal"))]
    assert len(names) == len(set(names))


def test_phase_four_validates_the_finalist_of_phase_three(released):
    path, _, said = released
    third, fourth = decision_of(path / "phase3"), decision_of(path / "phase4")
    assert third["finalist"] is not None
    assert third["verdict"] != "ARCHIVE", "it ended the roadmap before phase 4"
    assert fourth["finalist"] == third["finalist"]
    assert {g["name"]: g["status"] for g in fourth["gates"]}["phase 3 said GO"] == (
        "pass" if third["verdict"] == "GO" else "fail"
    )
    described = json.loads((path / "phase4" / "run.json").read_text())["roadmap"]
    assert described["after"] == ["phase1", "phase2", "phase3"]
    assert described["decides_on"] == "test"
    assert len(pd.read_csv(path / "phase4" / "integrity.csv")) > 5
    assert (pd.read_csv(path / "phase4" / "latency.csv")["status"] == "measured").any()
    assert "phase4, 4 of 4" in said


def test_the_roadmap_s_verdict_and_page_include_it(released):
    path, _, _ = released
    found = decision_of(path)
    assert [phase["phase"] for phase in found["phases"]] == list(ROADMAP_STEPS)
    assert found["not_run"] == []
    verdicts = {phase["phase"]: phase["verdict"] for phase in found["phases"]}
    assert (found["verdict"] == "GO") == (verdicts["phase3"] == verdicts["phase4"] == "GO")
    assert {gate["phase"] for gate in found["gates"]} == {"phase3", "phase4"}
    assert {rule["phase"] for rule in found["archive_rules"]} == {"phase3", "phase4"}  # the others confirmed nothing
    assert "[phase4](phase4/decision.md)" in (path / "decision.md").read_text()
    assert 'href="phase4/' in (path / "report.html").read_text()


def test_looks_at_the_test_split_are_counted_beside_the_roadmap(released):
    path, _, _ = released
    looks = json.loads((path.parent / "test_looks.json").read_text())
    test = [runs for data, runs in looks.items() if "deciding" not in data]
    assert [look["run"] for look in test[0]] in (["roadmap/phase3"], ["roadmap/phase3", "roadmap/phase4"])
    assert not (path / "test_looks.json").exists()


def test_resumed_again_it_changes_nothing(released):
    path, _, _ = released
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*")}
    console = Console(file=io.StringIO(), width=200)
    run_roadmap(asked(path.parent, resume=True), console)
    assert "holds a finished roadmap; nothing was changed" in console.file.getvalue()
    assert {p: p.stat().st_mtime_ns for p in path.rglob("*")} == before
