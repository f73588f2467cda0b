"""What a run says before its first training."""

import pytest

from fusion_models.data import open_dataset
from search.options import RunOptions
from search.pipeline.plan import QUERY_DEVIATION, SEED_DEVIATION, expected_to_show
from search.pipeline.search_step import search_lag


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
