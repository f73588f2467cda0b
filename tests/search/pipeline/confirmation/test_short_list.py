"""What is confirmed, and which recipe is fixed before the test split is opened."""

import json

import pytest

from fusion_models.metrics import Interval
from fusion_models.metrics.statistics import Variance
from search.pipeline.confirmation.short_list import (
    FRESH_SEEDS,
    Candidate,
    candidates,
    fix_finalist,
    refit_jobs,
    short_list,
)
from search.run_store.folder import RunFolder
from search.run_store.job import TrialRecord
from spaces import PHASES

PHASE = PHASES["phase3"]
GOOD = {
    "ndcg_gain": 0.03,
    "visual_masking_drop": 0.08,
    "attention_max_share": 0.36,
    "attention_min_share": 0.31,
    "v1_correlation": 0.80,
}


def quantities(error=0.0, **numbers):
    """Intervals around GOOD or what is given instead; of the limits nothing is read."""
    spread = Variance(query=error**2 / 2, seed=error**2 / 2)
    return {name: Interval(value, value, value, variance=spread) for name, value in (GOOD | numbers).items()}


def searched(trial_id, **numbers):
    return TrialRecord(
        trial_id=trial_id,
        stage="search",
        name="sampled",
        state="finished",
        state_reason="",
        epochs=5,
        seed=0,
        recipe=PHASE.base.flat(),
        numbers=GOOD | numbers,
        seconds=1.0,
    )


def test_a_larger_gain_at_a_correlation_that_cannot_pass_is_not_the_finalist(tmp_path):
    found = [Candidate(trial_id=t, recipe=PHASE.base.flat(), trainings=(f"{t}-s0", f"{t}-s1")) for t in ("t1", "t2")]
    measured = {"t1": quantities(ndcg_gain=0.06, v1_correlation=0.93), "t2": quantities()}
    finalist = fix_finalist(RunFolder(tmp_path), PHASE, measured, found)
    assert finalist.trial_id == "t2"
    assert json.loads((tmp_path / "finalist.json").read_text())["trial_id"] == "t2"
    assert fix_finalist(RunFolder(tmp_path), PHASE, measured, found[:1]) is None  # what is fixed stands


def trained(name, seed, state="finished"):
    return TrialRecord(
        trial_id=f"confirm-{name}-s{seed}",
        stage="confirm",
        name=name,
        state=state,
        state_reason="",
        epochs=5,
        seed=FRESH_SEEDS + seed,
        recipe=PHASE.base.flat(),
    )


def test_a_recipe_that_sometimes_breaks_comes_after_one_that_does_not(tmp_path):
    records = [trained("t1", 0, "failed"), *(trained("t1", s) for s in (1, 2)), *(trained("t2", s) for s in (2, 0, 1))]
    records += [trained("t3", 0), trained("t3", 1, "failed")]  # one seed alone says nothing of a recipe
    found = candidates(records)
    assert [(c.trial_id, c.failed, [s - FRESH_SEEDS for s in c.seeds]) for c in found] == [
        ("t1", 1, [1, 2]),
        ("t2", 0, [0, 1, 2]),
    ]
    assert found[1].trainings == ("confirm-t2-s0", "confirm-t2-s1", "confirm-t2-s2")
    measured = {"t1": quantities(ndcg_gain=0.06), "t2": quantities()}
    assert fix_finalist(RunFolder(tmp_path), PHASE, measured, found).trial_id == "t2"


def finalist_of(measured, path, phase=PHASE):
    found = [Candidate(trial_id=name, recipe=PHASE.base.flat(), trainings=("a", "b")) for name in measured]
    return fix_finalist(RunFolder(path), phase, measured, found).trial_id


@pytest.mark.parametrize(
    ("error", "chosen"),
    [(0.005, "larger gain"), (0.0, "smaller miss"), (float("nan"), "smaller miss"), (0.003, "smaller miss")],
)
def test_of_misses_that_differ_by_no_more_than_a_standard_error_the_larger_gain_is_chosen(tmp_path, error, chosen):
    measured = {
        "smaller miss": quantities(visual_masking_drop=0.024, ndcg_gain=0.03, error=error),
        "larger gain": quantities(visual_masking_drop=0.020, ndcg_gain=0.05, error=error),
        "too far off": quantities(visual_masking_drop=0.014, ndcg_gain=0.09, error=error),
    }
    assert finalist_of(measured, tmp_path) == chosen


def test_a_quantity_that_two_gates_ask_for_errs_in_both_at_once(tmp_path):
    phase = PHASES["phase1"]  # its gate on the masking drop is among those for resuming as well
    measured = {
        "smaller miss": quantities(visual_masking_drop=0.024, ndcg_gain=0.03, error=0.005),
        "larger gain": quantities(visual_masking_drop=0.0195, ndcg_gain=0.05, error=0.005),
    }
    assert finalist_of(measured, tmp_path, phase) == "larger gain"


def test_an_uncertain_miss_does_not_come_before_a_gate_that_is_passed(tmp_path):
    measured = {"misses": quantities(visual_masking_drop=0.049, ndcg_gain=0.09, error=0.02)}
    assert finalist_of(measured | {"passes": quantities(error=0.02)}, tmp_path) == "passes"


def test_refits_have_the_finalists_seeds_and_its_own_modalities():
    recipe = PHASE.base.restricted(("visual", "text"))
    finalist = Candidate(trial_id="t1", recipe=recipe.flat(), trainings=("a", "b"), seeds=(10_001, 10_002))
    jobs = refit_jobs(finalist, PHASE.base)
    assert {job.name for job in jobs} == {"refit visual", "refit text", "base", "base text+metadata"}
    assert {job.seed for job in jobs} == {10_001, 10_002}
    assert {job.trial_id for job in jobs if job.name == "base"} == {"base-s1", "base-s2"}


def test_the_short_list_begins_with_the_trial_that_meets_every_gate():
    front = [
        searched("t1", ndcg_gain=0.06, v1_correlation=0.93),
        searched("t2"),
        searched("t3", attention_max_share=0.5),
    ]
    assert [record.trial_id for record in short_list(PHASE, front, size=2)] == ["t2", "t1"]
