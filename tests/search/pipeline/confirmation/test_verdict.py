"""What stands between the deciding trainings and the verdict."""

import dataclasses
from types import SimpleNamespace

import pandas as pd
import pytest
from outputs import random_lists, random_outputs
from run_context import run_in

from fusion_models.metrics import Interval
from search.analysis.decision import decide
from search.analysis.judged import ArchiveEvidence, Evidence, is_judged
from search.analysis.measure import confirmed_table, mean_ndcg
from search.options import RunOptions
from search.pipeline.ablation import Intact
from search.pipeline.confirmation import verdict, verdict_tables
from search.pipeline.confirmation.finalist import Finalist
from search.pipeline.confirmation.short_list import Candidate
from search.pipeline.confirmation.verdict import Confirmed, archives, confirm_and_decide
from search.pipeline.continuation.kept import drop_ablation_of_another
from search.run_store.folder import RunFolder
from search.run_store.looks import Look
from spaces import PHASES

PHASE = PHASES["phase3"]
FINALIST = Finalist(trial_id="t0001", recipe=PHASE.base.flat(), seeds=(0, 1, 2, 3))


def around(mean):
    return Interval(mean, mean - 0.001, mean + 0.001)


@pytest.mark.parametrize("rule", ["ndcg_gain", "over_tuned_v1"])
def test_probes_are_asked_too_where_another_rule_than_that_on_refit_gains_holds(rule):
    """A ranker that earns 0.03 from its image may still miss most of it, and gain no more than a tuned V1."""
    found = dict.fromkeys(("refit_gain", "ndcg_gain", "over_tuned_v1"), around(0.03))
    evidence = Evidence(quantities={}, refit_gain={}, archive=ArchiveEvidence(**found))
    assert not archives(PHASE, evidence)
    assert archives(PHASE, dataclasses.replace(evidence, archive=ArchiveEvidence(**found | {rule: around(0.001)})))


@pytest.fixture
def run(tmp_path, small_data):
    options = RunOptions(phase="phase3", max_concurrent=1, ablation=False)
    return run_in(RunFolder(tmp_path), options, PHASE, small_data)


def test_a_finalist_that_no_deciding_training_of_finished_is_no_verdict_and_no_look(run, monkeypatch):
    listed = SimpleNamespace(candidates=[], outputs={}, quantities={}, rows=lambda finalist: [])
    whole = SimpleNamespace(whole="whole")
    failed = SimpleNamespace(trainings={"whole": []}, plan=whole)
    monkeypatch.setattr(verdict, "judge_short_list", lambda run, references: listed)
    monkeypatch.setattr(verdict, "standing_finalist", lambda folder, number, chooses_anew: FINALIST)
    monkeypatch.setattr(verdict, "needs_cold_lists", lambda run, facts: False)
    monkeypatch.setattr(verdict, "train_deciding_arms", lambda *given, **more: failed)
    monkeypatch.setattr(verdict, "count_look", lambda *given, **more: pytest.fail("a look was taken"))
    (run.folder.path / "judged.json").write_text("{}")  # of the verdict before, with another finalist
    (run.folder.checkpoints / "artefact").mkdir(parents=True)
    confirmed = confirm_and_decide(run, {}, [])
    assert confirmed.decision.verdict == "PAUSE_AND_FIX"
    assert "t0001 could not be trained again, not once" in confirmed.decision.reasons[0]
    assert (run.folder.path / "decision.json").exists()
    assert not is_judged(run.folder.path)
    assert not (run.folder.checkpoints / "artefact").exists()


def test_an_earlier_finalist_s_ablation_goes_with_its_verdict(run):
    path = run.folder.path / "ablation.csv"
    for trial_id, number, stays in (("t0001", 2, True), ("t0000", 1, True), ("t0000", 2, False)):
        pd.DataFrame({"trial_id": [trial_id], "removed": ["x"]}).to_csv(path, index=False)
        drop_ablation_of_another(run.folder, FINALIST.trial_id, number)
        assert path.exists() == stays


def failing(*_, **__):
    raise ZeroDivisionError("here")


STEPS = {"contribution": None, "evidence.json": "write_evidence", "the examples": "write_examples"}


@pytest.mark.parametrize("broken", STEPS)
def test_what_only_explains_costs_itself_after_the_look(broken, run, monkeypatch):
    written = []
    for name in filter(None, STEPS.values()):
        monkeypatch.setattr(verdict_tables, name, lambda *given, name=name, **_: written.append((name, given)))
    if STEPS[broken] is not None:
        monkeypatch.setattr(verdict_tables, STEPS[broken], failing)
    whole = SimpleNamespace(artefact=None)
    asked = failing if broken == "contribution" else lambda: "what it gives"
    verdict_tables.explain(run, whole, None, asked, chance=None, level=0.95)
    assert [name for name, _ in written] == [name for name in STEPS.values() if name not in (None, STEPS[broken])]
    given = dict(written).get("write_evidence")
    assert given is None or given[3] == (None if broken == "contribution" else "what it gives")
    assert "failed (ZeroDivisionError: here)" in run.console.file.getvalue()


@pytest.mark.parametrize("lost", [False, True])
def test_an_ablation_that_fails_leaves_the_verdict_and_one_whose_machine_is_lost_the_run_open(run, monkeypatch, lost):
    decision = decide(PHASE, None, None, {})
    intact = Intact(trial_id="t0001", recipe=PHASE.base.flat(), trainings=("one",))
    confirmed = Confirmed(decision=decision, table=pd.DataFrame(), finalist=FINALIST, evidence=None, intact=intact)
    monkeypatch.setattr(verdict, "judge_short_list", lambda run, references: SimpleNamespace(candidates=[]))
    monkeypatch.setattr(verdict, "standing_finalist", lambda *given, **more: FINALIST)
    monkeypatch.setattr(verdict, "_decide_on_test", lambda *given: confirmed)
    monkeypatch.setattr(verdict, "ablate", failing)
    monkeypatch.setattr(type(run.trainer), "stopped_by", lambda self, error: lost)
    asked = dataclasses.replace(run, options=dataclasses.replace(run.options, ablation=True))
    if lost:
        with pytest.raises(ZeroDivisionError):
            confirm_and_decide(asked, {}, [])
        return
    found = confirm_and_decide(asked, {}, [])
    assert found.ablation is None
    assert found.decision == decision
    said = run.console.file.getvalue()
    assert "the ablation failed (ZeroDivisionError: here); the verdict does not rest on it" in said
    assert "--ablate t0001 tries again" in said


@pytest.mark.parametrize("cold", ["all", "without cold"])
@pytest.mark.parametrize("base_arm", [True, False])
def test_test_rows_say_of_which_trainings_they_are_and_the_base_recipe_is_its_deciding_arm(cold, base_arm):
    """Else the finalist, without the new items, stands beside a base recipe that has seen them."""
    lists = random_lists(queries=40)
    listed = {name: random_outputs(lists, seed=seed) for seed, name in enumerate(("f", "b", "o"))}
    deciding = {name: [random_outputs(lists, seed=10 + s, noise=2.0) for s in range(2)] for name in ("whole", "base")}
    if not base_arm:
        del deciding["base"]
    whole = SimpleNamespace(
        plan=SimpleNamespace(whole="whole", base="base"), trained=deciding, members=1, clusters=None
    )
    found = [
        Candidate(trial_id=trial, recipe={}, trainings=(name,), is_base=name == "b")
        for trial, name in (("t0001", "f"), ("t0000", "b"), ("t0002", "o"))
    ]
    finalist, base, other = verdict_tables.test_rows(found, FINALIST, whole, listed, Look(number=1), cold)
    assert (finalist.trainings, finalist.items) == ("deciding", cold)
    assert (base.trainings, base.items) == (("deciding", cold) if base_arm else ("short list", "all"))
    assert (other.trainings, other.items) == ("short list", "all")
    expected = deciding["base"][0] if base_arm else listed["b"]
    assert base.quantities["ndcg"].mean == pytest.approx(mean_ndcg(expected))
    assert {row.split for row in (finalist, base, other)} == {"test"}
    table = confirmed_table(PHASE, [finalist, base, other])
    assert table["trainings"].to_list() == [row.trainings for row in (finalist, base, other)]
    assert table["items"].to_list() == [row.items for row in (finalist, base, other)]
