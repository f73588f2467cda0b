"""The release decision as a pure function: what is missing anywhere keeps V2 from release."""

import dataclasses
import json

import numpy as np
import pytest
from test_decision import around, healthy

from fusion_models.integrity import check
from fusion_models.metrics import Interval, query_interval
from search.analysis.judged import Probe
from search.analysis.release_decision import Validated, decide_release, integrity_open, shared
from search.reporting.charts.flip import _flips
from search.run_store.folder import json_text
from spaces import PHASE4

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


def test_a_warning_keeps_nothing_back_and_is_among_the_reasons():
    told_apart = dataclasses.replace(check("auc", Interval(0.876, 0.85, 0.9), at_most=0.6), status="warning")
    decision = release(integrity=[told_apart])
    assert decision.verdict == "GO"
    assert "warning: auc 0.876" in decision.reasons[-1]


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


def test_the_four_rules_of_phase_4_share_the_error_of_three():
    """Phase 3 read three rules at a third of 2.5 % each; the same evidence is read at a quarter."""
    random = np.random.default_rng(0)
    third = query_interval(random.normal(0.0, 0.01, 400), level=1 - 0.05 / 3)
    archive = dataclasses.replace(healthy().archive, ndcg_gain=third, refit_gain=third)
    archive = dataclasses.replace(archive, probes=(Probe(name="p", gain=third, counts=True),))
    found = shared(archive)
    quarter = query_interval(random.normal(size=2), level=1 - 0.05 / 4).level
    for interval in (found.ndcg_gain, found.refit_gain, found.probes[0].gain):
        assert interval.level == pytest.approx(quarter)
        assert interval.low < third.low < third.high < interval.high
        assert interval.mean == third.mean
    up = PHASE4.thresholds.least_gain - third.high - 1e-9
    held = dataclasses.replace(third, mean=third.mean + up, low=third.low + up, high=third.high + up)
    assert held.high < PHASE4.thresholds.least_gain  # phase 3's rule held, by a hair
    edge = dataclasses.replace(healthy().archive, ndcg_gain=held)
    (rule,) = [r for r in release(evidence=healthy(archive=edge)).archive_rules if r.key == "gain"]
    assert not rule.holds


def test_open_checks_are_counted_as_an_interval():
    checks = [check("a", 2.0, at_most=0.0), check("b", Interval(0.5, 0.4, 0.7), at_most=0.6), check("c", 0, at_most=0)]
    found = integrity_open(checks)
    assert (found.low, found.high) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("latency", "status", "needed"),
    [
        (around(20.0, 5.0), "pass", ""),
        (around(120.0, 5.0), "fail", ""),
        (around(99.0, 5.0), "undecided", "more requests on a quieter machine"),
        (None, "not measured", "more requests on a quieter machine"),
    ],
)
@pytest.mark.parametrize("audited", [False, True])
def test_more_requests_are_no_remedy_for_a_latency_that_fails(latency, status, needed, audited):
    decision = json.loads(json_text(release(latency=latency).as_json()))
    (gate,) = [g for g in decision["gates"] if g["quantity"] == "latency_p95_ms"]
    assert (gate["status"], gate["needed"]) == (status, needed)
    (said,) = [note for note in _flips(decision, audited=audited) if "Latency" in note] or [""]
    ranker = "V2" if audited else "recipe"
    assert (said == f"Latency P95 (ms): GO needs a faster way to run it, or a smaller {ranker}.") == (status == "fail")


def test_an_ablation_that_is_not_whole_says_what_it_lacks():
    (gate,) = [g for g in release(ablation_missing=["unimodal heads"]).gates if g.quantity == "ablation_open"]
    assert gate.needed == "unimodal heads"
