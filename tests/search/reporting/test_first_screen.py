"""The first screen and what would flip the verdict say what the decision says: verdict, rules, gates, need."""

import dataclasses
import json

import pytest
from report_folders import PHASE, decided, judged

from fusion_models.metrics import Interval
from search.analysis.decision import decide
from search.analysis.judged import Lead
from search.analysis.measure import smallest
from search.reporting import read_run
from search.reporting.charts.flip import flip
from search.reporting.charts.standing import sentences
from search.run_store.folder import json_text
from spaces import ROADMAP_STEPS

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
