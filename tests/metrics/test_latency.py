from __future__ import annotations

from math import inf

import numpy as np
import pytest

from fusion_models.metrics import (
    block_quantile_interval,
    open_loop_milliseconds,
    poisson_arrivals,
    quantile_interval,
    summarise_latency,
)


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


def queued(count: int, generator: np.random.Generator, utilisation: float = 0.5) -> np.ndarray:
    """Sojourn times of an M/M/1 queue with mean service 1, by Lindley's recursion from its stationary state."""
    gaps, service = generator.exponential(1 / utilisation, count), generator.exponential(1.0, count)
    wait = generator.exponential(1 / (1 - utilisation)) if generator.random() < utilisation else 0.0
    times = np.empty(count)
    for i in range(count):
        times[i] = wait + service[i]
        wait = max(0.0, times[i] - gaps[i])
    return times


def test_blocks_are_drawn_as_a_naive_loop_draws_them() -> None:
    values = queued(130, np.random.default_rng(4))
    found = block_quantile_interval(values, 0.9, np.random.default_rng(5), block=12, resamples=40)
    starts = np.random.default_rng(5).integers(0, 130 - 12 + 1, (40, 11))
    drawn = []
    for row in starts:
        sample = [value for start in row for value in values[start : start + 12]][:130]
        drawn.append(sorted(sample)[int(np.ceil(0.9 * 130)) - 1])
    low, high = np.quantile(drawn, [0.025, 0.975])
    exact = quantile_interval(values, 0.9)
    assert found.mean == exact.mean == sorted(values)[116]
    assert (found.low, found.high) == (min(low, exact.low), max(high, exact.high))


def test_blocks_cover_where_requests_wait_in_one_queue() -> None:
    """The sojourn of an M/M/1 queue is exponential with rate 1 - utilisation: its P95 is known in closed form."""
    generator = np.random.default_rng(6)
    truth = -np.log(0.05) / (1 - 0.3)
    covered = {"blocks": 0, "independent": 0}
    for _ in range(200):
        values = queued(400, generator, utilisation=0.3)
        blocks = block_quantile_interval(values, 0.95, generator, resamples=200)
        alone = quantile_interval(values, 0.95)
        covered["blocks"] += blocks.low <= truth <= blocks.high
        covered["independent"] += alone.low <= truth <= alone.high
    assert covered["blocks"] >= covered["independent"] + 8
    assert covered["blocks"] >= 0.84 * 200


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
