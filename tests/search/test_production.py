"""Phase 4 on real Ray: phase 3 first where it is missing, then every table, and a verdict that facts decide."""

import dataclasses
import io
import json

import pandas as pd
import pytest
from rich.console import Console
from test_decision import around, healthy

from fusion_models.integrity import check
from fusion_models.metrics import Interval
from search.folder import RunFolder, RunFolderError
from search.integrity import BROKEN
from search.ladder import V1_SUM
from search.options import RunOptions
from search.production import run_production
from search.release import Validated, decide_release, integrity_open
from spaces import PHASE4, PHASES

DATA = "planted:healthy?queries=200&candidates=8&validation_fraction=0.3&test_fraction=0.3"
FACTS = dict.fromkeys(("v1_stable", "resources", "integration_path", "diverse_queries", "candidate_quality"), "pass")


def validated(**changes):
    found = Validated(
        earlier_verdict="GO",
        integrity=[check("a", 1.0, at_least=0.99), check("b", 0.0, at_least=0.99, reported=True)],
        latency=around(20.0, 5.0),
        fastest=around(10.0, 2.0),
        ablation_missing=[],
    )
    return dataclasses.replace(found, **changes)


def release(evidence=None, facts=FACTS, **changes):
    return decide_release(PHASE4, "t0001", evidence or healthy(), validated(**changes), facts)


def test_all_passed_and_every_fact_answered_is_go():
    decision = release()
    assert decision.verdict == "GO", decision.reasons
    assert {g.status for g in decision.gates} <= {"pass", "not applicable"}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"facts": FACTS | {"resources": "not measured"}}, "not measured"),
        ({"facts": FACTS | {"resources": "fail"}}, "fail"),
        ({"earlier_verdict": "PAUSE_AND_FIX"}, "fail"),
        ({"integrity": [check("leak", 1.0, at_most=0.0)]}, "fail"),
        ({"integrity": [check("auc", Interval(0.55, 0.5, 0.7), at_most=0.6)]}, "undecided"),
        ({"latency": None}, "not measured"),
        ({"latency": around(120.0, 5.0)}, "fail"),
        ({"latency": around(99.0, 5.0)}, "undecided"),
        ({"ablation_missing": None}, "not measured"),
        ({"ablation_missing": ["unimodal heads"]}, "fail"),
        ({"evidence": healthy(quantities={"ndcg_gain": around(0.016, 0.002)})}, "undecided"),
    ],
)
def test_anything_less_is_no_release(changes, status):
    decision = release(**changes)
    assert decision.verdict == "PAUSE_AND_FIX"
    assert [g.status for g in decision.gates if g.status not in ("pass", "not applicable")] == [status]


def test_a_ranker_that_no_rung_brings_under_150_ms_is_archived():
    assert release(latency=around(300.0), fastest=around(200.0, 20.0)).verdict == "ARCHIVE"
    assert release(latency=around(300.0), fastest=around(160.0, 20.0)).verdict == "PAUSE_AND_FIX"


def test_open_checks_are_counted_as_an_interval():
    checks = [check("a", 2.0, at_most=0.0), check("b", Interval(0.5, 0.4, 0.7), at_most=0.6), check("c", 0, at_most=0)]
    found = integrity_open(checks)
    assert (found.low, found.high) == (1.0, 2.0)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    return RunOptions(
        phase="phase4",
        data=DATA,
        trials=2,
        epochs=1,
        confirm_seeds=2,
        set=("model.layers=1", "model.text_tokens=1", "model.scale=feature"),
        results=str(tmp_path_factory.mktemp("production")),
    )


@pytest.fixture(scope="module")
def said():
    return io.StringIO()


@pytest.fixture(scope="module")
def folder(asked, said, shared_ray):
    patch = pytest.MonkeyPatch()
    bare = dataclasses.replace(PHASES["phase3"], ablatable={})
    patch.setitem(PHASES, "phase3", bare)  # phase 3's own ablation is tested elsewhere
    one = dataclasses.replace(PHASE4, ablatable={"faster image encoder": {"train.visual_learning_rate_scale": 1.0}})
    try:
        return run_production(asked, Console(file=said, width=200), phase=one, compiled=False)
    finally:
        patch.undo()


@pytest.mark.slow
def test_phase_3_runs_first_and_every_file_is_there(folder, said):
    assert "holds no finished phase 3: it is run first" in said.getvalue()
    assert RunFolder(folder.path.parent / "phase3").finished()
    for name in ("decision.md", "decision.json", "integrity.csv", "latency.csv", "ablation.csv", "finalist.json"):
        assert (folder.path / name).is_file(), name
    assert (folder.path / "export" / "ranker.onnx").is_file()
    assert not (folder.path / "pareto.csv").exists()
    assert folder.finished()


@pytest.mark.slow
def test_broken_labels_were_trained_as_trials_and_read_as_chance(folder):
    trials = pd.read_csv(folder.path / "trials.csv")
    assert list(trials[trials["stage"] == "integrity"]["name"]) == ["labels permuted"] * 2 + ["labels random"] * 2
    checks = pd.read_csv(folder.path / "integrity.csv").set_index("name")
    assert set(checks.loc[list(BROKEN.values()), "status"]) <= {"pass", "undecided"}
    assert checks.loc["test split untouched before the finalist was fixed", "status"] == "pass"
    assert checks.loc["features equal to V1's score or the label", "status"] == "pass"


@pytest.mark.slow
def test_every_rung_was_timed_and_only_exact_ones_may_be_released(folder):
    table = pd.read_csv(folder.path / "latency.csv")
    judged = table[table["candidates"] == "as judged"].set_index("runtime")
    assert {"eager", "torch.export", "onnxruntime", "onnxruntime, dynamic int8"} <= set(judged.index)
    assert V1_SUM in set(judged["ranker"])
    assert (table["p50_ms"] <= table["p95_ms"]).all()
    assert (table["p95_ms_ci_low"] <= table["p95_ms"]).all()
    assert judged.loc[["torch.export", "onnxruntime"], "largest_difference"].max() <= 1e-5
    gates = json.loads((folder.path / "decision.json").read_text())["gates"]
    read = next(g for g in gates if g["name"] == "latency_p95_ms")["value"]
    exact = judged[judged["largest_difference"] <= 1e-5]
    assert read == pytest.approx(exact.loc[exact["p50_ms"].idxmin(), "p95_ms"])


@pytest.mark.slow
def test_facts_that_nobody_answered_keep_it_from_release(folder):
    decision = json.loads((folder.path / "decision.json").read_text())
    assert decision["verdict"] != "GO"
    assert sum("business fact" in g["name"] and g["status"] == "not measured" for g in decision["gates"]) == 5


@pytest.mark.slow
def test_a_finished_phase_4_is_left_alone_and_other_data_are_refused(folder, asked, console, shared_ray):
    before = (folder.path / "decision.json").read_bytes()
    run_production(asked, console)
    assert "nothing was changed" in console.file.getvalue()
    assert (folder.path / "decision.json").read_bytes() == before
    other = dataclasses.replace(asked, data="planted?queries=160&candidates=8", name="other")
    with pytest.raises(RunFolderError, match="is other data"):
        run_production(other, console)
