from __future__ import annotations

from math import inf

import numpy as np
import pytest

from fusion_models.metrics import open_loop_milliseconds, poisson_arrivals, quantile_interval, summarise_latency


def test_a_stall_counts_for_all_who_wait() -> None:
    # One request a second; the first takes 5 s, the others nothing: timed from the start they would all be 0.
    arrivals = np.arange(6.0)
    found = open_loop_milliseconds(arrivals, np.maximum(arrivals, 5.0))
    assert found.tolist() == [5000, 4000, 3000, 2000, 1000, 0]


def test_quantiles_are_order_statistics() -> None:
    values = np.random.default_rng(0).permutation(np.arange(1.0, 101.0))
    found = summarise_latency(values)
    assert (found.p50, found.p95, found.p99, found.worst, found.mean, found.requests) == (50, 95, 99, 100, 50.5, 100)
    assert summarise_latency([3.0]).p99 == 3.0


@pytest.mark.parametrize("quantile", [0.5, 0.95])
def test_quantile_interval_covers(quantile: float) -> None:
    generator = np.random.default_rng(1)
    truth = -np.log(1 - quantile)
    found = [quantile_interval(generator.exponential(size=300), quantile) for _ in range(600)]
    assert 0.93 <= np.mean([f.low <= truth <= f.high for f in found]) <= 0.995
    assert all(f.low <= f.mean <= f.high for f in found)


def test_median_interval_of_the_textbook() -> None:
    # n = 100: the 40th and the 61st (binomial tails of 0.0176 each).
    found = quantile_interval(np.random.default_rng(3).permutation(np.arange(1.0, 101.0)), 0.5)
    assert (found.low, found.mean, found.high) == (40.0, 50.0, 61.0)


def test_too_few_requests_bound_nothing_above() -> None:
    found = quantile_interval(np.arange(30.0), 0.99)
    assert found.high == inf
    assert found.low <= found.mean == 29.0


def test_poisson_arrivals_keep_their_rate() -> None:
    arrivals = poisson_arrivals(50.0, 20_000, np.random.default_rng(2))
    gaps = np.diff(arrivals)
    assert (gaps >= 0).all()
    assert gaps.mean() == pytest.approx(0.02, rel=0.03)
    assert gaps.std() == pytest.approx(0.02, rel=0.05)


def test_errors() -> None:
    with pytest.raises(ValueError, match="request 1 completed before"):
        open_loop_milliseconds([0.0, 2.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="one length"):
        open_loop_milliseconds([], [])
    with pytest.raises(ValueError, match="no request"):
        quantile_interval([], 0.5)
    with pytest.raises(ValueError, match="quantile must"):
        quantile_interval([1.0], 1.0)
    with pytest.raises(ValueError, match="rate"):
        poisson_arrivals(0.0, 3, np.random.default_rng(0))
