"""The scheduler on real trials of Tune: who may be stopped, what is recorded, and one whole search on Ray."""

import dataclasses

import pandas as pd
import pytest
from optuna.trial import TrialState
from ray.tune.experiment import Trial

from search.analysis.front import pareto_front
from search.analysis.tables import trials_table
from search.execution.file_transfer import DataTicket
from search.execution.moasha import MultiObjectiveAsha, grace_period
from search.execution.tuning import TuneSession
from search.options import RunOptions
from search.run_store.job import Job, Outcome
from search.run_store.journal import open_journal
from search.study.search_stage import SearchStage
from search.study.stages import FixedStage
from spaces import PHASES
from spaces.ranges import Choice, Float

SMALL = "planted?queries=160&candidates=8"
PHASE = dataclasses.replace(
    PHASES["phase1"],
    base=PHASES["phase1"].base.updated({"model.layers": 1, "model.width": 16, "train.epochs": 6, "train.patience": 6}),
    ranges={
        "train.learning_rate": Float(low=1e-5, high=1e-2, log=True),
        "train.modality_dropout": Choice(values=(0.0, 0.2)),
    },
    known={"balanced": {"train.learning_rate": 1e-2}},
)
"""Rungs at 1 and 3 epochs of 6; learning rates that are far too low fall behind at once."""
GOOD = {"ndcg_gain": 0.05, "visual_masking_drop": 0.10, "attention_max_share": 0.40, "v1_correlation": 0.75}


def search(path, trials=12):
    return SearchStage(open_journal(path), PHASE, sampler="random", trials=trials, seed=0)


def tune_trial(job):
    return Trial("stub", stub=True, config={"job": job.plain()})


def result(epochs, **numbers):
    """As Tune hands it to a scheduler: flattened."""
    return {"epochs": epochs} | {f"numbers/{key}": value for key, value in (GOOD | numbers).items()}


def known_first(stage, scheduler, **numbers):
    """Ask the base and the balanced recipe, and bring both to the first rung."""
    jobs = [stage.ask(), stage.ask()]
    decisions = [scheduler.on_trial_result(None, tune_trial(job), result(1, **numbers)) for job in jobs]
    assert decisions == ["CONTINUE", "CONTINUE"]
    return jobs


@pytest.mark.parametrize(("max_t", "grace"), [(1, 1), (5, 1), (6, 1), (7, 2), (10, 2), (12, 2), (60, 10)])
def test_the_grace_period_is_a_sixth_of_a_training_rounded_up(max_t, grace):
    assert grace_period(max_t) == grace


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"ndcg_gain": 0.06}, {"ndcg_gain": 0.04}),
        ({"visual_masking_drop": 0.11}, {"visual_masking_drop": 0.09}),
        ({"attention_max_share": 0.41}, {"attention_max_share": 0.50}),
        ({"v1_correlation": 0.71}, {"v1_correlation": 0.80}),
        ({"ndcg_gain": -0.5}, {"ndcg_gain": float("nan")}),
        ({"ndcg_gain": 0.01, "v1_correlation": 0.99}, {"ndcg_gain": 0.009, "v1_correlation": 0.1}),  # a gate first
    ],
)
def test_each_objective_counts_in_its_own_direction_and_gates_count_first(tmp_path, better, worse):
    for first, second, decision in ((better, worse, "STOP"), (worse, better, "CONTINUE")):
        stage = search(tmp_path / f"{decision}.journal")
        scheduler = MultiObjectiveAsha(stage)
        stage.ask(), stage.ask()
        one, two = stage.ask(), stage.ask()
        assert scheduler.on_trial_result(None, tune_trial(one), result(1, **first)) == "CONTINUE"
        assert scheduler.on_trial_result(None, tune_trial(two), result(1, **second)) == decision


def test_a_value_beyond_its_bound_counts_as_the_bound(tmp_path):
    stage = search(tmp_path / "j")
    scheduler = MultiObjectiveAsha(stage)
    stage.ask(), stage.ask()
    one, two = stage.ask(), stage.ask()
    scheduler.on_trial_result(None, tune_trial(one), result(1, visual_masking_drop=0.9))
    scheduler.on_trial_result(None, tune_trial(two), result(1, visual_masking_drop=0.15, ndcg_gain=0.051))
    assert [entry.kept for entry in stage.rung_entries()] == [True, True]


def test_known_recipes_are_compared_but_never_stopped_and_fixed_jobs_are_not_even_compared(tmp_path):
    stage = search(tmp_path / "j")
    scheduler = MultiObjectiveAsha(stage)
    base, balanced = known_first(stage, scheduler, ndcg_gain=0.001)
    sampled = stage.ask()
    assert scheduler.on_trial_result(None, tune_trial(sampled), result(1)) == "CONTINUE"
    for epochs in (2, 3, 4):
        for job in (base, balanced):
            assert scheduler.on_trial_result(None, tune_trial(job), result(epochs, ndcg_gain=-1.0)) == "CONTINUE"
    fixed = Job(trial_id="alone-text", name="text alone", recipe=PHASE.base.flat(), seed=0)
    assert scheduler.on_trial_result(None, tune_trial(fixed), result(3, ndcg_gain=-9.0)) == "CONTINUE"
    scheduler.on_trial_complete(None, tune_trial(fixed), result(6) | {"outcome": "finished"})
    assert {entry.trial_id for entry in stage.rung_entries()} == {job.trial_id for job in (base, balanced, sampled)}


def test_what_ends_by_itself_stands_at_the_rungs_above_and_what_failed_stands_last(tmp_path):
    stage = search(tmp_path / "j")
    scheduler = MultiObjectiveAsha(stage)
    known_first(stage, scheduler)
    done, broken = stage.ask(), stage.ask()
    better = {"ndcg_gain": 0.06, "visual_masking_drop": 0.12, "attention_max_share": 0.4, "v1_correlation": 0.7}
    scheduler.on_trial_complete(None, tune_trial(done), result(2, **better) | {"outcome": "finished"})
    scheduler.on_trial_complete(None, tune_trial(broken), {"epochs": 0, "outcome": "failed"})
    entries = {(e.trial_id, e.level): e for e in stage.rung_entries()}
    assert entries[done.trial_id, 1].kept
    assert entries[done.trial_id, 3].kept
    assert not entries[broken.trial_id, 1].kept
    assert (broken.trial_id, 3) not in entries


def test_a_process_that_died_and_is_tried_again_has_not_failed(tmp_path):
    stage = search(tmp_path / "j")
    scheduler = MultiObjectiveAsha(stage)
    job = stage.ask()
    trial = Trial("stub", stub=True, config={"job": job.plain()}, max_failures=1)
    trial.run_metadata.num_failures = 1
    scheduler.on_trial_error(None, trial)
    assert stage.rung_entries() == []
    trial.run_metadata.num_failures = 2
    scheduler.on_trial_error(None, trial)
    assert [entry.trial_id for entry in stage.rung_entries()] == [job.trial_id, job.trial_id]


def test_a_resumed_search_keeps_its_rungs_and_does_not_forget_whom_it_had_stopped(tmp_path):
    path = tmp_path / "j"
    stage = search(path)
    scheduler = MultiObjectiveAsha(stage)
    known = known_first(stage, scheduler)
    condemned = stage.ask()
    assert scheduler.on_trial_result(None, tune_trial(condemned), result(1, ndcg_gain=-1.0)) == "STOP"
    # the driver is killed before the trial is told as stopped
    again = search(path)
    scheduler = MultiObjectiveAsha(again)
    assert [again.ask().trial_id for _ in range(3)] == [job.trial_id for job in (*known, condemned)]
    assert scheduler.on_trial_result(None, tune_trial(condemned), result(2)) == "STOP"
    assert scheduler.reason(condemned.trial_id).startswith("stopped early at the rung of 1 epochs: not among the best")
    poor = again.ask()
    assert scheduler.on_trial_result(None, tune_trial(poor), result(1, ndcg_gain=-2.0)) == "STOP"
    assert "of the 4 trials" in scheduler.reason(poor.trial_id)


def test_stopped_trials_reach_optuna_as_pruned_with_every_constraint(tmp_path):
    stage = search(tmp_path / "j")
    scheduler = MultiObjectiveAsha(stage)
    known_first(stage, scheduler)
    job = stage.ask()
    assert scheduler.on_trial_result(None, tune_trial(job), result(1, ndcg_gain=0.02)) == "STOP"
    numbers = GOOD | {"ndcg_gain": 0.02}
    reason = scheduler.reason(job.trial_id)
    stage.tell(job, Outcome(state="stopped", reason=reason, epochs=1, numbers=numbers, seconds=1.0))
    trial = stage.study.trials[2]
    assert trial.state == TrialState.PRUNED
    assert trial.constraints.keys() == {gate.name for gate in PHASE.gates} | {"unfinished"}
    assert trial.constraints["unfinished"] == 1.0


def test_tpe_does_not_go_back_to_where_trials_were_stopped(tmp_path):
    """Stopped trials whose early numbers met every gate, against finished ones that miss one by a little."""
    phase = dataclasses.replace(PHASE, ranges={"train.modality_dropout": Float(low=0.0, high=0.8)}, known={})
    stage = SearchStage(open_journal(tmp_path / "j"), phase, sampler="tpe", trials=41, seed=1)
    drawn = []
    while (job := stage.ask()) is not None:
        drawn.append(job.recipe["train.modality_dropout"])
        stopped = drawn[-1] > 0.4
        numbers = GOOD | {"ndcg_gain": 0.02 if stopped else 0.009 - 0.01 * drawn[-1]}
        state = "stopped" if stopped else "finished"
        stage.tell(job, Outcome(state=state, reason="", epochs=1, numbers=numbers, seconds=1.0))
    assert (
        sum(dropout > 0.4 for dropout in drawn[21:]) <= 5
    )  # of 20; over six seeds 0 to 2, without `unfinished` 13 to 20


def run_search(tmp_path, scheduler, trials):
    options = RunOptions(phase="phase1", data=SMALL, scheduler=scheduler, max_concurrent=2)
    storage = open_journal(tmp_path / "j")
    fixed = Job(
        trial_id="slow", name="far too slow", recipe=PHASE.base.updated({"train.learning_rate": 1e-7}).flat(), seed=0
    )
    stages = [
        FixedStage(storage, "baselines", [fixed]),
        SearchStage(storage, PHASE, sampler="random", trials=trials, seed=0),
    ]
    TuneSession(
        options,
        DataTicket(source=SMALL),
        checkpoints=tmp_path / "checkpoints",
        tune_folder=tmp_path / "tune",
    ).train(stages, [])
    return stages


def test_on_ray_some_sampled_trials_are_stopped_and_none_of_them_stands_on_the_front(tmp_path, shared_ray):
    baselines, stage = run_search(tmp_path, "moasha", trials=12)
    records = stage.records()
    assert [(r.state, r.epochs) for r in baselines.records()] == [("finished", 6)]
    assert [(r.name, r.state, r.epochs) for r in records[:2]] == [("base", "finished", 6), ("balanced", "finished", 6)]
    stopped = [r for r in records if r.state == "stopped"]
    assert len(stopped) >= 3
    assert all(r.state == "finished" for r in records if r not in stopped)
    for record in stopped:
        assert record.name == "sampled"
        assert record.epochs in (1, 3)
        assert record.state_reason.startswith(f"stopped early at the rung of {record.epochs} epochs")
        assert GOOD.keys() <= record.numbers.keys()
        assert not (tmp_path / "checkpoints" / record.trial_id / "training").exists()
    states = {t.user_attrs["job"]["trial_id"]: t.state for t in stage.study.trials}
    assert all(states[r.trial_id] == TrialState.PRUNED for r in stopped)
    front = pareto_front(PHASE, records)
    assert front
    assert not {r.trial_id for r in front} & {r.trial_id for r in stopped}
    table = trials_table(records).set_index("trial_id")
    assert pd.notna(table.loc[stopped[0].trial_id, "ndcg_gain"])
    judged = {(e.trial_id, e.level) for e in stage.rung_entries()}
    assert {(r.trial_id, 1) for r in records} <= judged


def test_on_ray_without_a_scheduler_every_trial_runs_to_its_end(tmp_path, shared_ray):
    _, stage = run_search(tmp_path, "none", trials=4)
    assert [(r.state, r.epochs) for r in stage.records()] == [("finished", 6)] * 4
    assert stage.rung_entries() == []
