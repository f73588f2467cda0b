"""A whole small roadmap on real Ray, killed -9 in its second phase: it goes on, takes over what was trained before, and
no search reads the half that decides."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from roadmap_run import BASELINES, SMALL, options

from fusion_models.data import open_dataset
from fusion_models.evaluation import split_lists
from fusion_models.training import start, train
from search.analysis.front import hypervolume
from search.pipeline.continuation.warm_start import front_recipes
from search.pipeline.phase import run_phase
from search.pipeline.roadmap import run_roadmap
from search.report import ReportOptions, report
from search.reporting.charts.standing import VERDICT_WORDS
from search.run_store.artifacts import measure, read_outputs, write_finished
from search.run_store.folder import RunFolder
from search.run_store.job import Job
from search.run_store.journal import open_journal
from search.run_store.records import journal_records
from spaces import PHASES

pytestmark = pytest.mark.timeout(1800)
"""The roadmap is made within the first test that reads it."""
CHAIN = ("phase1", "phase2", "phase3")


def records(path):
    return journal_records(open_journal(path / "study.journal"))


def events(path, trial):
    return {file.name for file in (path / "tensorboard" / trial).glob("events*")}


def test_it_ends_with_one_verdict_over_its_phases(roadmap):
    path, said = roadmap
    run = json.loads((path / "run.json").read_text())
    assert run["end"] is not None
    assert run["resumed"] == 1
    decision = json.loads((path / "decision.json").read_text())
    names = [phase["phase"] for phase in decision["phases"]]
    assert names == list(PHASES)[: len(names)]
    assert decision["verdict"] == "ARCHIVE" or set(CHAIN) <= set(names)
    if decision["verdict"] != "ARCHIVE":  # nothing was confirmed, so phase 4 has nothing to validate
        assert decision["not_run"] == ["phase4"]
        assert "not run: phase4 (phase3 confirmed no finalist to go on with)" in decision["reasons"]
    for phase in decision["phases"]:
        own = json.loads((path / phase["phase"] / "decision.json").read_text())
        assert phase["verdict"] == own["verdict"]
    assert (path / "decision.md").read_text().startswith(f"# Roadmap: {decision['verdict']}")
    assert f"\n{decision['verdict']}" in said
    assert "done before; nothing is run again" in said


def test_its_page_shows_the_phases_in_a_row(roadmap):
    path, _ = roadmap
    text = (path / "report.html").read_text()
    decision = json.loads((path / "decision.json").read_text())
    assert f'<h1 id="verdict">{VERDICT_WORDS[decision["verdict"]]}' in text
    places = [text.index(f'href="{phase["phase"]}/report.html"') for phase in decision["phases"]]
    assert places == sorted(places)
    assert "2 trials trained, 2 taken over" in text
    with pytest.raises(ValueError, match="is a roadmap: name one of its phases"):
        report(ReportOptions(run=str(path), explain="t0000"), Console(file=io.StringIO()))


def test_every_phase_says_that_it_is_part_of_the_roadmap(roadmap):
    path, _ = roadmap
    for place, name in enumerate(CHAIN):
        described = json.loads((path / name / "run.json").read_text())
        assert described["roadmap"] == {
            "folder": "roadmap",
            "after": list(CHAIN[:place]),
            "searches_on": "a hashed half of validation",
            "decides_on": "test" if name == "phase3" else "deciding",
        }


def test_no_training_of_an_earlier_phase_is_done_again(roadmap):
    path, _ = roadmap
    trained = {}
    shared = 0
    for name in CHAIN:
        mine = {}
        for record in records(path / name):
            assert record.state == "finished"
            if record.stage == "ablation":  # its weights are not kept, so it may have to be trained again
                continue
            same = (record.seed, *sorted(record.recipe.items()))
            kept = path / name / "checkpoints" / record.trial_id / "validation.npz"
            if same in trained:
                assert kept.stat().st_ino in trained[same]
                shared += 1
            mine.setdefault(same, set()).add(kept.stat().st_ino)
        trained = {same: trained.get(same, set()) | mine.get(same, set()) for same in {*trained, *mine}}
    assert shared >= 2 * BASELINES + 6  # the baselines twice, two trials of phase 1, four of phases 1 and 2


def test_a_phase_starts_from_the_trials_of_the_ones_before(roadmap):
    path, _ = roadmap
    for before, after in (("phase1", "phase2"), ("phase2", "phase3")):
        earlier, later = ([r for r in records(path / name) if r.stage == "search"] for name in (before, after))
        taken = {r.trial_id: r for r in later if r.taken_over is not None}
        assert len(later) == len(taken) + 2
        assert {tuple(sorted(r.recipe.items())) for r in taken.values()} == {
            tuple(sorted(r.recipe.items())) for r in earlier
        }
        if after == "phase2":
            assert set(taken) == {"phase1-t0000", "phase1-t0001"}
            assert taken["phase1-t0000"].state_reason == "taken over from phase1, trial t0000"
            assert taken["phase1-t0000"].name == "base"
        phase = PHASES[after].with_base(options("").changes)
        assert hypervolume(phase, later) >= hypervolume(phase, earlier)
        curves = {trial: events(path / after, trial) for trial in taken}
        assert curves == {trial: events(path / before, trial.removeprefix(f"{before}-")) for trial in taken}
        assert (
            sum(map(bool, curves.values())) >= len(taken) - 1
        )  # those of the training told last may die with a driver


def test_every_search_reads_one_half_and_nothing_opens_a_split_without_a_finalist(roadmap):
    path, _ = roadmap
    data = open_dataset(SMALL).halved()
    lists = split_lists(data, "validation")
    for name in CHAIN:
        kept = list((path / name / "checkpoints").glob("*/*.npz"))
        assert {file.name for file in kept} == {"validation.npz"}
        for file in kept:
            assert np.array_equal(read_outputs(file, lists).lists.rows, data.rows("validation"))
    assert not (path.parent / "test_looks.json").exists()


def test_a_finished_roadmap_is_left_as_it_is(roadmap):
    path, _ = roadmap
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*")}
    console = Console(file=io.StringIO(), width=200)
    run_roadmap(options(path.parent), console)
    assert "holds a finished roadmap; nothing was changed" in console.file.getvalue()
    assert {p: p.stat().st_mtime_ns for p in path.rglob("*")} == before
    run_phase(options(path, phase="phase1", data=f"{SMALL}#halved"), console)
    assert "holds a finished run" in console.file.getvalue()


def test_an_archive_rule_that_held_in_a_phase_ends_a_resumed_roadmap_there(roadmap, tmp_path, shared_ray):
    path = tmp_path / "roadmap"
    shutil.copytree(roadmap[0], path)
    for phase in ("phase2", "phase3"):
        shutil.rmtree(path / phase)
    described = json.loads((path / "run.json").read_text())
    described |= {"end": None, "options": described["options"] | {"results": str(tmp_path)}}
    (path / "run.json").write_text(json.dumps(described))
    decision = json.loads((path / "phase1" / "decision.json").read_text())
    rule = {
        "key": "refit",
        "direction": "below",
        "name": "the image has nothing to give",
        "note": "",
        "value": 0.001,
        "ci_low": 0.0,
        "ci_high": 0.004,
        "threshold": 0.005,
    }
    decision |= {"verdict": "ARCHIVE", "archive_rules": [rule | {"holds": True, "measured": True}]}
    (path / "phase1" / "decision.json").write_text(json.dumps(decision))
    run_roadmap(options(tmp_path, resume=True), Console(file=io.StringIO()))
    found = json.loads((path / "decision.json").read_text())
    assert (found["verdict"], found["not_run"]) == ("ARCHIVE", ["phase2", "phase3", "phase4"])
    assert not (path / "phase2").exists()
    assert "The image has nothing to give" in (path / "report.html").read_text()


def test_a_front_reads_back_as_recipes(roadmap):
    path, _ = roadmap
    found = front_recipes(RunFolder(path / "phase2"))
    known = {tuple(sorted(r.recipe.items())) for r in records(path / "phase2")}
    assert found
    assert {tuple(sorted(recipe.items())) for recipe in found.values()} <= known


def test_what_the_deciding_half_says_changes_nothing_that_a_search_measures(tmp_path):
    """The same training on two datasets that differ in the labels of the deciding half alone."""
    honest = open_dataset(SMALL)
    for table in ("items", "queries", "judgements"):
        pd.read_parquet(Path(honest.location) / f"{table}.parquet").to_parquet(tmp_path / f"{table}.parquet")
    judged = pd.read_parquet(tmp_path / "judgements.parquet")
    deciding = judged["query_id"].isin(honest.query_ids[honest.halved().rows("deciding")])
    assert 0 < deciding.sum() < len(judged)
    judged.loc[deciding, "label"] = judged["label"].max() - judged.loc[deciding, "label"]
    judged.to_parquet(tmp_path / "judgements.parquet")
    numbers = []
    for source in (f"{SMALL}#halved", f"{tmp_path}#halved"):
        data = open_dataset(source)
        recipe = PHASES["phase1"].base.updated({"model.layers": 1, "train.epochs": 2})
        state = start(recipe, data, seed=0)
        epochs = [result.evaluation.mean_ndcg for result in train(state, data)]
        job = Job(trial_id="t0000", name="base", recipe=recipe.flat(), seed=0)
        measured = write_finished(measure(state, data, job), state, data, job, tmp_path / f"kept-{len(numbers)}")
        numbers.append((epochs, measured | {"latency_p95_ms": 0.0}))
    assert open_dataset(SMALL).fingerprint != open_dataset(str(tmp_path)).fingerprint
    assert numbers[0] == numbers[1]
