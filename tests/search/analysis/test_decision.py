"""The decision as a pure function: every verdict, every status, from intervals given by hand."""

import dataclasses
import json
import math

import pytest

from fusion_models.metrics import Interval
from search.analysis.decision import Evidence, decide, is_fragile
from search.run_store.folder import json_text
from spaces import PHASES

EARNED = "every modality earns its attention (smallest refit gain above 0)"


def around(mean, half=0.002):
    return Interval(mean, mean - half, mean + half)


def healthy(**changes):
    quantities = {
        "ndcg_gain": around(0.06),
        "visual_masking_drop": around(0.08),
        "attention_max_share": around(0.37),
        "attention_min_share": around(0.29),
        "v1_correlation": around(0.80),
    }
    evidence = Evidence(
        quantities=quantities | changes.pop("quantities", {}),
        refit_gain={"visual": around(0.03), "text": around(0.03), "metadata": around(0.01)},
        base_refit_gain=around(0.02),
        over_tuned_v1=around(0.04),
        queries=600,
        has_images=False,
    )
    return dataclasses.replace(evidence, **changes)


def status(decision, name):
    return next(gate.status for gate in decision.gates if gate.name == name)


@pytest.mark.parametrize("phase", PHASES.values(), ids=list(PHASES))
def test_a_healthy_ranker_is_go(phase):
    decision = decide(phase, "t0001", healthy())
    assert decision.verdict == "GO"
    assert {g.status for g in decision.gates} <= {"pass", "not applicable"}


@pytest.mark.parametrize("phase", PHASES.values(), ids=list(PHASES))
def test_nothing_confirmed_is_pause_with_every_gate_unmeasured(phase):
    decision = decide(phase, None, None)
    assert decision.verdict == "PAUSE_AND_FIX"
    assert {g.status for g in decision.gates} == {"not measured"}


def test_a_gate_passes_on_its_interval_not_on_its_mean():
    for half, expected in ((0.005, "pass"), (0.02, "undecided")):
        found = decide(PHASES["phase1"], "t", healthy(quantities={"visual_masking_drop": around(0.06, half)}))
        assert status(found, "visual_masking_drop") == expected
        assert found.verdict == ("GO" if expected == "pass" else "PAUSE_AND_FIX")
    failed = decide(PHASES["phase1"], "t", healthy(quantities={"visual_masking_drop": around(0.01)}))
    assert status(failed, "visual_masking_drop") == "fail"


def test_an_upper_gate_reads_the_upper_end():
    found = decide(PHASES["phase3"], "t", healthy(quantities={"attention_max_share": around(0.399, 0.002)}))
    assert status(found, "attention_max_share") == "undecided"


def test_a_drop_that_passes_without_a_refit_gain_is_fragile_and_never_go():
    evidence = healthy(refit_gain={"visual": around(0.004, 0.01)}, base_refit_gain=around(0.0, 0.01))
    decision = decide(PHASES["phase1"], "t", evidence)
    assert decision.fragile
    assert decision.verdict == "PAUSE_AND_FIX"
    assert any("fragile, not fused" in reason for reason in decision.reasons)


def test_regularisation_does_not_excuse_fragility():
    evidence = healthy(refit_gain={"visual": around(0.0, 0.01)}, importance_regularised=True)
    assert is_fragile(evidence)
    assert decide(PHASES["phase1"], "t", evidence).verdict != "GO"


def test_an_image_with_nothing_to_give_is_archived_in_every_phase():
    evidence = healthy(refit_gain={"visual": around(0.0)}, base_refit_gain=around(0.001))
    for phase in PHASES.values():
        assert decide(phase, "t", evidence).verdict == "ARCHIVE"


def test_the_archive_rule_needs_both_refit_gains():
    assert decide(PHASES["phase1"], "t", healthy(refit_gain={"visual": around(0.0)})).verdict == "PAUSE_AND_FIX"
    unmeasured = healthy(refit_gain={"visual": around(0.0)}, base_refit_gain=None)
    assert not any(rule.holds for rule in decide(PHASES["phase1"], "t", unmeasured).archive_rules)


@pytest.mark.parametrize(
    "changes",
    [{"quantities": {"ndcg_gain": around(0.011)}}, {"over_tuned_v1": around(0.001)}],
    ids=["gain", "tuned V1"],
)
def test_late_archive_rules_are_read_from_phase_3_on(changes):
    assert decide(PHASES["phase3"], "t", healthy(**changes)).verdict == "ARCHIVE"
    assert decide(PHASES["phase1"], "t", healthy(**changes)).verdict != "ARCHIVE"


def test_too_few_queries_fail():
    decision = decide(PHASES["phase3"], "t", healthy(queries=499))
    assert status(decision, "test_queries") == "fail"
    assert decision.verdict == "PAUSE_AND_FIX"


def test_gates_that_do_not_apply_are_neutral_and_those_not_measured_are_not():
    without = decide(PHASES["phase1"], "t", healthy(has_attention=False))
    assert status(without, "attention_max_share") == "not applicable"
    assert without.verdict == "GO"
    with_images = decide(PHASES["phase2"], "t", healthy(has_images=True))
    assert status(with_images, "reconstruction_ssim") == "not measured"
    assert with_images.verdict == "PAUSE_AND_FIX"


def test_the_decision_is_plain_json_without_nan():
    text = json_text(decide(PHASES["phase2"], None, None).as_json())
    assert "NaN" not in text
    assert json.loads(text)["verdict"] == "PAUSE_AND_FIX"
    assert math.isnan(decide(PHASES["phase2"], None, None).gates[0].value)


def test_a_refit_that_changes_nothing_is_no_gain_above_zero():
    for nothing in (around(0.0, 0.0), Interval(0.01, 0.0, 0.02)):
        found = decide(PHASES["phase3"], "t", healthy(refit_gain=healthy().refit_gain | {"metadata": nothing}))
        assert status(found, EARNED) in ("fail", "undecided")
        assert found.verdict == "PAUSE_AND_FIX"
        image = decide(PHASES["phase1"], "t", healthy(refit_gain={"visual": nothing}))
        assert status(image, "resume: importance regularised, or the image's refit gain above 0") != "pass"


def test_a_modality_that_surely_harms_fails_whoever_has_the_lowest_limit():
    gains = {"visual": around(0.03), "text": around(-0.01, 0.002), "metadata": around(0.01, 0.05)}
    assert status(decide(PHASES["phase3"], "t", healthy(refit_gain=gains)), EARNED) == "fail"


def test_only_the_modalities_that_the_finalist_has_must_earn_their_attention():
    two = healthy(refit_gain={"visual": around(0.03), "text": around(0.03)}, modalities=("visual", "text"))
    assert status(decide(PHASES["phase3"], "t", two), EARNED) == "pass"


def test_a_recipe_that_sometimes_fails_to_train_is_not_go():
    found = decide(PHASES["phase1"], "t", healthy(trainings=(17, 18)))
    assert status(found, "every training behind the verdict finished") == "fail"
    assert found.verdict == "PAUSE_AND_FIX"
    assert decide(PHASES["phase1"], "t", healthy(trainings=(18, 18))).verdict == "GO"


def test_attention_on_an_empty_modality_is_not_earned():
    gains = {"visual": around(0.03), "text": around(0.03), "metadata": around(0.0)}
    name = EARNED
    found = decide(PHASES["phase3"], "t", healthy(refit_gain=gains))
    assert (status(found, name), found.verdict) == ("undecided", "PAUSE_AND_FIX")
    assert decide(PHASES["phase1"], "t", healthy(refit_gain=gains)).verdict == "GO"
    unmeasured = decide(PHASES["phase3"], "t", healthy(refit_gain={"visual": around(0.03)}))
    assert (status(unmeasured, name), unmeasured.verdict) == ("not measured", "PAUSE_AND_FIX")


def test_the_size_of_the_test_split_is_not_asked_where_another_split_decides():
    found = decide(PHASES["phase1"], "t", healthy(queries=None))
    assert status(found, "resume: queries") == "not applicable"
    assert found.verdict == "GO"
    assert status(decide(PHASES["phase1"], "t", healthy(queries=40)), "resume: queries") == "fail"
