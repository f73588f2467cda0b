"""The first screen and what would flip the verdict say what the decision says: verdict, rules, gates, need."""

import dataclasses
import io
import json

import pytest
from report_folders import PHASE, decided, judged
from rich.console import Console

from fusion_models.metrics import Interval
from search.analysis.decision import decide
from search.analysis.judged import Lead, Probe
from search.analysis.measure import smallest
from search.api import Result
from search.pipeline.summary import print_gates
from search.reporting import read_run
from search.reporting.charts.flip import flip
from search.reporting.charts.standing import sentences
from search.reporting.decision_page import decision_text
from search.reporting.words import meaning
from search.run_store.folder import json_text
from spaces import ROADMAP_STEPS, phase_to_plain

GAIN = {"ndcg_gain": Interval(0.01, 0.005, 0.012)}
AHEAD = Lead(rival="weighted sum with V1", interval=Interval(-0.02, -0.03, -0.01), with_suspect=True)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A decided run: `shown` takes its verdict again from other evidence."""
    return read_run(decided(tmp_path_factory.mktemp("first") / "phase3").path)


def shown(run, phase=PHASE, **changes):
    """The run with the decision that other evidence comes to."""
    evidence = dataclasses.replace(judged({**GAIN, "visual_masking_drop": Interval(0.08, 0.07, 0.09)}), **changes)
    decision = json.loads(json_text(decide(phase, "t0004", evidence, {}).as_json()))
    gains = {m: {"mean": i.mean, "ci_low": i.low, "ci_high": i.high} for m, i in evidence.refit_gain.items()}
    return dataclasses.replace(run, decision=decision, evidence=run.evidence | {"refit_gain": gains})


def archive(**changes):
    return dataclasses.replace(judged({}).archive, ndcg_gain=Interval(0.0, -0.005, 0.005), probes=(), **changes)


def test_where_a_rule_holds_and_archives_the_page_says_so(known):
    run = shown(known, archive=archive(), rivals={})
    assert run.decision["verdict"] == "ARCHIVE"
    assert sentences(run)[-1].startswith("An archive rule holds, and one is enough: the gain over V1 stays")
    assert any(note.startswith("ARCHIVE falls where") for note in flip(run).notes)
    assert not any(note.startswith(("ARCHIVE needs", "ARCHIVE is held")) for note in flip(run).notes)
    assert "holds: ends V2" in set(flip(run).table["status"])


def test_where_a_rule_holds_and_is_held_off_the_page_counts_gates_and_says_why(known):
    run = shown(known, archive=archive(), rivals={"sum": AHEAD})
    assert run.decision["verdict"] == "PAUSE_AND_FIX"
    said = sentences(run)[-1]
    assert "one is enough" not in said
    assert "gates passed" in said
    assert "no ARCHIVE, for the ranker does not see what weighted sum with V1 sees: it leads by 0.0200" in said
    notes = flip(run).notes
    assert not any(note.startswith("ARCHIVE falls") for note in notes)
    (held,) = [note for note in notes if note.startswith("ARCHIVE is held off although “the gain over V1")]
    assert "the ranker does not see what weighted sum with V1 sees" in held
    assert "holds: ends V2" not in set(flip(run).table["status"])


def test_a_rule_whose_bound_is_there_and_that_does_not_hold_says_what_keeps_it(known):
    """The rule "no rise": the drop surely does not rise, but the base recipe's own does not fail."""
    flat = dataclasses.replace(
        judged({}).archive, drop_rise=Interval(-0.02, -0.03, -0.01), base_drop=Interval(0.2, 0.15, 0.25)
    )
    run = shown(known, ROADMAP_STEPS["phase1"], archive=flat)
    assert not any("now −0.0100, below" in note for note in flip(run).notes)
    (said,) = [note for note in flip(run).notes if "does not raise what visual contributes" in note]
    assert "does not hold, though its bound −0.0100 is below 0.000: the base recipe's own drop does not fail" in said


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (Interval(0.02, 0.01, 0.03), "so it has come to need it"),
        (Interval(0.0023, 0.0002, 0.0044), "which is above 0, but not surely the 0.005 that count"),
        (Interval(0.0, -0.01, 0.01), "which cannot be told from 0"),
        (Interval(-0.02, -0.03, -0.01), "so it is better off without it"),
    ],
)
def test_what_the_image_is_worth_is_said_as_the_gate_reads_it(known, gain, said):
    run = shown(known, refit_gain={"visual": gain})
    assert said in " ".join(sentences(run))
    (gate,) = [g for g in run.decision["gates"] if g["key"] == "resume: refit gain"]
    assert (gate["status"] == "pass") == ("come to need it" in said)


def test_a_ranker_of_which_no_refit_was_measured_is_not_told_that_it_does_not_need_the_image(known):
    run = dataclasses.replace(shown(known, refit_gain={}), run=known.run | {"phase": "audit"})
    said = " ".join(sentences(run))
    assert "fragile" not in said
    assert "what the image is worth to a V2 retrained without it was not measured" in said
    fragile = " ".join(sentences(shown(known, refit_gain={"visual": Interval(0.0, -0.01, 0.01)})))
    assert "it breaks without the image, and is not surely worse when retrained without" in fragile


def test_an_audit_names_the_training_that_is_released(known):
    audited = dataclasses.replace(known, run=known.run | {"phase": "audit"})
    named = dataclasses.replace(audited, evidence=audited.evidence | {"released": ["42", "7"]})
    assert sentences(audited)[0].startswith("The V2 that was given, 4 trainings averaged,")
    assert sentences(named)[0].startswith("The V2 that was given (trainings 42, 7), 4 trainings averaged,")


def test_an_undecided_gate_is_drawn_inside_the_band_however_lopsided_its_interval(known):
    gains = {"visual": Interval(0.01, 0.006, 0.014), "text": Interval(0.03, 0.004, 0.056)}
    worst = smallest(list(gains.values()))
    assert (worst.low, worst.high) == (0.004, 0.014)
    lopsided = {"v1_correlation": Interval(0.80, 0.79, 0.95), "attention_max_share": Interval(0.30, 0.10, 0.31)}
    run = shown(known, refit_gain=gains, modalities=("visual", "text"), quantities=lopsided)
    table = flip(run).table
    gates = table[(table["kind"] == "gate") & table["half_widths"].notna()]
    row = gates[gates["name"] == "smallest refit gain"].iloc[0]
    assert row["status"] == "undecided"
    assert row["half_widths"] == pytest.approx(0.005 / 0.006)
    assert {"pass", "undecided"} <= set(gates["status"])
    for _, gate in gates.iterrows():
        where = "undecided" if abs(gate["half_widths"]) < 1 else "pass" if gate["half_widths"] > 0 else "fail"
        assert where == gate["status"], gate["name"]


@pytest.mark.parametrize("verdict", ["GO", "PAUSE_AND_FIX", "ARCHIVE"])
@pytest.mark.parametrize("audited", [False, True])
@pytest.mark.parametrize("name", ROADMAP_STEPS)
def test_only_a_go_of_phase_4_reads_as_a_release(known, name, audited, verdict):
    phase = dataclasses.replace(PHASE, name=name)
    run = dataclasses.replace(
        known,
        run=known.run | {"definition": phase_to_plain(phase)} | ({"phase": "audit"} if audited else {}),
        decision=known.decision | {"verdict": verdict},
    )
    decision = dataclasses.replace(decide(phase, "t0004", judged(GAIN), {}), verdict=verdict)
    console = Console(file=io.StringIO(), width=200)
    print_gates(console, decision, "test split", meaning(verdict, name, audited=audited))
    ticket = decision_text(phase, decision, "test split", audited=audited)
    result = Result(run.path)
    result.description, result.decision = run.run, run.decision
    for text in (" ".join(sentences(run)), ticket, console.file.getvalue(), result._repr_html_()):
        assert ("GO here means: " in text) == (verdict == "GO")
        if verdict == "GO":
            assert ("This is no release" in text) == (audited or name != "phase4")
            assert ("release it, to 5 %" in text) == (not audited and name == "phase4")


def test_two_rules_that_hold_are_counted_and_held_off_once(known):
    both = archive(over_tuned_v1=Interval(0.0, -0.004, 0.001))
    earns = Probe(name="LambdaMART", gain=Interval(0.02, 0.015, 0.025), counts=True)
    run = shown(known, archive=dataclasses.replace(both, probes=(earns,)), rivals={"sum": AHEAD})
    assert run.decision["verdict"] == "PAUSE_AND_FIX"
    said = sentences(run)[-1]
    assert len([rule for rule in run.decision["archive_rules"] if rule["holds"]]) > 1
    assert " do (the gain" in said
    assert "One does" not in said
    assert said.count("no ARCHIVE, for") == 1
    assert "weighted sum with V1 sees" in said
    assert "the probe LambdaMART sees" in said


def test_a_rival_has_one_interval_on_the_first_screen_at_a_later_look(known):
    """The gate and the warning read rivals at 95 %, evidence.json at the level of the look."""
    wide = {"base": {"rival": "the base recipe", "mean": -0.025, "ci_low": -0.051, "ci_high": 0.001}}
    run = dataclasses.replace(known, evidence=known.evidence | {"leads": wide})
    (said,) = [sentence for sentence in sentences(run) if sentence.startswith("Its lead is")]
    assert said.startswith("Its lead is −0.0250 [−0.0400, −0.0100] over the base recipe")
    assert said.endswith("(intervals of 95 %, as at every look).")
    early = dataclasses.replace(run, decision=run.decision | {"gates": []})
    (said,) = [sentence for sentence in sentences(early) if sentence.startswith("Its lead is")]
    assert said.endswith("[−0.0510, +0.0010] over the base recipe (the V2 you have) (intervals of 99.24 %).")


@pytest.mark.parametrize(
    ("phase", "finalist", "said"),
    [
        ("phase3", None, "No recipe was retrained with fresh seeds"),
        ("phase3", "t0004", "The short list was retrained, but not its finalist"),
        ("phase4", None, "Phase 3 left nothing to validate"),
    ],
)
def test_why_nothing_was_judged_is_said_as_it_was(known, phase, finalist, said):
    definition = phase_to_plain(dataclasses.replace(PHASE, name=phase))
    decision = json.loads(json_text(decide(PHASE, finalist, None).as_json()))
    run = dataclasses.replace(known, run=known.run | {"definition": definition}, decision=decision, evidence=None)
    assert sentences(run)[0].startswith(said)


@pytest.mark.parametrize(("phase", "way"), [("audit", "The same command, given again"), ("phase3", "with --resume")])
def test_an_unfinished_page_says_a_way_on_that_there_is(known, phase, way):
    said = " ".join(sentences(dataclasses.replace(known, run=known.run | {"phase": phase}, decision=None)))
    assert way in said
    assert ("--resume" in said) == (phase != "audit")


@pytest.mark.parametrize(
    ("quantity", "needs"),
    [
        ("queries", "more judged test queries"),
        ("integrity_open", "every check passes"),
        ("ablation_open", "every component measured"),
        ("latency_p95_ms", "a faster way to run it"),
        ("ndcg_gain", "another recipe for what failed"),
    ],
)
def test_what_failed_is_mended_by_what_can_mend_it(known, quantity, needs):
    gate = known.decision["gates"][0] | {"quantity": quantity, "status": "fail", "name": f"the {quantity}"}
    run = dataclasses.replace(known, decision=known.decision | {"gates": [gate]})
    (said,) = [note for note in flip(run).notes if "GO needs" in note]
    assert needs in said
    assert ("another recipe" in said) == (quantity == "ndcg_gain")
    audited = dataclasses.replace(run, run=run.run | {"phase": "audit"})
    assert not any("recipe for" in note for note in flip(audited).notes)


def test_a_rule_that_was_not_measured_cannot_hold(known):
    rules = [rule | {"measured": False, "holds": False} for rule in known.decision["archive_rules"]]
    run = dataclasses.replace(known, decision=known.decision | {"archive_rules": rules})
    for note in flip(run).notes:
        assert "never a pass" not in note or "rule" not in note
    assert any(
        note.startswith("Archive rules that were not measured, so none of them holds: “") for note in flip(run).notes
    )
