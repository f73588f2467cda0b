"""What phase 4 takes over from the phase that it validates."""

import contextlib
import dataclasses
import io
import json
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console
from run_context import run_in

from fusion_models.modalities import MODALITIES
from search.analysis.decision import decide
from search.options import RunOptions
from search.pipeline.continuation.resuming import plain_options
from search.pipeline.release.from_phase3 import phase_over, read_chosen, with_suspect
from search.pipeline.release.production import (
    FILES,
    Looks,
    _is_of,
    _missing_ablations,
    _validate,
    _write,
)
from search.pipeline.release.runtime_variants import TimingSize
from search.pipeline.roadmap import _read_verdict
from search.pipeline.summary import print_decision
from search.reporting import read_run
from search.reporting.charts import standing
from search.reporting.run_list import list_runs
from search.run_store.folder import FORMAT, RunFolder, RunFolderError
from search.run_store.journal import open_journal
from search.run_store.looks import Look
from spaces import PHASE4, PHASES, Float, departures, for_dataset, phase_to_plain


def test_phase4_judges_the_space_that_was_searched_by_the_conditions_that_it_was_searched_under(tmp_path):
    named = PHASES["phase3"].with_base({"train.epochs": 2})
    lenient = tuple(
        dataclasses.replace(gate, at_least=0.03) if gate.at_least == 0.05 else gate for gate in named.resume_gates
    )
    ranges = {"loss.temperature": Float(low=0.5, high=2.0)}
    source = dataclasses.replace(named, resume_gates=lenient, ranges=ranges, ablatable={"x": {"loss.unimodal": 0.0}})
    found = phase_over(PHASE4, source)
    assert (found.base, found.ranges, found.ablatable) == (source.base, ranges, source.ablatable)
    assert (found.name, found.gates, found.trials) == ("phase4", PHASE4.gates, 0)
    assert found.resume_gates == lenient
    assert departures(found) == ["resume: visual masking drop: at least 0.03 (the roadmap: at least 0.05)"]
    path = tmp_path / "mine.toml"
    path.write_text('extends = "phase4"\n[resume_gates.queries]\nat_least = 100\n')
    own = RunOptions(phase="phase4", phase_file=str(path)).to_phase()
    assert [gate.threshold for gate in phase_over(own, source).resume_gates] == [100, 0.05, 0.90, 0.90]


def test_phase4_asks_for_phase_3s_suspect_and_keeps_its_resume_gates():
    text = for_dataset(PHASES["phase3"], MODALITIES, "text")
    lenient = tuple(dataclasses.replace(g, at_least=300) if g.threshold == 500 else g for g in text.resume_gates)
    source = dataclasses.replace(text, resume_gates=lenient)
    folder = RunFolder(Path("results/phase3"))
    options = with_suspect(RunOptions(phase="phase4"), source.suspect, folder)
    assert options.suspect == "text"
    assert phase_over(options.to_phase("phase4"), source).resume_gates == lenient
    with pytest.raises(RunFolderError, match="asks what text is worth, not metadata"):
        with_suspect(RunOptions(phase="phase4", suspect="metadata"), "text", folder)


def test_phase4_reads_the_thresholds_that_phase_3_was_decided_by_unless_its_own_file_says_otherwise(tmp_path):
    """Else a gain of MRR that was GO is held against a threshold of nDCG, and archived."""
    named = PHASES["phase3"]
    mine = dataclasses.replace(named.thresholds, least_gain=0.004, nothing_to_give=0.002)
    source = dataclasses.replace(named, thresholds=mine, v1_reads=("text",))
    assert phase_over(PHASE4, source).thresholds == mine
    assert phase_over(PHASE4, source).v1_reads == ("text",)
    path = tmp_path / "mine.toml"
    path.write_text('extends = "phase4"\n[thresholds]\nslowest_ms = 80\nnothing_to_give = 0.001\n')
    found = phase_over(RunOptions(phase="phase4", phase_file=str(path)).to_phase(), source).thresholds
    assert (found.least_gain, found.nothing_to_give, found.slowest_ms) == (0.004, 0.001, 80)


def table(trial_id, **changes):
    return pd.DataFrame({"trial_id": trial_id, "removed": ["a", "b"], "status": "measured"} | changes)


def test_only_the_finalist_s_own_whole_ablation_is_taken_over():
    assert _is_of(table("t0001"), "t0001")
    assert not _missing_ablations(table("t0001"))
    assert not _is_of(table("t0002"), "t0001")  # of an earlier verdict
    assert not _is_of(table("t0001").drop(columns="status"), "t0001")
    assert not _is_of(table("t0001").head(0), "t0001")
    assert _missing_ablations(table("t0001", status=["measured", "in part"])) == ["b"]


@pytest.fixture
def unjudged(tmp_path, small_data):
    """A finished phase 3 whose finalist was fixed, and none of whose deciding trainings finished."""
    options, path = RunOptions(phase="phase3", data=small_data.source), tmp_path / "phase3"
    path.mkdir()
    said = {"format": FORMAT, "phase": "phase3", "options": plain_options(options), "roadmap": {"decides_on": "test"}}
    said |= {"definition": phase_to_plain(options.to_phase()), "fingerprint": small_data.fingerprint}
    (path / "run.json").write_text(json.dumps(said | {"data": small_data.source, "start": "now", "end": "then"}))
    fixed = {"trial_id": "t0001", "recipe": options.to_phase().base.flat(), "seeds": [1, 2], "is_base": False}
    (path / "finalist.json").write_text(json.dumps(fixed))
    decision = decide(options.to_phase(), "t0001", None, {})
    (path / "decision.json").write_text(json.dumps(decision.as_json(), default=str))
    open_journal(path / "study.journal")
    return RunFolder(path)


def test_phase4_says_that_nothing_of_a_finalist_that_could_not_be_trained_is_there_to_validate(unjudged, small_data):
    chosen = read_chosen(unjudged, small_data)
    assert (chosen.finalist, chosen.unjudged, chosen.jobs) == (None, "t0001", ())
    options = RunOptions(phase="phase4", data=small_data.source)
    run = run_in(RunFolder(unjudged.path.parent / "phase4"), options, options.to_phase(), small_data)
    decision = _validate(run, chosen, TimingSize(), contextlib.ExitStack())
    assert decision.verdict == "PAUSE_AND_FIX"
    assert decision.reasons == ("phase3's finalist t0001 could not be trained again, not once",)
    assert json.loads((run.folder.path / "decision.json").read_text())["finalist"] is None


SECOND = {"number": 2, "practice": False, "split": "test", "level": 0.9924}


def test_phase4_rests_on_the_look_of_phase_3_and_says_its_level(unjudged, small_data):
    """Its gates read phase 3's intervals again, so they have that look's level."""
    (unjudged.path / "judged.json").write_text("{}")
    decision = json.loads((unjudged.path / "decision.json").read_text())
    (unjudged.path / "decision.json").write_text(json.dumps(decision | {"look": SECOND}))
    chosen = read_chosen(unjudged, small_data)
    assert chosen.look == Look(number=2, by="phase3")
    options = RunOptions(phase="phase4", data=small_data.source)
    run = run_in(RunFolder(unjudged.path.parent / "phase4"), options, options.to_phase(), small_data)
    described = {"phase": "phase4", "definition": phase_to_plain(options.to_phase()), "options": plain_options(options)}
    run.folder.write(described)
    looks = Looks(judged=chosen.look, ablated=Look(number=3))
    _write(run, decide(run.phase, "t0001", None, {}), [], None, None, looks)
    read = read_run(run.folder.path)
    assert standing.level(read) == "99.24 %"
    said = "ook 2 (of phase3) at this test split: intervals of 99.24 %"
    own = "The ablation is phase 4's own, look 3 at this test split; its intervals are of 95 %."
    text = (run.folder.path / "decision.md").read_text()
    for told in (text, standing.looked(read)):
        assert said in told
        assert own in told
    run.folder.write((run.folder.read() or {}) | {"end": "2026-01-01T10:00:00+00:00"})
    (entry,) = [entry for entry in list_runs(unjudged.path.parent) if entry.run == "phase4"]
    assert (entry.look, entry.split) == (2, "test")


def test_files_that_are_not_there_are_not_listed(unjudged, small_data):
    options = RunOptions(phase="phase4", data=small_data.source)
    run = run_in(RunFolder(unjudged.path.parent / "phase4"), options, options.to_phase(), small_data)
    run.folder.path.mkdir(exist_ok=True)
    (run.folder.path / "decision.md").write_text("")
    run = dataclasses.replace(run, console=Console(file=io.StringIO(), width=200))
    print_decision(run, decide(run.phase, None, None), FILES)
    said = run.console.file.getvalue()
    assert str(run.folder.path / "decision.md") in said
    assert "rollout.json" not in said
    assert "export" not in said.replace(str(run.folder.path), "")


def test_a_roadmap_ends_after_a_finalist_that_could_not_be_trained(unjudged):
    assert _read_verdict(unjudged, "phase3")[0].finalist is None
