"""What a search proposes and stops hangs on trial numbers, not on which training ends first."""

import dataclasses
import heapq

import numpy as np
import optuna
import pytest
from ray.tune.experiment import Trial

from search.execution.moasha import MultiObjectiveAsha
from search.run_store.job import Outcome
from search.run_store.journal import open_journal
from search.study.samplers import SAMPLERS, one_a_trial
from search.study.search_stage import LAG, SearchStage, lag_of, trials_to_fill
from spaces import PHASES

BASE = PHASES["phase1"].base.updated({"train.epochs": 6, "train.patience": 6})
PHASE = dataclasses.replace(PHASES["phase1"], base=BASE)
TRIALS, WORKERS = 18, 3
QUICK = [name for name in SAMPLERS if name != "gp"]
"""Those that propose in a moment: a Gaussian process is fitted for seconds."""


def numbers(job, epochs=6):
    """What a training would measure: it hangs on its recipe and its epochs alone."""
    values = sorted((key, str(value)) for key, value in job.recipe.items())
    draw = np.random.default_rng(list(repr(values).encode())).random(4) + 0.02 * epochs
    names = ("ndcg_gain", "visual_masking_drop", "attention_max_share", "v1_correlation")
    return dict(zip(names, map(float, draw), strict=True))


def failing(job):
    return numbers(job)["ndcg_gain"] > 1.0


def simulate(path, *, lag, luck, sampler="tpe", asha=True, stop_after=None, workers=WORKERS, trials=TRIALS):
    """A search of which `workers` trainings run at once, each for a time that `luck` draws."""
    stage = SearchStage(open_journal(path), PHASE, sampler=sampler, trials=trials, seed=3)
    stage.lag = lag
    scheduler = MultiObjectiveAsha(stage) if asha else None
    random, clock, running = np.random.default_rng(luck), 0.0, []
    ended = 0
    while True:
        while len(running) < workers and stage.ready() and (job := stage.ask()) is not None:
            heapq.heappush(running, (clock + random.exponential(), job.trial_id, job, 1))
        if not running or ended == stop_after:
            return stage
        clock, _, job, epochs = heapq.heappop(running)
        trial = Trial("stub", stub=True, config={"job": job.plain()})
        flat = {f"numbers/{key}": value for key, value in numbers(job, epochs).items()}
        done = "finished" if epochs == 6 else None
        if asha and done is None and scheduler.on_trial_result(None, trial, {"epochs": epochs} | flat) == "STOP":
            done = "stopped"
        if done is None:
            heapq.heappush(running, (clock + random.exponential(), job.trial_id, job, epochs + 1))
            continue
        done = "failed" if done == "finished" and failing(job) else done
        if asha and done != "stopped":
            told = flat if done == "finished" else {}
            scheduler.on_trial_complete(None, trial, {"epochs": epochs, "outcome": done} | told)
        measured = {} if done == "failed" else numbers(job, epochs)
        stage.tell(job, Outcome(state=done, reason="", epochs=epochs, numbers=measured, seconds=1.0))
        ended += 1


def story(stage):
    """Recipes in the order of their numbers, how each ended and how it was judged."""
    judged = {(e.trial_id, e.level): (e.kept, e.among) for e in stage.rung_entries()}
    return [(r.trial_id, r.recipe, r.state, r.epochs) for r in stage.records()], judged


@pytest.mark.parametrize("sampler", QUICK)
def test_luck_changes_nothing(tmp_path, sampler):
    stories = [story(simulate(tmp_path / f"{luck}", lag=2 * WORKERS, luck=luck, sampler=sampler)) for luck in range(4)]
    assert all(other == stories[0] for other in stories[1:])
    assert {state for _, _, state, _ in stories[0][0]} >= {"finished", "stopped"}
    assert len(stories[0][0]) == TRIALS


def test_without_an_order_it_does(tmp_path):
    stories = [story(simulate(tmp_path / f"{luck}", lag=None, luck=luck)) for luck in range(4)]
    assert any(other != stories[0] for other in stories[1:])


def test_what_is_seen_is_used(tmp_path):
    """TPE proposes other points than a search at random does once it sees results."""
    tpe, at_random = (
        simulate(tmp_path / name, lag=2 * WORKERS, luck=0, sampler=name, asha=False) for name in ("tpe", "random")
    )
    assert [r.recipe for r in tpe.records()] != [r.recipe for r in at_random.records()]


def test_a_training_is_asked_for_only_when_those_that_it_sees_have_ended(tmp_path):
    stage = SearchStage(open_journal(tmp_path / "j"), PHASE, sampler="tpe", trials=8, seed=3)
    stage.lag = 2
    known = [stage.ask(), stage.ask()]
    assert [job.name for job in known] == ["base", "balanced"]
    assert not stage.ready()  # trial 2 sees trial 0, which is under way
    stage.tell(known[1], Outcome(state="finished", reason="", epochs=6, numbers=numbers(known[1]), seconds=1.0))
    assert not stage.ready()
    stage.tell(known[0], Outcome(state="finished", reason="", epochs=6, numbers=numbers(known[0]), seconds=1.0))
    assert stage.ready()
    stage.ask()
    assert stage.ready()  # trial 3 sees trial 1


@pytest.mark.parametrize("sampler", QUICK)
def test_an_interrupted_search_goes_on_with_the_same_proposals(tmp_path, sampler):
    whole = story(simulate(tmp_path / "whole", lag=2 * WORKERS, luck=0, asha=False, sampler=sampler))
    simulate(tmp_path / "cut", lag=2 * WORKERS, luck=1, asha=False, stop_after=14, sampler=sampler)
    resumed = story(simulate(tmp_path / "cut", lag=2 * WORKERS, luck=2, asha=False, sampler=sampler))
    assert [recipe for _, recipe, _, _ in resumed[0]] == [recipe for _, recipe, _, _ in whole[0]]


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_trials_sampler_remembers_no_other_trial(name):
    """Else an interrupted search, which asks for later trials alone, would be proposed others."""
    study, range_ = optuna.create_study(directions=["maximize"]), optuna.distributions.FloatDistribution(0.0, 1.0)

    def drawn(numbers):
        build = one_a_trial(name, seed=3, trials=24)
        trials = [optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING) for _ in numbers]
        return [
            build(n).sample_independent(study, trial, "x", range_) for n, trial in zip(numbers, trials, strict=True)
        ]

    whole = drawn([4, 5, 6])
    assert drawn([6]) == whole[-1:]
    assert len(set(whole)) == 3


def test_unseen_trials_look_as_if_they_still_ran(tmp_path):
    stage = simulate(tmp_path / "j", lag=2 * WORKERS, luck=0)
    seen = stage.study.sampler._of(stage.study, 12)[1]
    states = {t.number: t.state for t in seen._get_trials()}
    assert max(states) == 12
    assert {states[n] for n in range(7, 13)} == {optuna.trial.TrialState.RUNNING}
    assert optuna.trial.TrialState.RUNNING not in {states[n] for n in range(7)}
    assert all(t.values is None for t in seen._get_trials() if t.number > 6)


@pytest.mark.parametrize("trials", [12, 24, 36])
def test_more_places_turn_nothing_off(tmp_path, trials):
    """However many train at once, most sampled trials see results, and rungs stop about as many as at two."""
    stopped = {}
    for workers in (2, 4, 64):
        lag = lag_of(trials, workers)
        stage = simulate(tmp_path / f"{workers}", lag=lag, luck=0, workers=workers, trials=trials)
        sampled = [int(r.trial_id[1:]) for r in stage.records() if r.name == "sampled"]
        assert sum(stage.seen_by(n) >= 0 for n in sampled) >= 2 / 3 * len(sampled), workers
        stopped[workers] = sum(r.state == "stopped" for r in stage.records())
    assert all(abs(count - stopped[2]) <= trials // 6 for count in stopped.values()), stopped


@pytest.mark.parametrize("trials", [1, 8, 24, 100])
def test_a_lag_has_room_for_two_and_grows_with_the_search(trials):
    lags = [lag_of(trials, workers) for workers in range(1, 65)]
    assert lags[:2] == [LAG, 2 * LAG]
    assert lags == sorted(lags)
    assert lags[-1] == {1: 4, 8: 4, 24: 6, 100: 16}[trials] == lag_of(trials, None)
    assert lag_of(trials_to_fill(64), 64) == 64


def test_no_more_train_at_once_than_the_lag(tmp_path):
    """And from half the lag on, how many places there are changes no proposal."""
    lag = lag_of(24, 64)
    stories = [
        story(simulate(tmp_path / f"{workers}", lag=lag, luck=workers, workers=workers, trials=24))
        for workers in (3, 64)
    ]
    assert all(other == stories[0] for other in stories[1:])
