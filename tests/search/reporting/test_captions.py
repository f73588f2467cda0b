"""Captions say of each chart's numbers on which split, at which level and how they were measured."""

import dataclasses
import json

import pandas as pd
import pytest
from report_folders import decided

from search.reporting import read_run
from search.reporting.charts import leads, modalities, release, standing


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A decided run at a look whose level is 99.24 %."""
    return read_run(decided(tmp_path_factory.mktemp("captions") / "phase3").path)


def audited(run, **evidence):
    return dataclasses.replace(run, run=run.run | {"phase": "audit"}, evidence=run.evidence | evidence)


def titles(figure):
    """What stands along the axes of a figure's panels."""
    return json.dumps([panel.chart.to_dict() for panel in figure.panels], ensure_ascii=False)


@pytest.mark.parametrize("chart", [modalities.rivals, modalities.subdomains])
def test_intervals_of_the_deciding_split_are_called_by_the_level_of_their_look(known, chart):
    said = titles(chart(known))
    assert "99.24 % interval" in said
    assert "CI95" not in said + " ".join(panel.alt for panel in chart(known).panels)


def test_references_without_a_verdict_are_called_by_the_split_they_were_measured_on(known):
    for split in ("validation", "test"):
        table = known.baselines[known.baselines["split"] == split]
        run = dataclasses.replace(known, evidence=None, decision=None, baselines=table)
        assert f"gain over V1 ({split}), CI95" in titles(modalities.rivals(run))


def test_the_split_that_chose_the_strongest_blind_rival_is_the_one_that_did(known):
    assert "chosen on validation: LambdaMART without visual." in leads.leads(known).notes[0]
    here = audited(known, strongest_blind=known.evidence["strongest_blind"] | {"chosen_on": "test"})
    assert "chosen on the test split: LambdaMART without visual." in leads.leads(here).notes[0]


@pytest.mark.parametrize(("trainings", "said"), [(1, "V2's one training, intervals of 99.24 %"), (2, "Ensembles on")])
def test_the_leads_of_one_training_are_no_ensemble_s(known, trainings, said):
    arms = {"finalist-visual+text+metadata": trainings, "finalist-text+metadata": 5}
    run = audited(known, trainings=arms, modalities=["visual", "text", "metadata"])
    assert leads.leads(run).caption.startswith(said)


def test_no_probe_is_not_taken_for_one_that_was_never_asked(known):
    run = dataclasses.replace(known, evidence=known.evidence | {"probes": []})
    assert any(note.endswith("or every probe failed.") for note in leads.leads(run).notes)


TIMES = {"ranker": "V2", "candidates": "as judged", "parameters": 9, "ndcg_cost": 0.0, "note": "", "batch": 1}
TIMES |= {"p50_ms": 5.0, "p95_ms": 9.0, "p95_ms_ci_low": 8.0, "p95_ms_ci_high": 10.0, "p99_ms": 12.0}


@pytest.mark.parametrize(
    ("runtime", "how"), [("as given", "Milliseconds of each query, as the table"), ("ONNX", "One query at a time")]
)
def test_an_audit_s_times_are_the_table_s_or_the_model_s_and_no_gate_picks_a_rung(known, runtime, how):
    run = dataclasses.replace(audited(known), latency=pd.DataFrame([TIMES | {"runtime": runtime}]))
    said = release.latency(run).caption
    assert said.startswith(how)
    assert ("Poisson" in said) == (runtime == "ONNX")
    assert "99.24 % interval of P95" in said
    assert "rung" not in said
    own = release.latency(dataclasses.replace(run, run=known.run)).caption
    assert "the CI95 of P95" in own
    assert "The dark rung is the one that the gate reads" in own


def test_what_was_not_given_is_asked_for(known):
    bare = audited(known, refit_gain={}, refit_shapley=None, masked_shapley={})
    assert "column latency_ms" in release.latency(bare).missing
    assert "Neither refits nor blanks" in modalities.contribution(bare).missing


def test_phase_4_s_gate_on_latency_has_a_level_of_its_own(known):
    gate = known.decision["gates"][0] | {"quantity": "latency_p95_ms", "value": 9.0}
    timed = dataclasses.replace(known, decision=known.decision | {"gates": [gate]})
    assert standing.level_of_latency(timed) == " (latency: 95 %)"
    assert standing.level_of_latency(known) == standing.level_of_latency(audited(timed)) == ""
