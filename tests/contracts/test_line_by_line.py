"""docs/roadmap-line-by-line.md has every gate and archive rule that the code reads, with its threshold."""

import re
from pathlib import Path

import pytest

from fusion_models.metrics import Interval
from search.analysis.archive import archive_rules, rules_read
from search.analysis.gates import read_gates
from search.analysis.judged import FEWEST_TRAININGS, Evidence
from spaces import PHASE4, PHASES, RESUME_GATES, Thresholds

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "roadmap-line-by-line.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL))
STEPS = PHASES | {"phase4": PHASE4}
IN_WORDS = {
    "queries": "≥ 500",
    "integrity_open": "at most 0",
    "latency_p95_ms": "≤ 100 ms",
    "ablation_open": "every component measured",
}
"""Quantities that the page does not call by their names -> how it says the threshold."""
KEYS = {
    "resume: refit gain": "whatever the recipe holds",
    "every modality earns its place (smallest refit gain)": "every modality's refit gain wholly above 0.005",
    "lead: blind": "strongest ranker without the image wholly above 0.005",
    "rival: base": "against the base recipe",
    "rival: trees": "LambdaMART on everything",
    "rival: sum": "the tuned sum with V1",
    "cold: gain": "gain and every refit gain wholly above 0 on *cold lists*",
    "complete": "every training that was asked for finished",
    "trainings": "at least max(5, members + 1) of every arm",
}
"""Gates that are no threshold of the phase's own -> what the page says of them."""
RULES = {
    "nothing to give": "has nothing to give",
    "no rise": "does not raise the visual contribution",
    "gain": "after phase 3 the gain stays < +0.015",
    "tuned V1": "a tuned V1 gains as much",
}


def section(start):
    (found,) = [text for title, text in SECTIONS.items() if title.startswith(start)]
    return found


def said(gate):
    sign = "≥" if gate.at_least is not None else "≤"
    threshold = f"{gate.threshold:.3f}"
    return IN_WORDS.get(gate.quantity, f"`{gate.quantity}` {sign} {threshold.removesuffix('0')}"), threshold


@pytest.mark.parametrize("name", STEPS)
def test_every_threshold_of_a_phase_stands_in_its_section(name):
    text = section(f"Phase {name.removeprefix('phase')}")
    for gate in STEPS[name].gates:
        short, whole = said(gate)
        longer = short.replace(whole.removesuffix("0"), whole)
        assert short in text or longer in text, (gate.name, short)


def test_every_condition_for_resuming_stands_there():
    text = section("Resuming V2")
    for gate in RESUME_GATES:
        assert f"`{gate.quantity}`" in text or gate.quantity in text, gate.name
    assert "≥ 500" in text
    assert "≥ 0.05" in text
    assert "≤ 0.90" in text


@pytest.mark.parametrize("name", STEPS)
def test_every_other_gate_and_rule_stands_there(name):
    phase = STEPS[name]
    evidence = Evidence(quantities={}, refit_gain={})
    own = {gate.name for gate in (*phase.gates, *phase.resume_gates)}
    for gate in read_gates(phase, evidence):
        if gate.key not in own and not re.match(r"cold: (visual|text|metadata)", gate.key):
            assert KEYS[gate.key] in PAGE, gate.key
    rules = archive_rules(phase, evidence)
    for rule in rules:
        assert RULES[rule.key] in section("Archiving V2"), rule.key
    assert rules_read(phase) == len(rules)


def test_numbers_that_no_gate_holds():
    found, text = Thresholds(), section("Archiving V2")
    assert (found.nothing_to_give, found.lead_without_suspect, found.rival_worse) == (0.005, 0.005, 0.005)
    assert (found.as_good_as_tuned_v1, found.least_gain, found.slowest_ms) == (0.005, 0.015, 150.0)
    assert f"half-width is above {found.rival_half_width:g}" in PAGE
    assert f"above {found.slowest_ms:g} ms" in text
    assert f"upper end of the gain below {found.least_gain:g}" in text
    assert FEWEST_TRAININGS == 5


def test_an_interval_and_not_a_mean_decides_as_the_page_says():
    phase = PHASES["phase1"]
    wide = Evidence(quantities={"visual_masking_drop": Interval(0.051, 0.03, 0.07)}, refit_gain={})
    (found,) = [gate for gate in read_gates(phase, wide) if gate.key == "visual_masking_drop"]
    assert found.status == "undecided"
