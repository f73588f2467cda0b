"""What is confirmed, and which recipe is fixed before the test split is opened."""

import dataclasses
import json
import shutil

import pytest

from fusion_models.metrics import Interval
from fusion_models.metrics.intervals.interval import Variance
from search.pipeline.confirmation.arms import ArmKey, arm_jobs, plan_arms
from search.pipeline.confirmation.finalist import chance, choose, fix_finalist, next_rung, read_finalist
from search.pipeline.confirmation.short_list import Candidate, candidates, short_list
from search.run_store.folder import RunFolder
from search.run_store.job import Role, TrialRecord
from search.study.seeds import SHORT_LIST_SEEDS
from spaces import PHASES

PHASE = PHASES["phase3"]
GOOD = {
    "ndcg_gain": 0.03,
    "visual_masking_drop": 0.08,
    "attention_max_share": 0.36,
    "attention_min_share": 0.31,
    "v1_correlation": 0.80,
    "ndcg": 0.70,
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


def trained(name, seed, state="finished"):
    return TrialRecord(
        trial_id=f"confirm-{name}-s{seed}",
        stage="confirm",
        name=name,
        state=state,
        state_reason="",
        epochs=5,
        seed=SHORT_LIST_SEEDS + seed,
        recipe=PHASE.base.flat(),
    )


def candidate(name, **changes):
    fields = {"trial_id": name, "recipe": PHASE.base.flat(), "trainings": (f"{name}-s0", f"{name}-s1")} | changes
    return Candidate(**fields)


def finalist_of(measured, path, phase=PHASE, leads=None, failed=()):
    found = [candidate(name, failed=int(name in failed)) for name in measured]
    best = choose(phase, measured, leads or {}, found)
    return fix_finalist(RunFolder(path), best, (20_000, 20_001), of=list(measured)).trial_id


def test_a_recipe_that_sometimes_breaks_comes_after_one_that_does_not(tmp_path):
    chosen = [searched("t1"), searched("t2"), searched("t3")]
    records = [trained("t1", 0, "failed"), *(trained("t1", s) for s in (1, 2)), *(trained("t2", s) for s in (2, 0, 1))]
    records += [trained("t3", 0), trained("t3", 1, "failed")]  # one seed alone says nothing of a recipe
    found = candidates(chosen, records)
    assert [(c.trial_id, c.failed) for c in found] == [("t1", 1), ("t2", 0)]
    assert found[0].trainings == ("confirm-t1-s1", "confirm-t1-s2")
    assert found[1].trainings == ("confirm-t2-s0", "confirm-t2-s1", "confirm-t2-s2")
    measured = {"t1": quantities(ndcg=0.9), "t2": quantities()}
    assert choose(PHASE, measured, {}, found).trial_id == "t2"


def test_a_better_ranker_at_a_correlation_that_cannot_pass_is_not_the_finalist(tmp_path):
    measured = {"t1": quantities(ndcg=0.9, v1_correlation=0.93), "t2": quantities()}
    assert finalist_of(measured, tmp_path) == "t2"
    said = json.loads((tmp_path / "finalist.json").read_text())
    assert (said["trial_id"], said["seeds"], said["chosen_on"]) == ("t2", [20_000, 20_001], "validation")
    assert finalist_of({"t1": quantities(ndcg=0.9)}, tmp_path) == "t2"  # what is fixed stands


@pytest.mark.parametrize(("error", "chosen"), [(0.05, "better ranker"), (0.001, "smaller miss")])
def test_of_recipes_about_as_likely_to_pass_the_better_ranker_is_chosen(tmp_path, error, chosen):
    measured = {
        "smaller miss": quantities(visual_masking_drop=0.047, ndcg=0.70, error=error),
        "better ranker": quantities(visual_masking_drop=0.046, ndcg=0.75, error=error),
        "too far off": quantities(visual_masking_drop=-0.10, ndcg=0.90, error=error),
    }
    assert finalist_of(measured, tmp_path) == chosen


def test_misses_that_are_sure_count_alike_however_far(tmp_path):
    measured = {
        "by a hair less": quantities(visual_masking_drop=0.010, ndcg=0.70, error=0.001),
        "better ranker": quantities(visual_masking_drop=0.005, ndcg=0.75, error=0.001),
    }
    assert finalist_of(measured, tmp_path) == "better ranker"


def test_an_uncertain_miss_does_not_come_before_a_gate_that_is_passed(tmp_path):
    measured = {"misses": quantities(visual_masking_drop=0.03, ndcg=0.9, error=0.02)}
    assert finalist_of(measured | {"passes": quantities(error=0.02)}, tmp_path) == "passes"


def test_two_gates_on_one_number_are_one_event():
    phase = PHASES["phase1"]  # its gate on the masking drop is among those for resuming as well
    once = dataclasses.replace(phase, gates=phase.gates[1:])
    found = quantities(visual_masking_drop=0.04, error=0.01)
    assert chance(phase, found) == pytest.approx(chance(once, found))


def test_a_recipe_that_the_base_recipe_surely_beats_is_not_the_finalist(tmp_path):
    sure = Variance(query=0.004**2)
    leads = {"worse": [Interval(-0.03, -0.04, -0.02, variance=sure)], "base": []}
    measured = {"worse": quantities(ndcg=0.9), "base": quantities(ndcg=0.6)}
    assert finalist_of(measured, tmp_path, leads=leads) == "base"


def test_a_further_verdict_has_a_finalist_of_its_own_and_trainings_under_other_ids(tmp_path):
    folder = RunFolder(tmp_path)
    assert fix_finalist(folder, candidate("t1"), (1, 2), of=["t1"]).arms == 1
    kept = folder.verdicts / "1"
    kept.mkdir(parents=True)
    shutil.copy(tmp_path / "finalist.json", kept)
    second = fix_finalist(folder, candidate("t2"), (1, 2), of=["t1", "t2"], verdict=2)
    assert (second.trial_id, second.verdict, second.arms) == ("t2", 2, 2)
    assert fix_finalist(folder, candidate("t3"), (1, 2), of=["t3"], verdict=2) == second  # interrupted: it stands
    assert read_finalist(folder) == second
    again = fix_finalist(folder, candidate("t1"), (1, 2), of=["t1"], verdict=3)
    assert (again.trial_id, again.verdict, again.arms) == ("t1", 3, 1)  # its trainings are those of verdict 1
    plans = [arms_of(PHASE.base, arms=arms) for arms in (1, 2)]
    first, other = (
        {job.trial_id for job in arm_jobs(PHASE, p, dict.fromkeys(p.recipes, 1), cold=False)} for p in plans
    )
    assert first & other == {t for t in first if t.startswith("base-")}


def arms_of(recipe, **options):
    return plan_arms(PHASE, recipe, **({"is_base": False} | options))


def test_the_arms_are_the_finalist_without_each_modality_and_the_base_recipe():
    plan = arms_of(PHASE.base.updated({"loss.unimodal": 0.3}))
    own = ("visual", "text", "metadata")
    pairs = [("text", "metadata"), ("visual", "metadata"), ("visual", "text")]
    assert set(plan.recipes) == {
        ArmKey("finalist", own),
        *(ArmKey("finalist", pair) for pair in pairs),
        ArmKey("base", own),
        ArmKey("base", ("text", "metadata")),
    }
    assert plan.recipes[plan.base] == PHASE.base
    assert set(arms_of(PHASE.base, archive_open=False).recipes) & {ArmKey("base", ("text", "metadata"))} == set()
    same = arms_of(PHASE.base, is_base=True)
    assert same.base == same.whole
    assert {key.of for key in same.recipes} == {"finalist"}


def test_a_variant_without_attention_is_trained_on_every_subset_where_shares_are_gated():
    plan = arms_of(PHASE.base.updated({"model.variant": "film"}))
    assert len([key for key in plan.recipes if key.of == "finalist"]) == 7
    phase2 = PHASES["phase2"]  # gates no shares
    few = plan_arms(phase2, PHASE.base.updated({"model.variant": "film"}), is_base=False)
    assert len([key for key in few.recipes if key.of == "finalist"]) == 4


def test_an_arm_without_what_v1_reads_has_lost_v1_s_score_too():
    plan = arms_of(PHASE.base)
    assert PHASE.base.model.context == "v1"
    contexts = {key.modalities: recipe.model.context for key, recipe in plan.recipes.items() if key.of == "finalist"}
    assert contexts[("text", "metadata")] == "v1"
    assert contexts[("visual", "metadata")] == "none"
    assert contexts[("visual", "text")] == "none"


def test_deciding_trainings_have_seeds_of_their_own_in_every_phase():
    plan = arms_of(PHASE.base)
    jobs = {name: arm_jobs(phase, plan, dict.fromkeys(plan.recipes, 5), cold=True) for name, phase in PHASES.items()}
    seeds = {name: {job.seed for job in found} for name, found in jobs.items()}
    assert all(len(found) == 5 for found in seeds.values())
    chosen_with = {SHORT_LIST_SEEDS + i for i in range(100)} | set(range(100))
    assert len(set.union(*seeds.values()) - chosen_with) == 15
    assert {job.items for job in jobs["phase3"]} == {"without cold"}
    assert len({job.trial_id for job in jobs["phase3"]}) == 5 * len(plan.recipes)
    assert Role("refit", ("text", "metadata")) in {job.role for job in jobs["phase3"]}


def test_the_base_recipe_stands_on_every_short_list():
    front = [searched(f"t{i}", ndcg_gain=0.03 + i / 100, v1_correlation=0.7 + i / 20) for i in range(1, 5)]
    base = dataclasses.replace(searched("t0", ndcg_gain=-0.05), name="base")
    found = short_list(PHASE, [base, *front], size=3)
    assert len(found) == 4
    assert found[-1].trial_id == "t0"
    assert short_list(PHASE, [base]) == [base]
    assert [c.is_base for c in candidates(found, [trained(r.trial_id, s) for r in found for s in (0, 1)])][-1]


def test_the_short_list_begins_with_the_trial_that_meets_every_gate():
    front = [
        searched("t1", ndcg_gain=0.06, v1_correlation=0.93),
        searched("t2"),
        searched("t3", attention_max_share=0.5),
    ]
    assert [record.trial_id for record in short_list(PHASE, front, size=2)] == ["t2", "t1"]


def test_what_a_candidate_does_not_measure_it_does_not_pass():
    """A recipe without a decoder has no SSIM, and so can never pass the gate on it."""
    phase = PHASES["phase2"]
    gate = next(gate for gate in phase.gates if gate.needs == "images")
    without = quantities()
    close = without | {gate.quantity: Interval(gate.threshold + 0.01, 0.0, 1.0, variance=Variance(query=0.02**2))}
    known = {*without, *close}
    assert chance(phase, without, known=known) < chance(phase, close, known=known) < chance(phase, without)


def test_the_best_of_the_first_rung_get_a_second_training_and_the_base_recipe_always():
    """One training cannot tell who is surely behind, so only places count; a base recipe far behind stays too."""
    found = [candidate(f"t{i}", trainings=(f"t{i}-s0",), is_base=i == 0) for i in range(5)]
    drops = [-0.5, 0.08, 0.02, 0.06, 0.0]
    measured = {c.trial_id: quantities(visual_masking_drop=d, error=0.01) for c, d in zip(found, drops, strict=True)}
    assert [c.trial_id for c in next_rung(PHASE, measured, {}, found, 2)] == ["t0", "t1", "t3"]
    assert [c.trial_id for c in next_rung(PHASE, measured, {}, found, 9)] == [c.trial_id for c in found]


def test_who_is_surely_behind_after_two_trainings_gets_no_third():
    found = [candidate("ahead"), candidate("close"), candidate("far"), candidate("base", is_base=True)]
    measured = {
        "ahead": quantities(visual_masking_drop=0.08, error=0.02),
        "close": quantities(visual_masking_drop=0.06, error=0.02),
        "far": quantities(visual_masking_drop=0.00, error=0.02),
        "base": quantities(visual_masking_drop=0.00, error=0.02),
    }
    assert [c.trial_id for c in next_rung(PHASE, measured, {}, found, 3)] == ["ahead", "close", "base"]
    behind = {"close": [Interval(-0.1, -0.12, -0.08, variance=Variance(query=0.01**2))]}  # by a rival's lead
    assert [c.trial_id for c in next_rung(PHASE, measured, behind, found, 3)] == ["ahead", "base"]


def test_what_a_rung_left_out_is_not_the_finalist_but_stays_in_the_tables():
    """The leader's third training may take it below one that got two: that one's place was clear before."""
    chosen = [searched("t1"), searched("t2")]
    records = [trained("t1", s) for s in (0, 1, 2)] + [trained("t2", s) for s in (0, 1)]
    found = candidates(chosen, records, left_out={"t2"})
    assert [(c.trial_id, len(c.trainings), c.left_out) for c in found] == [("t1", 3, False), ("t2", 2, True)]
    measured = {"t1": quantities(visual_masking_drop=0.01, error=0.01), "t2": quantities()}
    assert choose(PHASE, measured, {}, found).trial_id == "t1"


def test_earlier_trainings_of_others_leave_nobody_out():
    """A run that goes on has recipes with three trainings and new ones with one: both stand in its first rung."""
    chosen = [searched("t1"), searched("t9")]
    records = [trained("t1", s) for s in (0, 1, 2)] + [trained("t9", 0)]
    found = candidates(chosen, records, least=1)
    assert [(c.trial_id, c.left_out) for c in found] == [("t1", False), ("t9", False)]
