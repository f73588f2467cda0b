"""Queries that count by weights: a weight of two is a query that came twice, and intervals keep their level."""

import numpy as np
import pytest

from fusion_models.metrics import paired_bootstrap, sign_flip_p
from fusion_models.metrics.intervals.ensembles import Arm, arm_difference
from fusion_models.metrics.intervals.query_intervals import query_interval
from fusion_models.metrics.intervals.weights import counted, linearised, uneven, weighted_mean


def test_weights_that_are_all_alike_change_nothing_to_the_last_digit():
    values = np.random.default_rng(0).normal(size=301)
    assert uneven(np.full(301, 0.3)) is None
    assert uneven(None) is None
    assert weighted_mean(values) == values.mean()
    assert linearised(values, None) is values
    assert counted(np.array([1.0, np.nan])).tolist() == [True, False]


def test_a_weighted_mean_is_that_of_repeated_queries():
    random = np.random.default_rng(1)
    values, times = random.normal(size=80), random.integers(0, 4, 80).astype(float)
    values[5] = np.nan
    again = np.repeat(values, times.astype(int))
    assert weighted_mean(values, times) == pytest.approx(np.nanmean(again))
    known = counted(values, times)
    assert linearised(values[known], times[known]).mean() == pytest.approx(np.nanmean(again))
    assert np.isnan(weighted_mean([np.nan, 1.0], np.array([1.0, 0.0])))


@pytest.mark.parametrize("wrong", [[1.0, -1.0], [0.0, 0.0], [np.inf, 1.0], [np.nan, 1.0]])
def test_weights_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match="weights must be finite, not negative and not all 0"):
        uneven(wrong)


def test_an_interval_of_a_weighted_mean_is_that_of_clusters_of_repeated_queries():
    """Whole-numbered weights: each query as a cluster of itself, so many times."""
    random = np.random.default_rng(2)
    values, times = random.normal(0.1, size=400), random.integers(1, 4, 400)
    mine = query_interval(linearised(values, times.astype(float)))
    theirs = query_interval(np.repeat(values, times), clusters=np.repeat(np.arange(400), times))
    assert mine.mean == pytest.approx(theirs.mean)
    assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), abs=2e-3)


def test_weighted_intervals_hold_their_level():
    """Log-normal weights that go with the value; the truth is the ratio of expectations."""
    random = np.random.default_rng(3)
    hard = random.normal(size=(1500, 300))
    weights, values = np.exp(0.8 * hard + 0.3), 0.2 * hard + random.normal(size=hard.shape)
    truth = 0.2 * 0.8  # E[w v] / E[w]
    found = [query_interval(linearised(v, w)) for v, w in zip(values, weights, strict=True)]
    covered = np.mean([interval.low <= truth <= interval.high for interval in found])
    assert 0.925 <= covered <= 0.975
    plain = np.mean([i.low <= truth <= i.high for i in (query_interval(v) for v in values[:300])])
    assert plain < 0.6  # the unweighted mean is another number


def test_a_difference_of_recipes_counts_queries_and_seeds_by_weights():
    random = np.random.default_rng(4)
    times = random.integers(1, 4, 200)
    each = random.normal(size=(5, 200)) + random.normal(size=(5, 1)) * 0.2
    left = (each.sum(0) - each) / 4
    weighted = Arm(each.mean(0), left, 1, weights=times.astype(float))
    repeated = Arm(np.repeat(each.mean(0), times), np.repeat(left, times, axis=1), 1)
    mine = arm_difference(weighted, np.zeros(200))
    theirs = arm_difference(repeated, np.zeros(times.sum()), clusters=np.repeat(np.arange(200), times))
    assert mine.mean == pytest.approx(theirs.mean)
    assert mine.variance.seed == pytest.approx(theirs.variance.seed, rel=0.05)
    assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), abs=5e-3)


def test_bootstrap_and_sign_flips_know_weights():
    random = np.random.default_rng(5)
    values, times = random.normal(0.15, size=150), random.integers(1, 5, 150)
    groups = np.repeat(np.arange(150), times)
    mine = paired_bootstrap(values, generator=np.random.default_rng(0), weights=times.astype(float))
    theirs = paired_bootstrap(np.repeat(values, times), generator=np.random.default_rng(0), clusters=groups)
    assert (mine.mean, mine.low, mine.high) == pytest.approx((theirs.mean, theirs.low, theirs.high))
    p = sign_flip_p(values, generator=np.random.default_rng(0), weights=times.astype(float))
    assert p == sign_flip_p(np.repeat(values, times), generator=np.random.default_rng(0), clusters=groups)
