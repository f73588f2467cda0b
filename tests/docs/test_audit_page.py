"""docs/audit.md walked through: rankers of other frameworks, trained outside this project, audited as the page says."""

import json
from pathlib import Path

import pytest
from walks import walk

pytestmark = pytest.mark.timeout(1200)
PAGE = Path(__file__).parents[2] / "docs" / "audit.md"


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """The names that the page's code leaves, and its folder."""
    place = tmp_path_factory.mktemp("audit")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        names, _ = walk(PAGE, place, timeout=900)
    return names, place / "results"


def gates(place, name):
    decision = json.loads((place / name / "decision.json").read_text())
    return decision, {gate["name"]: gate for gate in decision["gates"]}


@pytest.mark.parametrize("name", ["torch", "lightgbm", "torch-model", "lightgbm-model"])
def test_the_illness_is_found_where_it_is(walked, name):
    decision, found = gates(walked[1], name)
    assert found["visual_masking_drop"]["status"] == "fail"
    assert found["visual_masking_drop"]["ci_high"] < 0.05
    assert decision["verdict"] == "PAUSE_AND_FIX"


@pytest.mark.parametrize("name", ["refitted", "sklearn-model"])
def test_and_not_where_it_is_not(walked, name):
    _, found = gates(walked[1], name)
    assert found["visual_masking_drop"]["status"] == "pass"
    assert found["ndcg_gain"]["status"] == "pass"


def test_refits_say_what_the_picture_is_worth(walked):
    _, refitted = gates(walked[1], "refitted")
    (worth,) = [gate for gate in refitted.values() if gate["key"] == "resume: refit gain"]
    assert worth["status"] == "pass"
    assert worth["ci_low"] > 0.03  # the world's truth: the picture alone tells 0.18 of the label's variance


@pytest.mark.parametrize("name", ["torch", "lightgbm"])
def test_a_model_and_its_scores_are_told_the_same(walked, name):
    """ONNX trees read thresholds as float32, so a score in thousands may fall on the other side."""
    scores, model = (gates(walked[1], entry)[1] for entry in (name, f"{name}-model"))
    for quantity in ("ndcg_gain", "visual_masking_drop", "resume: V1 correlation"):
        assert model[quantity]["value"] == pytest.approx(scores[quantity]["value"], abs=1e-3)


def test_a_model_is_timed_blanked_and_taken_apart(walked):
    place = walked[1] / "torch-model"
    evidence = json.loads((place / "evidence.json").read_text())
    kinds = ("", "_mean", "_shuffle_within", "_shuffle_across")
    assert {f"visual_masking_drop{kind}" for kind in kinds} <= set(evidence["quantities"])
    assert len(evidence["masked_values"]) == 8
    assert set(evidence["masked_shapley"]) == {"visual", "text", "metadata"}
    assert evidence["interaction_gain"] is not None
    assert evidence["quantities"]["latency_p95_ms"]["mean"] > 0
    assert "onnxruntime" in (place / "latency.csv").read_text()


def test_without_refits_what_to_add_is_named_and_no_phase_says_go(walked):
    decision, found = gates(walked[1], "lightgbm")
    (worth,) = [gate for gate in found.values() if gate["key"] == "resume: refit gain"]
    assert worth["status"] == "not measured"
    assert "v2_score.refit.text+metadata: 5 trainings or more" in worth["needed"]
    assert {said["verdict"] for said in decision["by_phase"].values()} == {"PAUSE_AND_FIX"}
    assert list(decision["by_phase"]) == ["phase1", "phase2", "phase3", "phase4"]


def test_each_audit_is_a_look_and_its_report_is_the_page_of_every_run(walked):
    _, place = walked
    looks = [json.loads((place / name / "decision.json").read_text())["look"]["number"] for name in
             ("torch", "lightgbm", "refitted", "sklearn-model")]  # fmt: skip
    assert looks == sorted(set(looks))
    text = (place / "torch" / "report.html").read_text()
    assert "The V2 that was given ranks" in text
    for section in ("leads", "agreement", "contribution", "rivals", "subdomains", "integrity", "flip", "examples"):
        assert f'<section id="{section}"' in text
    assert '<section id="trials"' not in text
    assert "The finalist" not in text
