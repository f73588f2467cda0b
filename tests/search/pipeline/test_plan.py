"""What a run says before its first training."""

from types import SimpleNamespace

import pytest
from run_context import run_in

from fusion_models.data import open_dataset
from search.options import RunOptions
from search.pipeline.plan import QUERY_DEVIATION, SEED_DEVIATION, expected_to_show, print_plan
from search.pipeline.search_step import search_lag
from search.pipeline.trainer import Trainer
from search.run_store.folder import RunFolder
from spaces import PHASES


def test_more_trainings_and_more_queries_show_less(small_data):
    few = expected_to_show(small_data, 300, 5)
    assert expected_to_show(small_data, 1200, 5) < few
    assert expected_to_show(small_data, 300, 12) < few


def test_without_ties_it_is_the_power_of_a_t_test(small_data):
    """About 2.8 standard errors: 1.96 for the interval and 0.84 for 80 % power."""
    error = (QUERY_DEVIATION**2 / 720 + 2 * SEED_DEVIATION**2 / 200) ** 0.5
    assert expected_to_show(small_data, 720, 200) == pytest.approx(2.80 * error, rel=0.01)


def test_queries_that_stand_together_show_less(small_data):
    assert expected_to_show(open_dataset("clipart"), 720, 5) > 1.1 * expected_to_show(small_data, 720, 5)


@pytest.mark.parametrize(
    ("options", "lag"),
    [
        ({"max_concurrent": 2}, 4),
        ({"max_concurrent": 16}, 6),
        ({}, 6),  # nobody fixed how many run at once
        ({"max_concurrent": 16, "sampler": "random"}, 6),  # rungs compare
        ({"max_concurrent": 16, "sampler": "random", "scheduler": "none"}, 32),
        ({"sampler": "random", "scheduler": "none"}, None),
    ],
)
def test_how_far_a_trial_looks_back(options, lag):
    assert search_lag(RunOptions(phase="phase3", address="auto", **options), 24) == lag


@pytest.mark.parametrize(
    ("concurrent", "lag", "seconds", "capped"),
    [
        (4, 6, 10 * (4 + 0.45 * 20) / 4, False),
        (16, 6, 10 * (4 / 16 + 0.45 * 20 / 6), True),
        (16, None, 10 * (4 + 0.45 * 20) / 16, False),
    ],
)
def test_the_plan_says_where_a_search_leaves_places_empty(
    tmp_path, small_data, monkeypatch, concurrent, lag, seconds, capped
):
    monkeypatch.setattr(Trainer, "training_seconds", 10.0)
    monkeypatch.setattr("search.pipeline.plan.clock", lambda expected: f"{expected:.3f} s")
    options = RunOptions(phase="phase3", confirm_seeds=0)
    run = run_in(RunFolder(tmp_path), options, PHASES["phase3"], small_data)
    stages = [SimpleNamespace(name="baselines", left=4), SimpleNamespace(name="search", left=20)]
    print_plan(run, stages, concurrent, lag=lag)
    said = run.console.file.getvalue()
    assert f"{concurrent} at once, of 10 epochs at the most: about {seconds:.3f} s" in said
    assert ("search: 6 trials at once at the most, though there are 16 places" in said) == capped
    assert ("--trials 96 would fill them" in said) == capped
