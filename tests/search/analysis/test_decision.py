"""The decision as a pure function: every verdict, every status, from intervals given by hand."""

import dataclasses
import json
import math

import pytest

from fusion_models.metrics import Interval
from fusion_models.metrics.intervals.interval import Variance
from fusion_models.probes import TREES
from search.analysis.decision import decide, is_fragile
from search.analysis.judged import ArchiveEvidence, Cold, Evidence, Lead, Probe, read_judged, write_judged
from search.analysis.measure import at_level
from search.run_store.folder import json_text
from search.run_store.looks import Look
from spaces import PHASES, ROADMAP_STEPS

EARNED = "every modality earns its place (smallest refit gain)"
WORTH = "resume: refit gain"


def around(mean, half=0.002):
    return Interval(mean, mean - half, mean + half)


def archive(**changes):
    found = ArchiveEvidence(
        refit_gain=around(0.03),
        base_refit_gain=around(0.02),
        probes=(Probe(name="trees", gain=around(0.02), counts=True), Probe(name="net", gain=around(0.03), counts=True)),
        ndcg_gain=around(0.06),
        over_tuned_v1=around(0.04),
        base_drop=around(0.02),
        drop_rise=around(0.06),
    )
    return dataclasses.replace(found, **changes)


def nothing(**changes):
    """An image that nobody earns anything from."""
    probes = (Probe(name=TREES, gain=around(0.0), counts=True), Probe(name="net", gain=around(0.0, 0.5), counts=False))
    return archive(refit_gain=around(0.0), base_refit_gain=around(0.001), probes=probes, **changes)


def met(gate):
    """An interval that passes the gate, so that a gate which is added to a phase finds its quantity here."""
    return around(gate.threshold + 0.01 if gate.at_least is not None else gate.threshold - 0.01)


def healthy(**changes):
    gates = [gate for phase in PHASES.values() for gate in (*phase.gates, *phase.resume_gates)]
    quantities = {gate.quantity: met(gate) for gate in gates if gate.needs != "images" and gate.quantity != "queries"}
    quantities |= {
        "ndcg_gain": around(0.06),
        "visual_masking_drop": around(0.08),
        "attention_max_share": around(0.37),
        "attention_min_share": around(0.29),
        "v1_correlation": around(0.80),
        "v1_spearman_mean": around(0.80),
    }
    evidence = Evidence(
        quantities=quantities | changes.pop("quantities", {}),
        refit_gain={"visual": around(0.03), "text": around(0.03), "metadata": around(0.01)},
        archive=archive(),
        strongest_blind=Lead(rival="tuned V1", interval=around(0.03)),
        rivals={
            "base": Lead(rival="the base recipe", interval=around(0.01)),
            "trees": Lead(rival="LambdaMART", interval=around(0.01), with_suspect=True),
            "sum": Lead(rival="weighted sum with V1", interval=around(0.02), with_suspect=True),
        },
        queries=600,
        has_images=False,
        members=4,
        fewest=5,
    )
    return dataclasses.replace(evidence, **changes)


def status(decision, name):
    return next(gate.status for gate in decision.gates if name in (gate.name, gate.key))


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
    evidence = healthy(refit_gain={"visual": around(0.004, 0.01)})
    decision = decide(PHASES["phase1"], "t", evidence)
    assert decision.fragile
    assert decision.verdict == "PAUSE_AND_FIX"
    assert any("fragile, not fused" in reason for reason in decision.reasons)


@pytest.mark.parametrize("phase", ROADMAP_STEPS.values(), ids=list(ROADMAP_STEPS))
def test_a_drop_that_passes_where_no_refit_was_measured_is_not_called_fragile_and_is_never_go(phase):
    evidence = healthy(refit_gain={})
    assert not is_fragile(phase, evidence)
    decision = decide(phase, "t", evidence)
    assert not decision.fragile
    assert decision.verdict == "PAUSE_AND_FIX"
    assert status(decision, WORTH) == "not measured"
    assert "blanking visual costs enough; whether the ranker needs it no refit has measured" in decision.reasons
    unbroken = decide(phase, "t", healthy(refit_gain={}, quantities={"visual_masking_drop": around(0.01)}))
    assert not any("no refit" in reason for reason in unbroken.reasons)


def test_nothing_excuses_fragility():
    evidence = healthy(refit_gain={"visual": around(0.0, 0.01)})
    assert is_fragile(PHASES["phase1"], evidence)
    assert decide(PHASES["phase1"], "t", evidence).verdict != "GO"


def test_an_image_with_nothing_to_give_is_archived_in_every_phase():
    evidence = healthy(refit_gain={"visual": around(0.0)}, archive=nothing())
    for phase in PHASES.values():
        assert decide(phase, "t", evidence).verdict == "ARCHIVE"


def test_the_archive_rule_needs_both_refit_gains():
    only_mine = archive(refit_gain=around(0.0), probes=nothing().probes)
    assert decide(PHASES["phase1"], "t", healthy(archive=only_mine)).verdict != "ARCHIVE"
    unmeasured = healthy(archive=dataclasses.replace(nothing(), base_refit_gain=None))
    assert not any(rule.holds for rule in decide(PHASES["phase1"], "t", unmeasured).archive_rules)


def test_nothing_to_give_needs_a_probe_outside_the_family_that_would_see_it():
    """The family may be blind to how the image is coded; trees that see it keep V2 from the archive."""
    seen = (Probe(name="trees", gain=around(0.0109, 0.004), counts=True),)
    assert (
        decide(PHASES["phase3"], "t", healthy(archive=dataclasses.replace(nothing(), probes=seen))).verdict != "ARCHIVE"
    )
    blind = tuple(dataclasses.replace(probe, counts=False) for probe in nothing().probes)
    found = decide(PHASES["phase3"], "t", healthy(archive=dataclasses.replace(nothing(), probes=blind)))
    rule = next(rule for rule in found.archive_rules if rule.key == "nothing to give")
    assert (rule.holds, rule.measured) == (False, False)
    assert "no probe finds a signal" in rule.note
    assert found.verdict != "ARCHIVE"
    earns = (*nothing().probes, Probe(name="products", gain=around(0.02, 0.004), counts=False))
    found = decide(PHASES["phase3"], "t", healthy(archive=dataclasses.replace(nothing(), probes=earns)))
    assert found.verdict != "ARCHIVE", "what a probe surely earns counts, whatever it finds of a planted signal"


def test_no_archive_where_a_rival_with_the_image_surely_leads():
    ahead = healthy().rivals | {"trees": Lead(rival="LambdaMART", interval=around(-0.008, 0.005), with_suspect=True)}
    trees = next(probe for probe in nothing().probes if probe.name == TREES)
    products = Probe(name="products", gain=around(0.0), counts=True)

    def decided(probe, rivals=ahead):
        probes = dataclasses.replace(nothing(), probes=(probe, products))
        return decide(PHASES["phase3"], "t", healthy(archive=probes, rivals=rivals))

    unsure = dataclasses.replace(trees, gain=around(0.003, 0.004), counts=False)
    found = decided(unsure)
    assert found.verdict == "PAUSE_AND_FIX"
    assert any("does not see what LambdaMART sees" in reason for reason in found.reasons)
    without = {"trees": dataclasses.replace(ahead["trees"], with_suspect=False)}
    assert decided(unsure, ahead | without).verdict == "ARCHIVE"
    for counts in (True, False):  # trees that surely earn nothing from the image lead by something else
        assert decided(dataclasses.replace(trees, counts=counts)).verdict == "ARCHIVE"
    by_sum = healthy().rivals | {"sum": Lead(rival="sum", interval=around(-0.012, 0.005), with_suspect=True)}
    assert decided(dataclasses.replace(trees, counts=True), by_sum).verdict == "ARCHIVE"
    found = decided(dataclasses.replace(trees, counts=False), by_sum)
    assert found.verdict == "PAUSE_AND_FIX", "its image part is no tree, and may see what trees are blind to"


@pytest.mark.parametrize("changes", [{"ndcg_gain": around(0.011)}, {"over_tuned_v1": around(-0.001)}])
@pytest.mark.parametrize("counts", [True, False])
def test_no_archive_by_any_rule_where_a_probe_surely_earns_what_the_ranker_does_not(changes, counts):
    """A ranker blind to a sign-coded image gains what a tuned V1 gains; the image is worth 0.05 all the same."""
    probes = (nothing().probes[0], Probe(name="products", gain=around(0.045, 0.006), counts=counts))
    blind = archive(refit_gain=around(0.002), base_refit_gain=around(0.001), probes=probes, **changes)
    found = decide(PHASES["phase3"], "t", healthy(archive=blind))
    assert found.verdict == "PAUSE_AND_FIX"
    assert any("does not see what the probe products sees" in reason for reason in found.reasons)
    sees = dataclasses.replace(blind, refit_gain=around(0.04, 0.01))
    assert decide(PHASES["phase3"], "t", healthy(archive=sees)).verdict == "ARCHIVE", "the ranker sees it too"

    def decided(gain):
        return decide(
            PHASES["phase3"],
            "t",
            healthy(archive=dataclasses.replace(blind, probes=(probes[0], dataclasses.replace(probes[1], gain=gain)))),
        ).verdict

    assert decided(around(0.006, 0.0035)) == "PAUSE_AND_FIX", (
        "surely something, though not surely 0.005 (a planted world)"
    )
    assert decided(around(0.006, 0.0065)) == "ARCHIVE", "perhaps nothing"
    assert decided(around(0.004, 0.0015)) == "ARCHIVE", "less than counts as something"


def test_phase_1_archives_only_where_the_base_recipe_s_own_drop_fails_and_no_probe_earns():
    flat = archive(drop_rise=around(-0.01), base_drop=around(0.01), probes=nothing().probes)
    evidence = healthy(archive=flat)
    assert decide(PHASES["phase1"], "t", evidence).verdict == "ARCHIVE"
    assert decide(PHASES["phase3"], "t", evidence).verdict != "ARCHIVE"
    for changes in ({"base_drop": around(0.08)}, {"probes": archive().probes}, {"drop_rise": around(0.001, 0.01)}):
        kept = healthy(archive=dataclasses.replace(flat, **changes))
        assert decide(PHASES["phase1"], "t", kept).verdict != "ARCHIVE", changes


@pytest.mark.parametrize(
    "changes",
    [{"ndcg_gain": around(0.011)}, {"over_tuned_v1": around(0.001)}],
    ids=["gain", "tuned V1"],
)
def test_late_archive_rules_are_read_from_phase_3_on(changes):
    evidence = healthy(archive=archive(**changes))
    assert decide(PHASES["phase3"], "t", evidence).verdict == "ARCHIVE"
    assert decide(PHASES["phase1"], "t", evidence).verdict != "ARCHIVE"


@pytest.mark.parametrize(
    ("rule", "better", "listed", "enough"),
    [
        ("gain", "ndcg_gain", "best_listed_gain", 0.03),
        ("tuned V1", "over_tuned_v1", "best_listed_over_tuned_v1", 0.02),
    ],
)
def test_late_archive_rules_hold_only_where_they_hold_for_the_best_of_the_short_list(rule, better, listed, enough):
    """The finalist is chosen for its gates: a recipe that missed one of them may gain what V2 is to gain."""

    def verdict(interval):
        found = archive(**{better: around(0.001), "best_listed": "t0007", listed: interval})
        decision = decide(PHASES["phase3"], "t", healthy(archive=found))
        return decision.verdict, next(r for r in decision.archive_rules if r.key == rule)

    for interval, said in ((around(enough), "t0007 of the short list: +0.0"), (None, "t0007 of the short list is not")):
        found, read = verdict(interval)
        assert (found != "ARCHIVE", read.holds) == (True, False)
        assert read.note.startswith(said)
    assert verdict(around(0.002))[0] == "ARCHIVE"


def test_too_few_queries_fail():
    decision = decide(PHASES["phase3"], "t", healthy(queries=499))
    assert status(decision, "resume: queries") == "fail"
    assert decision.verdict == "PAUSE_AND_FIX"


def test_gates_that_do_not_apply_are_neutral_and_those_not_measured_are_not():
    without = decide(PHASES["phase2"], "t", healthy(has_images=False))
    assert status(without, "reconstruction_ssim") == "not applicable"
    assert without.verdict == "GO"
    with_images = decide(PHASES["phase2"], "t", healthy(has_images=True))
    assert status(with_images, "reconstruction_ssim") == "not measured"
    assert with_images.verdict == "PAUSE_AND_FIX"


def test_a_variant_without_attention_is_judged_by_its_shapley_shares():
    shares = {"visual": around(0.3, 0.02), "text": around(0.36, 0.02), "metadata": around(0.34, 0.02)}
    found = decide(PHASES["phase3"], "t", healthy(has_attention=False, shapley_share=shares))
    assert (status(found, "attention_min_share"), status(found, "attention_max_share")) == ("pass", "pass")
    unmeasured = decide(PHASES["phase3"], "t", healthy(has_attention=False))
    assert status(unmeasured, "attention_min_share") == "not measured"
    assert unmeasured.verdict == "PAUSE_AND_FIX"
    uneven = shares | {"metadata": around(0.05, 0.02)}
    failed = decide(PHASES["phase3"], "t", healthy(has_attention=False, shapley_share=uneven))
    assert status(failed, "attention_min_share") == "fail"


def test_a_correlation_lowered_without_moving_one_rank_does_not_pass():
    found = decide(
        PHASES["phase1"], "t", healthy(quantities={"v1_correlation": around(0.42), "v1_spearman_mean": around(0.999)})
    )
    assert status(found, "resume: V1 correlation") == "pass"
    assert status(found, "resume: V1 rank correlation") == "fail"
    assert found.verdict == "PAUSE_AND_FIX"


def test_go_needs_a_lead_over_the_strongest_ranker_without_the_image():
    """V1 reads the image already: a lead over tuned V1 of 0.0005 is no reason to go on."""
    found = decide(
        PHASES["phase3"], "t", healthy(strongest_blind=Lead(rival="tuned V1", interval=around(0.0005, 0.007)))
    )
    assert status(found, "lead: blind") == "undecided"
    assert found.verdict == "PAUSE_AND_FIX"
    unmeasured = decide(PHASES["phase3"], "t", healthy(strongest_blind=None))
    assert (status(unmeasured, "lead: blind"), unmeasured.verdict) == ("not measured", "PAUSE_AND_FIX")
    assert decide(PHASES["phase1"], "t", healthy(strongest_blind=None)).verdict == "GO"


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (Interval(-0.0077, -0.0134, -0.0021), "fail"),
        (Interval(-0.004, -0.007, -0.001), "pass"),
        (Interval(-0.02, -0.05, 0.01), "undecided"),
        (Interval(0.03, -0.01, 0.07), "undecided"),
        (Interval(0.03, 0.0, 0.06), "pass"),
        (Interval(0.03, -0.005, 0.065), "pass"),
        (Interval(-0.004, -0.015, 0.007), "pass"),
        (None, "not measured"),
    ],
)
@pytest.mark.parametrize("role", ["base", "trees", "sum"])
def test_a_rival_that_surely_leads_fails_v2_and_one_that_is_not_measured_is_no_pass(role, interval, expected):
    lead = None if interval is None else Lead(rival=role, interval=interval)
    found = decide(PHASES["phase3"], "t", healthy(rivals=healthy().rivals | {role: lead}))
    assert status(found, f"rival: {role}") == expected
    assert (found.verdict == "GO") == (expected == "pass")
    assert decide(PHASES["phase1"], "t", healthy(rivals={role: lead})).verdict == "GO"


def drawn(mean, half, level):
    """An interval over many queries whose half-width at 95 % is `half`, as a look of this level reads it."""
    error = half / 1.96
    found = Interval(mean, mean - half, mean + half, 0.95, Variance(query=error**2, query_df=1e6, queries=1000))
    return at_level(found, level)


@pytest.mark.parametrize("number", [1, 2, 10])
@pytest.mark.parametrize("role", ["base", "trees", "sum"])
def test_no_further_look_makes_a_rival_s_gate_easier(role, number):
    """A lead of 0.0077 [0.0021, 0.0134] of LambdaMART failed V2 at the first look and passed it from the second on."""
    level = Look(number=number).level
    ahead = healthy().rivals | {role: Lead(rival=role, interval=drawn(-0.0077, 0.0056, level), with_suspect=True)}
    found = decide(PHASES["phase3"], "t", healthy(rivals=ahead))
    assert status(found, f"rival: {role}") == "fail"
    gate = next(gate for gate in found.gates if gate.key == f"rival: {role}")
    assert gate.ci_high == pytest.approx(-0.0021, abs=1e-4)
    assert gate.note.endswith("at 95%, as at every look")
    assert bool(found.warnings) == (role == "base")
    narrow = healthy().rivals | {role: Lead(rival=role, interval=drawn(0.0, 0.019, level))}
    assert status(decide(PHASES["phase3"], "t", healthy(rivals=narrow)), f"rival: {role}") == "pass"
    wide = healthy().rivals | {role: Lead(rival=role, interval=drawn(0.0, 0.021, level))}
    assert status(decide(PHASES["phase3"], "t", healthy(rivals=wide)), f"rival: {role}") == "undecided"


@pytest.mark.parametrize("number", [1, 2, 10])
def test_what_holds_an_end_of_v2_off_does_not_weaken_with_looks(number):
    level = Look(number=number).level
    tuned = {"over_tuned_v1": around(0.001)}
    ahead = healthy().rivals | {
        "trees": Lead(rival="LambdaMART", interval=drawn(-0.0077, 0.0056, level), with_suspect=True)
    }
    led = decide(PHASES["phase3"], "t", healthy(rivals=ahead, archive=archive(**tuned)))
    assert led.verdict == "PAUSE_AND_FIX"
    share = 1.0 - (1.0 - level) / 3
    earns = (Probe(name="products", gain=drawn(0.045, 0.034, share), counts=True),)
    blind = archive(refit_gain=around(0.002), base_refit_gain=around(0.001), probes=earns, **tuned)
    assert decide(PHASES["phase3"], "t", healthy(archive=blind)).verdict == "PAUSE_AND_FIX"


def test_a_search_that_found_less_than_the_base_recipe_says_so():
    worse = healthy().rivals | {"base": Lead(rival="the base recipe", interval=Interval(-0.025, -0.04, -0.01))}
    found = decide(PHASES["phase3"], "t", healthy(rivals=worse))
    assert found.warnings == ("the search bought nothing over the V2 you have: -0.025 [-0.040, -0.010]",)


def test_a_refit_gain_of_noise_is_not_enough():
    """An image of pure noise once read +0.0023 [+0.0002, +0.0044]: above 0, and nothing."""
    noise = {"visual": Interval(0.0023, 0.0002, 0.0044)}
    for phase in PHASES.values():
        found = decide(phase, "t", healthy(refit_gain=healthy().refit_gain | noise))
        assert status(found, WORTH) == "fail"
        assert found.verdict != "GO"


def test_where_items_recur_gains_must_show_on_items_that_no_training_saw():
    gains = {"visual": around(0.02), "text": around(0.02), "metadata": around(0.01)}
    cold = Cold(needed=True, queries=300, gain=around(0.03), refit_gain=gains)
    assert decide(PHASES["phase3"], "t", healthy(cold=cold)).verdict == "GO"
    by_heart = dataclasses.replace(cold, refit_gain=gains | {"visual": Interval(-0.102, -0.11, -0.09)})
    found = decide(PHASES["phase3"], "t", healthy(cold=by_heart))
    assert (status(found, "cold: visual"), found.verdict) == ("fail", "PAUSE_AND_FIX")
    few = decide(PHASES["phase3"], "t", healthy(cold=Cold(needed=True, queries=1)))
    assert (status(few, "cold: gain"), few.verdict) == ("not measured", "PAUSE_AND_FIX")
    closed = decide(PHASES["phase3"], "t", healthy(closed_catalogue=True))
    assert (status(closed, "cold: gain"), closed.verdict) == ("not applicable", "GO")
    assert any("closed catalogue" in warning for warning in closed.warnings)
    assert closed.as_json()["closed_catalogue"]
    assert not few.as_json()["closed_catalogue"]


def test_fewer_fresh_trainings_than_an_ensemble_s_spread_needs_are_no_go():
    for fewest, members, expected in ((5, 4, "GO"), (4, 3, "PAUSE_AND_FIX"), (6, 6, "PAUSE_AND_FIX"), (7, 6, "GO")):
        assert decide(PHASES["phase3"], "t", healthy(fewest=fewest, members=members)).verdict == expected


def test_what_was_judged_can_be_read_back_and_judged_again(tmp_path):
    evidence = healthy(
        cold=Cold(needed=True, queries=3, gain=Interval(0.1, -math.inf, math.inf)),
        shapley_share={"visual": Interval(math.nan, 0.0, 1.0)},
        queries=None,
    )
    write_judged(evidence, tmp_path)
    again = read_judged(tmp_path)
    assert repr(again) == repr(evidence)  # NaN is not equal to itself
    assert decide(PHASES["phase3"], "t", again).verdict == decide(PHASES["phase3"], "t", evidence).verdict
    with pytest.raises(ValueError, match=r"no judged\.json"):
        read_judged(tmp_path / "nowhere")


def test_the_decision_is_plain_json_without_nan():
    text = json_text(decide(PHASES["phase2"], None, None).as_json())
    assert "NaN" not in text
    assert json.loads(text)["verdict"] == "PAUSE_AND_FIX"
    assert math.isnan(decide(PHASES["phase2"], None, None).gates[0].value)


def test_a_refit_that_changes_nothing_is_no_gain():
    for worthless in (around(0.0, 0.0), Interval(0.01, 0.0, 0.02)):
        found = decide(PHASES["phase3"], "t", healthy(refit_gain=healthy().refit_gain | {"metadata": worthless}))
        assert status(found, EARNED) in ("fail", "undecided")
        assert found.verdict == "PAUSE_AND_FIX"
        image = decide(PHASES["phase1"], "t", healthy(refit_gain={"visual": worthless}))
        assert status(image, WORTH) != "pass"


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
    assert (status(found, name), found.verdict) == ("fail", "PAUSE_AND_FIX")
    assert decide(PHASES["phase1"], "t", healthy(refit_gain=gains)).verdict == "GO"
    unmeasured = decide(PHASES["phase3"], "t", healthy(refit_gain={"visual": around(0.03)}))
    assert (status(unmeasured, name), unmeasured.verdict) == ("not measured", "PAUSE_AND_FIX")


def test_the_size_of_the_test_split_is_not_asked_where_another_split_decides():
    found = decide(PHASES["phase1"], "t", healthy(queries=None))
    assert status(found, "resume: queries") == "not applicable"
    assert found.verdict == "GO"
    assert status(decide(PHASES["phase1"], "t", healthy(queries=40)), "resume: queries") == "fail"
