"""What phase 4 takes over from the phase that it validates."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from fusion_models.modalities import MODALITIES
from search.options import RunOptions
from search.pipeline.release.production import _is_of, _missing_ablations, _of_suspect, _over
from search.run_store.folder import RunFolder, RunFolderError
from spaces import PHASE4, PHASES, Float, departures, for_dataset


def test_phase4_judges_the_space_that_was_searched_by_the_conditions_that_it_was_searched_under(tmp_path):
    named = PHASES["phase3"].with_base({"train.epochs": 2})
    lenient = tuple(
        dataclasses.replace(gate, at_least=0.03) if gate.at_least == 0.05 else gate for gate in named.resume_gates
    )
    ranges = {"loss.temperature": Float(low=0.5, high=2.0)}
    source = dataclasses.replace(named, resume_gates=lenient, ranges=ranges, ablatable={"x": {"loss.unimodal": 0.0}})
    found = _over(PHASE4, source)
    assert (found.base, found.ranges, found.ablatable) == (source.base, ranges, source.ablatable)
    assert (found.name, found.gates, found.trials) == ("phase4", PHASE4.gates, 0)
    assert found.resume_gates == lenient
    assert departures(found) == ["resume: visual masking drop: at least 0.03 (the roadmap: at least 0.05)"]
    path = tmp_path / "mine.toml"
    path.write_text('extends = "phase4"\n[resume_gates.queries]\nat_least = 100\n')
    own = RunOptions(phase="phase4", phase_file=str(path)).to_phase()
    assert [gate.threshold for gate in _over(own, source).resume_gates] == [100, 0.05, 0.90, 0.90]


def test_phase4_asks_for_phase_3s_suspect_and_keeps_its_resume_gates():
    text = for_dataset(PHASES["phase3"], MODALITIES, "text")
    lenient = tuple(dataclasses.replace(g, at_least=300) if g.threshold == 500 else g for g in text.resume_gates)
    source = dataclasses.replace(text, resume_gates=lenient)
    folder = RunFolder(Path("results/phase3"))
    options = _of_suspect(RunOptions(phase="phase4"), source.suspect, folder)
    assert options.suspect == "text"
    assert _over(options.to_phase("phase4"), source).resume_gates == lenient
    with pytest.raises(RunFolderError, match="asks what text is worth, not metadata"):
        _of_suspect(RunOptions(phase="phase4", suspect="metadata"), "text", folder)


def test_phase4_reads_the_thresholds_that_phase_3_was_decided_by_unless_its_own_file_says_otherwise(tmp_path):
    """Else a gain of MRR that was GO is held against a threshold of nDCG, and archived."""
    named = PHASES["phase3"]
    mine = dataclasses.replace(named.thresholds, least_gain=0.004, nothing_to_give=0.002)
    source = dataclasses.replace(named, thresholds=mine, v1_reads=("text",))
    assert _over(PHASE4, source).thresholds == mine
    assert _over(PHASE4, source).v1_reads == ("text",)
    path = tmp_path / "mine.toml"
    path.write_text('extends = "phase4"\n[thresholds]\nslowest_ms = 80\nnothing_to_give = 0.001\n')
    found = _over(RunOptions(phase="phase4", phase_file=str(path)).to_phase(), source).thresholds
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
