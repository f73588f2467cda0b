"""A configuration that has failed is not run again, however often a sampler proposes it."""

import dataclasses

import optuna
import pytest
from optuna.trial import TrialState

from search.run_store.job import Outcome
from search.run_store.journal import open_journal
from search.study.search_stage import REPEATED_PROPOSALS, SearchStage
from spaces import PHASES
from spaces.ranges import Choice

NUMBERS = {"ndcg_gain": 0.02, "visual_masking_drop": 0.06, "attention_max_share": 0.5, "v1_correlation": 0.9}
LAYERS = (1, 2, 3)
PHASE = dataclasses.replace(
    PHASES["phase1"], known={}, ranges={"model.layers": Choice(values=(*LAYERS, PHASES["phase1"].base.model.layers))}
)
"""Four configurations, the base recipe among them."""


def search(path, trials=12, sampler="tpe"):
    return SearchStage(open_journal(path), PHASE, sampler=sampler, trials=trials, seed=0)


def tell(stage, job, state="finished", reason="", failure=None):
    numbers = NUMBERS if state == "finished" else {}
    return stage.tell(job, Outcome(state=state, reason=reason, failure=failure, epochs=1, numbers=numbers, seconds=1.0))


def layers(job):
    return job.recipe["model.layers"]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_what_failed_is_told_as_failed_at_once_with_the_reason(tmp_path, sampler):
    stage = search(tmp_path / "j", sampler=sampler)
    ran = []
    while (job := stage.ask()) is not None:
        ran.append(layers(job))
        failed = layers(job) == 2
        said = tell(stage, job, "failed", "out of memory: 2 layers", "out_of_memory") if failed else tell(stage, job)
        assert said.out_of_memory == failed
    assert ran.count(2) == 1
    assert len(ran) == 12  # what was refused is not counted as a trial of the search
    first, *refused = [r for r in stage.records() if layers(r) == 2]
    for record in refused:
        assert record.state == "failed"
        assert record.state_reason.startswith(f"not run: the same configuration failed before, as {first.trial_id}")
        assert "out of memory: 2 layers" in record.state_reason
        assert not record.out_of_memory  # it was not run, so it did not run out of memory itself
    states = [t.state for t in stage.study.get_trials(deepcopy=False)]
    assert states.count(TrialState.FAIL) == 1 + len(refused)
    assert TrialState.RUNNING not in states
    assert stage.left == 0


def test_a_space_whose_every_point_failed_ends_the_search(tmp_path):
    stage = search(tmp_path / "j")
    ran = []
    while (job := stage.ask()) is not None:
        ran.append(layers(job))
        tell(stage, job, "failed", reason="ValueError: no")
    assert sorted(ran) == sorted(set(ran))
    assert set(ran) == {*LAYERS, PHASE.base.model.layers}
    assert len(stage.records()) >= len(ran) + 2 * REPEATED_PROPOSALS


class Stubborn(optuna.samplers.RandomSampler):
    """Always proposes two layers."""

    def sample_independent(self, study, trial, name, distribution):
        return 2


def test_a_sampler_that_insists_is_passed_over(tmp_path):
    stage = search(tmp_path / "j", trials=8)
    tell(stage, stage.ask())  # the base recipe
    stage.study.sampler = Stubborn()
    tell(stage, stage.ask(), "failed", reason="no")
    job = stage.ask()
    assert layers(job) != 2
    assert isinstance(stage.study.sampler, Stubborn)
    assert sum("repeats" in t.user_attrs for t in stage.study.trials) >= REPEATED_PROPOSALS


def test_a_resumed_search_remembers_what_failed_and_how_much_is_left(tmp_path):
    stage = search(tmp_path / "j", trials=6)
    tell(stage, stage.ask())
    stage.study.sampler = Stubborn()
    tell(stage, stage.ask(), "failed", reason="no")
    running = stage.ask()  # after ten refusals
    assert stage.left == 4
    again = search(tmp_path / "j", trials=6)
    assert again.left == 4
    assert again.ask() == running
    again.study.sampler = Stubborn()
    jobs = [running, *iter(again.ask, None)]
    assert len(jobs) == 4
    assert 2 not in {layers(job) for job in jobs}


def test_a_driver_that_died_while_it_refused_a_trial_does_not_run_it(tmp_path):
    stage = search(tmp_path / "j", trials=6)
    tell(stage, stage.ask())
    stage.study.sampler = Stubborn()
    tell(stage, stage.ask(), "failed", reason="no")
    stage.ask()
    lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    for cut in [n for n, line in enumerate(lines) if b"the same configuration" in line or b'"repeats"' in line][:4]:
        (tmp_path / "k").write_bytes(b"".join(lines[: cut + 1]))
        again = search(tmp_path / "k", trials=6)
        assert again.left == 4
        jobs = list(iter(again.ask, None))
        assert len(jobs) == 4
        assert 2 not in {layers(job) for job in jobs}
