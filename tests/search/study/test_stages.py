"""Stages hand out jobs and take outcomes; the journal alone carries them over an interruption."""

import math

import optuna
import pytest
from optuna.trial import TrialState

from search.run_store.job import Job, Outcome
from search.run_store.journal import open_journal
from search.study.search_stage import SearchStage
from search.study.stages import FixedStage
from spaces import PHASES

PHASE = PHASES["phase1"]
GATES = {gate.quantity: gate.threshold for gate in (*PHASE.gates, *PHASE.resume_gates) if gate.steers}
GOOD = (
    {o.name: o.reference for o in PHASE.objectives}
    | GATES
    | {"ndcg_gain": 0.02, "visual_masking_drop": 0.06, "attention_max_share": 0.5, "v1_correlation": 0.9}
)


def outcome(state="finished", numbers=GOOD, reason=""):
    return Outcome(state=state, reason=reason, epochs=3, numbers=numbers, seconds=1.0)


def search(path, trials=6, sampler="random"):
    return SearchStage(open_journal(path), PHASE, sampler=sampler, trials=trials, seed=0)


def test_the_base_and_the_known_points_are_asked_first(tmp_path):
    stage = search(tmp_path / "j")
    names = [stage.ask().name for _ in range(3)]
    assert names == ["base", "balanced", "sampled"]


def test_the_base_job_is_the_base_recipe_and_the_known_one_its_changes(tmp_path):
    stage = search(tmp_path / "j")
    assert stage.ask().recipe == PHASE.base.flat()
    assert stage.ask().recipe == PHASE.known_recipes()["balanced"].flat()


def test_the_study_names_its_objectives_for_other_readers(tmp_path):
    names = [o.name for o in PHASE.objectives]
    assert search(tmp_path / "j").study.metric_names == search(tmp_path / "j").study.metric_names == names


def test_no_more_than_the_total_is_asked(tmp_path):
    stage = search(tmp_path / "j", trials=3)
    assert [stage.ask() is None for _ in range(5)] == [False, False, False, True, True]


def test_states_reach_optuna_as_what_they_are(tmp_path):
    stage = search(tmp_path / "j")
    for state in ("finished", "stopped", "failed"):
        stage.tell(stage.ask(), outcome(state, reason="why" if state != "finished" else ""))
    stage.ask()
    states = [t.state for t in stage.study.trials if "job" in t.user_attrs]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]
    assert [r.state for r in stage.records()] == ["finished", "stopped", "failed", "running"]
    assert stage.records()[1].state_reason == "why"


def test_finished_and_stopped_trials_carry_the_same_constraints_and_never_nan(tmp_path):
    stage = search(tmp_path / "j")
    stage.tell(stage.ask(), outcome())
    stage.tell(stage.ask(), outcome("stopped", numbers={"ndcg_gain": math.nan}))
    complete, pruned = (t.constraints for t in stage.study.trials[:2])
    assert complete.keys() == pruned.keys() == {g.name for g in PHASE.gates} | {"unfinished"}
    assert all(math.isfinite(v) for v in pruned.values())
    assert complete["unfinished"] == 0.0
    assert pruned["unfinished"] == 1.0
    assert all(v <= 0.0 for v in complete.values())


def test_objectives_are_counted_to_their_bounds_and_numbers_stay_raw(tmp_path):
    stage = search(tmp_path / "j")
    numbers = GOOD | {"visual_masking_drop": 0.9, "attention_max_share": 0.34, "v1_correlation": 0.1}
    record = stage.tell(stage.ask(), outcome(numbers=numbers))
    assert stage.study.trials[0].values == [0.02, 0.15, 0.40, 0.70]
    assert record.numbers == numbers


@pytest.mark.parametrize("value", [None, math.nan])
def test_a_finished_trial_without_an_objective_is_failed_by_name(tmp_path, value):
    stage = search(tmp_path / "j")
    numbers = {k: v for k, v in (GOOD | {"v1_correlation": value}).items() if v is not None}
    record = stage.tell(stage.ask(), outcome(numbers=numbers))
    assert record.state == "failed"
    assert record.state_reason == "finished without a number for v1_correlation"
    assert stage.study.trials[0].state == TrialState.FAIL
    fixed = FixedStage(
        open_journal(tmp_path / "k"), "confirm", [Job(trial_id="c", name="c", recipe=PHASE.base.flat(), seed=0)]
    )
    assert fixed.tell(fixed.ask(), outcome(numbers={"ndcg": math.nan})).state == "failed"


def test_an_interrupted_trial_keeps_its_number_and_parameters_and_comes_first(tmp_path):
    stage = search(tmp_path / "j", trials=5)
    first, second, third = stage.ask(), stage.ask(), stage.ask()
    stage.tell(second, outcome())
    again = search(tmp_path / "j", trials=5)
    assert [again.ask(), again.ask()] == [first, third]
    assert again.ask().trial_id not in {first.trial_id, second.trial_id, third.trial_id}
    assert again.ask() is not None
    assert again.ask() is None
    for job in (first, third):
        assert again.tell(job, outcome()).state == "finished"
    assert len(again.study.trials) == 5


def test_a_trial_killed_while_it_was_asked_is_asked_to_its_end(tmp_path):
    path = tmp_path / "j"
    stage = search(path, trials=4)
    for _ in range(2):
        stage.tell(stage.ask(), outcome())
    stage.study.ask()  # RUNNING in the journal, with no job yet: the driver died here
    again = search(path, trials=4)
    jobs = [again.ask() for _ in range(3)]
    assert [job is None for job in jobs] == [False, False, True]
    assert [job.trial_id for job in jobs[:2]] == ["t0002", "t0003"]
    assert len(again.study.trials) == 4


def test_a_fixed_stage_hands_out_each_job_once_over_interruptions(tmp_path):
    jobs = [Job(trial_id=f"alone-{i}", name=str(i), recipe=PHASE.base.flat(), seed=i, detail="full") for i in range(4)]
    path = tmp_path / "j"
    stage = FixedStage(open_journal(path), "baselines", jobs)
    assert [stage.ask(), stage.ask()] == jobs[:2]
    stage.tell(jobs[0], outcome(numbers={"ndcg": 0.5}))
    again = FixedStage(open_journal(path), "baselines", jobs)
    assert [again.ask() for _ in range(4)] == [jobs[1], jobs[2], jobs[3], None]


def test_a_fixed_stage_that_grows_hands_out_what_is_new_and_keeps_what_it_had(tmp_path):
    jobs = [Job(trial_id=f"ablate-{i}", name=str(i), recipe=PHASE.base.flat(), seed=i) for i in range(4)]
    stage = FixedStage(open_journal(tmp_path / "j"), "ablation", jobs[:2])
    assert [stage.ask() for _ in range(3)] == [*jobs[:2], None]
    stage.extend(jobs[1:3])
    assert (stage.total, stage.ask(), stage.ask()) == (3, jobs[2], None)
    again = FixedStage(open_journal(tmp_path / "j"), "ablation", [jobs[3]])  # another trial's, in the same stage
    assert again.total == 4
    assert {again.ask().trial_id for _ in range(4)} == {job.trial_id for job in jobs}
    assert again.ask() is None


def failed(failure):
    return Outcome(state="failed", reason="", failure=failure, epochs=0, numbers={}, seconds=1.0)


@pytest.mark.parametrize("failure", ["machine", "out_of_memory", "disk_full"])
def test_what_failed_by_its_machine_is_handed_out_again_as_it_was_and_once_an_opening(tmp_path, failure):
    jobs = [Job(trial_id=f"d{i}", name=str(i), recipe=PHASE.base.flat(), seed=i) for i in range(3)]
    path = tmp_path / "j"
    stage = FixedStage(open_journal(path), "deciding", jobs, again=True)
    for _ in jobs:
        stage.tell(stage.ask(), failed(failure))
    stage.extend(jobs)
    assert (stage.ask(), stage.left) == (None, 0)  # in the same process it would fail again
    assert FixedStage(open_journal(path), "deciding", jobs).ask() is None
    later = FixedStage(open_journal(path), "deciding", jobs[:2], again=True)
    assert [job.trial_id for job in later.planned()] == ["d0", "d1", "d2"]
    assert (later.left, [later.ask() for _ in range(3)]) == (2, [*jobs[:2], None])
    later.tell(jobs[0], outcome(numbers={"ndcg": 0.5}))
    later.tell(jobs[1], failed(failure))
    assert {r.trial_id: r.state for r in later.records()} == {"d0": "finished", "d1": "failed", "d2": "failed"}
    last = FixedStage(open_journal(path), "deciding", jobs, again=True)
    assert [last.ask() for _ in range(3)] == [jobs[1], jobs[2], None]
    resumed = FixedStage(open_journal(path), "deciding", jobs, again=True)  # interrupted in both
    assert [resumed.ask() for _ in range(3)] == [jobs[1], jobs[2], None]


def test_what_failed_by_itself_is_not_handed_out_again(tmp_path):
    job = Job(trial_id="d0", name="0", recipe=PHASE.base.flat(), seed=0)
    stage = FixedStage(open_journal(tmp_path / "j"), "deciding", [job])
    stage.tell(stage.ask(), failed(None))
    assert FixedStage(open_journal(tmp_path / "j"), "deciding", [job], again=True).ask() is None


def test_two_stages_share_one_journal(tmp_path):
    storage = open_journal(tmp_path / "j")
    FixedStage(storage, "baselines", []).ask()
    SearchStage(storage, PHASE, sampler="random", trials=1, seed=0).ask()
    assert {s.study_name for s in optuna.get_all_study_summaries(storage)} == {"baselines", "search"}


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "nsga3", "gp", "random"])
def test_every_sampler_proposes_inside_the_space_with_stopped_and_failed_trials_behind_it(tmp_path, sampler):
    stage = search(tmp_path / "j", trials=14, sampler=sampler)
    for index in range(14):
        job = stage.ask()
        stage.phase.base.updated(job.recipe)  # a recipe that does not build raises
        state = ("finished", "stopped", "failed")[0 if index < 8 else index % 3]
        numbers = GOOD | {"ndcg_gain": job.recipe["train.learning_rate"]}
        stage.tell(job, outcome(state, numbers=numbers if state == "finished" else {}))
    assert stage.ask() is None


def warm_search(path, warm, earlier=None, trials=6):
    stage = SearchStage(open_journal(path), PHASE, sampler="random", trials=trials, seed=0, earlier=earlier)
    stage.enqueue_warm(warm)
    return stage


def test_warm_points_are_asked_right_after_the_known_ones_and_survive_an_interruption(tmp_path):
    base = PHASE.base.flat()
    inside = base | {"train.learning_rate": 5e-3, "loss.unimodal": 0.2}
    outside = base | {"train.learning_rate": 0.5, "model.width": 8}
    known = PHASE.known_recipes()["balanced"].flat()
    strange = base | {"model.scale": "none such"}
    warm = {"inside": inside, "outside": outside, "again": known, "strange": strange}
    stage = warm_search(tmp_path / "j", warm)
    jobs = [stage.ask() for _ in range(4)]
    assert [job.name for job in jobs] == ["base", "balanced", "inside", "outside"]
    assert jobs[2].recipe == inside
    assert jobs[3].recipe == base | {"train.learning_rate": PHASE.ranges["train.learning_rate"].high}
    assert stage.notes == [
        "outside is moved into the space (model.width, train.learning_rate)",
        "strange is left out: model.scale = 'none such' is not among ('block', 'feature')",
    ]
    again = warm_search(tmp_path / "j", warm)
    assert [again.ask().name for _ in range(6)] == ["base", "balanced", "inside", "outside", "sampled", "sampled"]
    assert again.ask() is None


class Before:
    """What an earlier run had: three trials, one of them with a key that this phase does not search."""

    def __init__(self):
        base = PHASE.base.flat()
        recipes = [base, base | {"loss.temperature": 2.0}, base | {"loss.adversarial": 0.1}]
        self.jobs = [Job(trial_id=f"phase0-t{i}", name="sampled", recipe=r, seed=0) for i, r in enumerate(recipes)]

    def searched(self):
        return self.jobs

    def outcome(self, job):
        return outcome(reason="taken over from phase0") if job.recipe in [j.recipe for j in self.jobs] else None


def test_earlier_trials_in_the_space_are_told_and_not_trained_again(tmp_path):
    for _ in range(2):  # opened a second time, nothing is told twice
        stage = warm_search(tmp_path / "j", {}, earlier=Before())
        taken = [r for r in stage.records() if r.state == "finished"]
        assert [(r.trial_id, r.name, r.state_reason) for r in taken] == [
            ("phase0-t0", "base", "taken over from phase0"),
            ("phase0-t1", "sampled", "taken over from phase0"),
        ]
    told = stage.study.get_trials(states=(TrialState.COMPLETE,))
    assert [t.values for t in told] == [[0.02, 0.06, 0.5, 0.9]] * 2
    assert told[0].constraints.keys() == {g.name for g in PHASE.gates} | {"unfinished"}
    asked = [stage.ask() for _ in range(7)]
    assert [job and job.name for job in asked] == ["balanced", *["sampled"] * 5, None]
    assert {job.trial_id for job in asked if job}.isdisjoint(r.trial_id for r in taken)


def test_a_fixed_stage_takes_over_the_very_same_training_alone(tmp_path):
    class Done(Before):
        def outcome(self, job):
            return outcome(numbers={"ndcg": 0.6}) if job.seed == 1 else None

    jobs = [Job(trial_id=f"alone-{i}", name=str(i), recipe=PHASE.base.flat(), seed=i) for i in range(3)]
    for _ in range(2):
        stage = FixedStage(open_journal(tmp_path / "j"), "baselines", jobs, earlier=Done())
        assert [r.trial_id for r in stage.records() if r.finished] == ["alone-1"]
    assert [stage.ask(), stage.ask(), stage.ask()] == [jobs[0], jobs[2], None]


@pytest.mark.parametrize("asked", [2, 3, 4, 9])
def test_a_search_that_goes_on_with_fewer_trials_ends_those_that_it_had_begun(tmp_path, asked):
    stage = search(tmp_path / "j", trials=9)
    for _ in range(2):
        stage.tell(stage.ask(), outcome())
    interrupted = [stage.ask().trial_id for _ in range(2)]
    again = search(tmp_path / "j", trials=asked)
    assert (again.total, again.left) == (max(asked, 4), max(asked, 4) - 2)
    handed_out = [job.trial_id for job in iter(again.ask, None)]
    assert handed_out[:2] == interrupted
    assert len(handed_out) == max(asked, 4) - 2


def test_a_search_that_is_closed_hands_out_nothing_and_leaves_nothing_running(tmp_path):
    stage = search(tmp_path / "j", trials=9)
    stage.tell(stage.ask(), outcome())
    interrupted = stage.ask()
    again = search(tmp_path / "j", trials=9)
    assert again.close("why") == [interrupted.trial_id]
    assert (again.ask(), again.left, again.total) == (None, 0, 2)
    assert [(r.state, r.state_reason) for r in again.records()][1] == ("stopped", "why")
    more = search(tmp_path / "j", trials=9)  # as by --extend
    assert more.ask().trial_id not in (interrupted.trial_id, None)
