"""Which deciding trainings are made, over real journals: steps, further verdicts, interruptions, failures."""

import dataclasses
import re
import time
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from outputs import MODALITIES
from run_context import run_in
from told_trainer import ToldTrainer

from fusion_models.metrics import Interval
from search.analysis.judged import Lead
from search.options import RunOptions
from search.pipeline.baselines import COLD_STAGE
from search.pipeline.confirmation import deciding
from search.pipeline.confirmation.arms import STAGE, arms_of_others, plan_arms
from search.pipeline.confirmation.deciding import STEPS, open_arms, steps_to, train_deciding_arms
from search.pipeline.confirmation.finalist import Finalist, fix_finalist
from search.pipeline.confirmation.short_list import Candidate
from search.run_store.folder import RunFolder
from search.run_store.looks import count_look
from search.run_store.records import journal_records
from search.study.stages import planned_jobs
from spaces import PHASES

PHASE = PHASES["phase3"]
RECIPE = PHASE.base.updated({"train.batch_queries": 16})
FINALIST = Finalist(trial_id="t0001", recipe=RECIPE.flat(), seeds=(0, 1, 2, 3))
ARMS = {"finalist-visual+text+metadata", "finalist-text+metadata", "finalist-visual+metadata", "finalist-visual+text"}


class Probes:
    """Asked or not."""

    begun = 0

    def begin_power(self):
        self.begun += 1

    def seconds(self):
        return 0.0


@pytest.fixture
def run(tmp_path, small_data, monkeypatch):
    """A run of phase 3 on small data, before its deciding trainings."""
    monkeypatch.setattr(deciding, "concurrency", lambda options: 1)  # without asking Ray
    monkeypatch.setattr(deciding, "archive_open", lambda run, found: False)
    monkeypatch.setattr(deciding, "open_arms", lambda run, found: {found.plan.whole, found.plan.without("visual")})
    made = run_in(RunFolder(tmp_path), RunOptions(phase="phase3", max_concurrent=1), PHASE, small_data)
    return again(made)


def again(run, *, verdict=1, fails=False, **options):
    """The run as the next command opens it."""
    asked = dataclasses.replace(run.options, **options)
    trainer = ToldTrainer(run.store, run.phase, run.data, asked, run.console)
    trainer.fails = fails
    return dataclasses.replace(run, options=asked, trainer=trainer, verdict=verdict, began=time.monotonic())


def trained(run, *, cold=False, probes=None):
    """Slug -> trainings of each arm."""
    found = train_deciding_arms(run, FINALIST, [], cold=cold, probes=probes or Probes())
    assert {key: len(ids) for key, ids in found.trainings.items()} == dict(found.counts)
    return {key.slug: count for key, count in found.counts.items()}


def test_open_arms_get_more_step_by_step_while_there_is_time(run):
    assert trained(run) == dict.fromkeys((*ARMS, "base-visual+text+metadata"), 5)  # no time budget: what is planned
    counts = trained(again(run, time_budget="1h"))
    assert {slug for slug, count in counts.items() if count == 12} == {
        "finalist-visual+text+metadata",
        "finalist-text+metadata",
    }
    assert set(counts.values()) == {5, 12}


WHOLE, BASE = "finalist-visual+text+metadata", "base-visual+text+metadata"
OPEN, ABOVE, BELOW = Interval(0.006, -0.01, 0.03), Interval(0.02, 0.01, 0.03), Interval(-0.02, -0.03, -0.01)
WIDE = Interval(0.0, -0.03, 0.03)


@pytest.mark.parametrize(
    ("phase", "gain", "base_gain", "lead", "wanted"),
    [
        ("phase3", OPEN, None, ABOVE, {WHOLE, "finalist-text+metadata"}),
        ("phase3", BELOW, OPEN, ABOVE, {BASE, "base-text+metadata"}),  # ARCHIVE hangs on the base recipe
        ("phase1", BELOW, OPEN, WIDE, {BASE, "base-text+metadata"}),
        ("phase3", BELOW, BELOW, ABOVE, set()),
        ("phase3", ABOVE, OPEN, ABOVE, set()),  # ARCHIVE cannot hold any more
        ("phase3", ABOVE, None, WIDE, {WHOLE, BASE}),
        ("phase1", ABOVE, None, WIDE, set()),  # an early phase has no gate on the lead
        ("phase3", OPEN, OPEN, WIDE, {WHOLE, "finalist-text+metadata", BASE, "base-text+metadata"}),
    ],
)
def test_whatever_a_verdict_hangs_on_gets_more(monkeypatch, phase, gain, base_gain, lead, wanted):
    monkeypatch.setattr(deciding, "refit_gains", lambda found: {"visual": gain, "text": ABOVE})
    monkeypatch.setattr(deciding, "base_refit_gain", lambda found: base_gain)
    monkeypatch.setattr(deciding, "rival_leads", lambda found: {"base": Lead(rival="the base recipe", interval=lead)})
    monkeypatch.setattr(deciding, "seeds_share", lambda interval: 0.5)
    run = SimpleNamespace(phase=PHASES[phase])
    found = SimpleNamespace(plan=plan_arms(PHASES[phase], RECIPE, is_base=False))
    assert {key.slug for key in open_arms(run, found)} == wanted
    monkeypatch.setattr(deciding, "seeds_share", lambda interval: 0.1)  # it is the queries that are too few
    assert open_arms(run, found) == set()


@pytest.mark.parametrize(("most", "steps"), [(5, (5,)), (10, (5, 8, 10)), (12, (5, 8, 12)), (60, (*STEPS, 60))])
def test_the_last_step_is_what_was_asked_for(most, steps):
    assert steps_to(most) == steps


def test_as_many_are_trained_as_max_seeds_says(run):
    assert max(trained(again(run, max_seeds=6)).values()) == 6


def test_a_further_verdict_goes_on_above_what_was_trained_before(run):
    trained(again(run, time_budget="1h"))
    counts = trained(again(run, verdict=2, max_seeds=20))
    assert counts["finalist-text+metadata"] == 20  # and not 12: a look would be spent on nothing


def test_what_was_trained_before_an_interruption_counts_without_a_time_budget(run):
    before = trained(again(run, time_budget="1h"))
    assert trained(again(run, resume=True)) == before


def test_trainings_on_other_items_are_not_mixed(run):
    trained(run, cold=False)
    with pytest.raises(ValueError, match="begun with the items of new lists in training; give the --facts"):
        trained(again(run, resume=True), cold=True)


def test_an_archive_rule_that_opens_late_gets_its_arm_and_its_probes(run, monkeypatch):
    monkeypatch.setattr(deciding, "archive_open", lambda run, found: len(found.trained[found.plan.whole]) > 5)
    probes = Probes()
    counts = trained(again(run, time_budget="1h"), probes=probes)
    assert counts["base-text+metadata"] == 5
    assert probes.begun == 1


def test_a_finalist_that_cannot_be_trained_again_ends_the_trainings(run):
    found = train_deciding_arms(again(run, fails=True, time_budget="1h"), FINALIST, [], cold=False, probes=Probes())
    assert found.finished == 0
    assert set(found.counts.values()) == {5}


def short_of(run, count):
    """The run after a deciding stage in which trainings of the finalist failed by their machine."""
    mine = again(run, fails=lambda job: job.trial_id in {f"{WHOLE}-d{index}" for index in range(count)})
    mine.trainer.failure = "machine"
    found = train_deciding_arms(mine, FINALIST, [], cold=False, probes=Probes())
    assert (found.finished, found.fewest) == (found.asked - count, 5 - count)
    return {record.trial_id: record.seed for record in mine.trainer.records(STAGE)}


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("further", [{"resume": True}, {"verdict": 2, "max_seeds": 5}])
def test_what_failed_by_its_machine_is_trained_again_before_a_look(run, count, further):
    """Resumed, or settled: else the trainings gate fails for good."""
    before = short_of(run, count)
    mine = again(run, **further)
    found = train_deciding_arms(mine, FINALIST, [], cold=False, probes=Probes())
    assert (found.finished, found.fewest) == (found.asked, 5)
    assert {record.trial_id: record.seed for record in mine.trainer.records(STAGE)} == before


def test_nothing_is_trained_again_once_the_verdict_has_looked(run, monkeypatch, tmp_path):
    monkeypatch.setenv("FUSION_SEARCH_STATE", str(tmp_path / "state"))
    short_of(run, 1)
    count_look(run.folder, run.data.fingerprint, run.data.source, split=run.deciding)
    found = train_deciding_arms(again(run, resume=True), FINALIST, [], cold=False, probes=Probes())
    assert found.finished == found.asked - 1
    settled = train_deciding_arms(again(run, verdict=2, max_seeds=5), FINALIST, [], cold=False, probes=Probes())
    assert settled.finished == settled.asked


def test_a_training_stands_once_among_the_records_however_often_its_stage_is_opened(run):
    trained(again(run, time_budget="1h"))
    mine = again(run)
    trained(mine)
    ids = [record.trial_id for record in mine.trainer.records()]
    assert len(ids) == len(set(ids)) == len(journal_records(run.store.journal))
    assert np.isfinite([record.seconds for record in mine.trainer.records()]).all()


@pytest.mark.parametrize(("cold", "trainings"), [(False, 0), (True, 5)])
def test_single_modalities_are_trained_again_on_the_items_that_deciding_arms_see(run, cold, trainings):
    """Else sums of them have seen a fifth of the items more than the V2 that is held against them."""
    trained(run, cold=cold)
    records = run.trainer.records(COLD_STAGE)
    assert Counter(r.role.modalities for r in records) == {(m,): trainings for m in MODALITIES if trainings}
    assert {r.items for r in records} <= {r.items for r in run.trainer.records(STAGE)}


@pytest.mark.parametrize(
    ("wanted", "options", "said"),
    [
        (False, {"max_seeds": 8}, "validation leaves nothing open"),
        (True, {"max_seeds": 8}, r"all that --max-seeds allows .finalist-text.metadata 8, "),
        (True, {"max_seeds": 20, "time_budget": "1s"}, "time budget leaves none"),
    ],
)
def test_why_no_arm_has_more_is_said(run, monkeypatch, wanted, options, said):
    if not wanted:
        monkeypatch.setattr(deciding, "open_arms", lambda run, found: set())
    found = train_deciding_arms(again(run, **options), FINALIST, [], cold=False, probes=Probes())
    assert re.search(said, found.ended)


OTHERS = {
    "whole": {"train.batch_queries": 8},
    "fewer modalities": {"train.batch_queries": 8, "model.modalities": ("visual", "text")},
}


@pytest.mark.parametrize("other", OTHERS)
def test_trainings_of_a_verdict_that_was_given_up_serve_no_other_recipe(run, other):
    """An extension that was given up before its look leaves no finalist.json, and its trainings in the journal."""
    was = Finalist(trial_id="t0002", recipe=PHASE.base.updated(OTHERS[other]).flat(), seeds=(0,), verdict=2, arms=2)
    train_deciding_arms(again(run, verdict=2), was, [], cold=False, probes=Probes())
    planned = planned_jobs(run.store.journal, STAGE)
    assert arms_of_others(PHASE, RECIPE, planned) == {2}
    assert arms_of_others(PHASE, PHASE.base.updated(OTHERS[other]), planned) == set()
    best = Candidate(trial_id="t0001", recipe=RECIPE.flat(), trainings=())
    found = fix_finalist(run.folder, best, (0,), of=[], verdict=2, taken=arms_of_others(PHASE, RECIPE, planned))
    assert (found.verdict, found.arms) == (2, 3)
    train_deciding_arms(again(run, verdict=2), found, [], cold=False, probes=Probes())
    own = [job for job in planned_jobs(run.store.journal, STAGE) if job.trial_id.startswith("finalist-")]
    assert {job.recipe["train.batch_queries"] for job in own if "-v3-" in job.trial_id} == {16}


def test_a_finalist_with_the_ids_of_another_recipes_trainings_is_refused(run):
    was = dataclasses.replace(FINALIST, recipe=PHASE.base.updated(OTHERS["whole"]).flat())
    train_deciding_arms(run, was, [], cold=False, probes=Probes())
    with pytest.raises(ValueError, match="were planned for another recipe"):
        train_deciding_arms(again(run), FINALIST, [], cold=False, probes=Probes())
