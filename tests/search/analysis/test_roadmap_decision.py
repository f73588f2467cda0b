"""The roadmap's verdict reads its phases' verdicts: pure, so its rules are tested on written decisions."""

import dataclasses
import json

from search.analysis.roadmap_decision import PhaseVerdict, decide_roadmap, stops
from search.reporting.decision_page import roadmap_text
from search.run_store.folder import json_text

PLANNED = ("phase1", "phase2", "phase3", "phase4")
TEST = ("phase3", "phase4")
FACTS = {"v1_stable": "pass", "resources": "pass"}


def phase(name, verdict, *, fragile=False, facts=FACTS):
    said = PhaseVerdict(
        phase=name,
        title=name.title(),
        verdict=verdict,
        fragile=fragile,
        finalist=f"{name}-t1",
        decided_on="test split" if name in TEST else "deciding half of validation",
        reasons=(f"why {name}",),
    )
    rule = {"name": "the image has nothing to give", "value": 0.001, "ci_high": 0.004, "threshold": 0.005}
    rule |= {"holds": verdict == "ARCHIVE", "measured": True}
    gate = {"name": "ndcg_gain", "value": 0.02, "status": "pass"}
    return name, (said, {"verdict": verdict, "gates": [gate], "archive_rules": [rule], "facts": facts})


def decide(*verdicts, **changes):
    done = dict(phase(name, verdict, **changes) for name, verdict in zip(PLANNED, verdicts, strict=False))
    return decide_roadmap(PLANNED, done, releasing=TEST)


def test_go_needs_the_phases_on_the_test_split_and_not_those_before():
    assert decide("PAUSE_AND_FIX", "PAUSE_AND_FIX", "GO", "GO").verdict == "GO"
    assert decide("GO", "GO", "PAUSE_AND_FIX", "GO").verdict == "PAUSE_AND_FIX"
    assert decide("GO", "GO", "GO", "PAUSE_AND_FIX").verdict == "PAUSE_AND_FIX"


def test_go_needs_every_phase_and_every_business_fact():
    short = decide("GO", "GO", "GO")
    assert short.verdict == "PAUSE_AND_FIX"
    assert short.not_run == ("phase4",)
    assert "not run: phase4" in short.reasons
    open_fact = decide("GO", "GO", "GO", "GO", facts=FACTS | {"resources": "not measured"})
    assert open_fact.verdict == "PAUSE_AND_FIX"
    assert "business facts that do not hold or are not stated: resources" in open_fact.reasons


def test_a_phase_without_a_finalist_leaves_nothing_to_validate():
    name, (said, decision) = phase("phase3", "PAUSE_AND_FIX")
    found = decide_roadmap(PLANNED, {name: (dataclasses.replace(said, finalist=None), decision)}, releasing=TEST)
    assert found.not_run == ("phase1", "phase2", "phase4")
    assert found.reasons[-1].endswith("(phase3 confirmed no finalist to go on with)")


def test_a_rule_that_holds_above_its_threshold_is_written_with_its_lower_end():
    name, (said, decision) = phase("phase4", "ARCHIVE")
    slow = {"name": "too slow", "value": 190.0, "ci_low": 180.0, "ci_high": 210.0, "threshold": 150.0}
    slow |= {"direction": "above", "holds": True, "measured": True}
    found = decide_roadmap(PLANNED, {name: (said, {**decision, "archive_rules": [slow]})}, releasing=TEST)
    assert "| too slow | phase4 | 190 | 180 | above 150 |" in roadmap_text(found)


def test_an_archive_rule_in_any_phase_ends_it():
    early = decide("PAUSE_AND_FIX", "ARCHIVE")
    assert early.verdict == "ARCHIVE"
    assert early.not_run == ("phase3", "phase4")
    assert early.reasons[-1] == "stopped after phase2: an archive rule holds, no later phase can help"
    assert [(rule["phase"], rule["holds"]) for rule in early.archive_rules] == [("phase1", False), ("phase2", True)]
    assert stops({"verdict": "ARCHIVE"})
    assert not stops({"verdict": "PAUSE_AND_FIX"})


def test_only_gates_of_the_test_split_are_the_roadmap_s():
    assert {gate["phase"] for gate in decide("GO", "GO", "GO", "GO").gates} == set(TEST)


def test_a_fragile_phase_is_said_and_nothing_run_is_a_pause():
    assert decide("GO", "GO", "PAUSE_AND_FIX", fragile=True).fragile
    assert decide_roadmap(PLANNED, {}, releasing=TEST).verdict == "PAUSE_AND_FIX"


def test_the_ticket_shows_the_phases_in_a_row_and_json_reads_back():
    decision = decide("PAUSE_AND_FIX", "ARCHIVE")
    text = roadmap_text(decision)
    assert text.startswith("# Roadmap: ARCHIVE\n")
    assert "| [phase1](phase1/decision.md) | Phase1 | PAUSE_AND_FIX | phase1-t1 | deciding half" in text
    assert "| phase3 | | not run | | |" in text
    assert "| the image has nothing to give | phase2 | +0.0010 | +0.0040 | below 0.005 |" in text
    assert json.loads(json_text(decision.as_json()))["verdict"] == "ARCHIVE"
