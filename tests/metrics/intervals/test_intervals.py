from __future__ import annotations

from math import inf

import numpy as np
import pytest
from scipy import stats

from fusion_models.metrics import (
    Interval,
    holm,
    more_needed,
    paired_bootstrap,
    seed_correlation_interval,
    seed_interval,
    seed_ratio_interval,
    sign_flip_p,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def clustered(generator: np.random.Generator, clusters: int, mean: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Values of one standard deviation in all, half of the variance shared within clusters of 2 to 9; shuffled."""
    ids = np.repeat(np.arange(clusters), generator.integers(2, 10, clusters))
    values = mean + (generator.normal(size=clusters)[ids] + generator.normal(size=len(ids))) / 2**0.5
    order = generator.permutation(len(ids))
    return values[order], ids[order] * 7 - 3


def crossed(
    generator: np.random.Generator, seeds: int, queries: int, seed_sd: float, shared: float = 0.5
) -> np.ndarray:
    """Query effect + seed effect + their interaction, `[S, Q]`, mean 0."""
    query = shared * generator.normal(size=queries)
    interaction = (1 - shared) * generator.normal(size=(seeds, queries))
    return query + seed_sd * generator.normal(size=(seeds, 1)) + interaction


def coverage(intervals: list[Interval], truth: float) -> float:
    return float(np.mean([i.low <= truth <= i.high for i in intervals]))


def test_bootstrap_equals_scipy() -> None:
    values = rng(1).exponential(size=150)
    ours = paired_bootstrap(values, generator=rng(2))
    theirs = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=rng(3))
    assert ours.mean == pytest.approx(values.mean())
    limits = theirs.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((limits.low, limits.high), abs=0.15 * theirs.standard_error)


def test_bootstrap_in_blocks_and_with_singleton_clusters_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values = rng(1).normal(size=40)
    whole = paired_bootstrap(values, resamples=500, generator=rng(5))
    monkeypatch.setattr("fusion_models.metrics.intervals.resampling.DRAWS_AT_ONCE", 1000)
    assert paired_bootstrap(values, resamples=500, generator=rng(5)) == whole
    assert paired_bootstrap(values, resamples=500, generator=rng(5), clusters=np.arange(40)) == whole


def test_bootstrap_covers_only_with_clusters_where_queries_are_clustered() -> None:
    generator = rng(4)
    with_clusters, without = [], []
    for _ in range(400):
        values, clusters = clustered(generator, 60)
        with_clusters.append(paired_bootstrap(values, resamples=400, generator=generator, clusters=clusters))
        without.append(paired_bootstrap(values, resamples=400, generator=generator))
    assert 0.90 <= coverage(with_clusters, 0.0) <= 0.99
    assert coverage(without, 0.0) < 0.85


def test_sign_flips_equal_all_sign_vectors() -> None:
    values = rng(7).normal(0.3, 1, 12)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 12)).reshape(12, -1)
    exact = np.mean(np.abs(values @ signs) >= abs(values.sum()) - 1e-9)
    assert sign_flip_p(values, permutations=40_000, generator=rng(0)) == pytest.approx(exact, abs=0.01)


def test_sign_flip_p_is_never_zero_and_one_for_no_difference() -> None:
    assert sign_flip_p(np.ones(100), permutations=999, generator=rng()) == 1 / 1000
    assert sign_flip_p(np.zeros(5), permutations=99, generator=rng()) == 1.0
    # Five clusters have 2^5 sign vectors, two of which are as extreme.
    p = sign_flip_p(np.ones(100), permutations=20_000, generator=rng(), clusters=np.arange(100) % 5)
    assert p == pytest.approx(2 / 32, abs=0.01)


def test_sign_flip_p_is_uniform_where_nothing_differs() -> None:
    generator = rng(8)
    p = [sign_flip_p(generator.laplace(size=30), permutations=199, generator=generator) for _ in range(400)]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.035)
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_holm_by_hand_and_its_invariants() -> None:
    # Sorted .01 .02 .03 .04 times 4 3 2 1 is .04 .06 .06 .04, made monotone.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    p = rng(9).random(30) ** 3
    order = rng(1).permutation(30)
    assert holm(p[order]) == pytest.approx(holm(p)[order])
    assert (holm(p) >= p).all()
    assert holm(p).max() <= 1
    assert holm([]).shape == (0,)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        holm([0.1, np.nan])


def test_seed_interval_in_closed_form() -> None:
    values = crossed(rng(2), 4, 50, 0.1)
    query, seed = values.mean(0).var(ddof=1) / 50, values.mean(1).var(ddof=1) / 4
    df = (query + seed) ** 2 / (query**2 / 49 + seed**2 / 3)
    half = stats.t.ppf(0.975, df) * (query + seed) ** 0.5
    found = seed_interval(values)
    assert (found.mean, found.low, found.high) == pytest.approx(
        (values.mean(), values.mean() - half, values.mean() + half)
    )
    singletons = seed_interval(values, np.arange(50)[::-1])
    assert (singletons.low, singletons.high) == pytest.approx((found.low, found.high))


def test_seed_interval_is_a_t_interval_where_seeds_agree() -> None:
    row = rng(3).normal(size=30)
    found = seed_interval(np.stack([row, row, row]))
    low, high = stats.t.interval(0.95, 29, row.mean(), stats.sem(row))
    assert (found.low, found.high) == pytest.approx((low, high))


@pytest.mark.parametrize(("seeds", "seed_sd"), [(3, 0.0), (3, 0.05), (3, 0.5), (5, 0.1), (2, 0.2)])
def test_seed_interval_covers(seeds: int, seed_sd: float) -> None:
    generator = rng(seeds * 100 + int(seed_sd * 10))
    found = [seed_interval(crossed(generator, seeds, 100, seed_sd)) for _ in range(400)]
    # Two seeds: one degree of freedom is too few for Satterthwaite where query and seed part are alike (docstring).
    assert (0.85 if seeds == 2 else 0.90) <= coverage(found, 0.0) <= 0.995


def test_five_seeds_are_not_five_times_the_queries() -> None:
    generator = rng(12)
    pooled, found = [], []
    for _ in range(400):
        values = crossed(generator, 5, 60, 0.2, shared=0.9)
        pooled.append(seed_interval(np.tile(values.ravel(), (2, 1))))
        found.append(seed_interval(values))
    assert 0.90 <= coverage(found, 0.0) <= 0.99
    assert coverage(pooled, 0.0) < 0.75


def test_clustered_seed_interval_covers_and_the_plain_one_does_not() -> None:
    generator = rng(13)
    robust, plain = [], []
    for _ in range(400):
        query, clusters = clustered(generator, 40)
        values = query + 0.05 * generator.normal(size=(3, 1)) + 0.3 * generator.normal(size=(3, len(query)))
        robust.append(seed_interval(values, clusters))
        plain.append(seed_interval(values))
    assert 0.90 <= coverage(robust, 0.0) <= 0.99
    assert coverage(plain, 0.0) < 0.85


def test_ratio_interval_covers_a_masking_drop() -> None:
    generator = rng(14)
    found = []
    for _ in range(400):
        full = 0.7 + 0.2 * generator.normal(size=150) + 0.02 * generator.normal(size=(3, 1))
        cost = 0.05 * full + 0.01 * generator.normal(size=(3, 1)) + 0.1 * generator.normal(size=(3, 150))
        found.append(seed_ratio_interval(cost, full))
        assert found[-1].mean == pytest.approx(1 - (full - cost).mean() / full.mean())
    assert 0.90 <= coverage(found, 0.05) <= 0.99


def test_ratio_over_a_constant_is_the_plain_interval() -> None:
    values = crossed(rng(15), 3, 40, 0.1)
    ratio, plain = seed_ratio_interval(values, np.full_like(values, 4.0)), seed_interval(values / 4)
    assert (ratio.mean, ratio.low, ratio.high) == pytest.approx((plain.mean, plain.low, plain.high))
    with pytest.raises(ValueError, match="above 0"):
        seed_ratio_interval(values, np.zeros_like(values))


def test_correlation_interval_covers() -> None:
    generator, truth = rng(16), 0.8
    found = []
    for _ in range(400):
        a = generator.normal(size=(80, 12)) * generator.uniform(0.5, 2, size=(80, 1))
        # Noise of the size that makes the pooled correlation `truth`, a query at a time.
        spread = a.var(axis=1, keepdims=True) ** 0.5
        b = truth * a + (1 - truth**2) ** 0.5 * spread * generator.normal(size=(3, 80, 12))
        a3 = np.broadcast_to(a, b.shape)
        x, y = a3 - a3.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
        found.append(seed_correlation_interval(np.stack([(x * y).sum(-1), (x * x).sum(-1), (y * y).sum(-1)], -1)))
        assert found[-1].mean == pytest.approx(np.corrcoef(x.ravel(), y.ravel())[0, 1])
    assert 0.88 <= coverage(found, float(np.mean([f.mean for f in found]))) <= 0.995


def test_too_little_data_leaves_everything_open() -> None:
    for found in (
        seed_interval(np.ones((1, 50))),
        seed_interval(np.ones((3, 1))),
        seed_interval(np.ones((3, 4)), np.zeros(4, dtype=int)),
        paired_bootstrap([0.3], generator=rng()),
        paired_bootstrap([0.3, 0.4], generator=rng(), clusters=[1, 1]),
    ):
        assert (found.low, found.high) == (-inf, inf)
        assert more_needed(found, 0.5).queries is None


@pytest.mark.parametrize("threshold", [0.04, 0.09])
def test_more_needed_is_the_least_that_settles(threshold: float) -> None:
    values = 0.2 * crossed(rng(20), 4, 80, 0.02, shared=0.97)
    values += 0.065 - values.mean()
    needed = more_needed(seed_interval(values), threshold)
    assert needed.queries is not None
    assert needed.both is not None
    part = seed_interval(values).variance

    def half(seeds: int, queries: int) -> float:
        query, seed = part.query * 80 / queries, part.seed * 4 / seeds
        df = (query + seed) ** 2 / (query**2 / (queries - 1) + seed**2 / (seeds - 1))
        return float(stats.t.ppf(0.975, df) * (query + seed) ** 0.5)

    assert half(4, 80) > 0.025
    assert half(4, 80 + needed.queries) < 0.025 <= half(4, 80 + needed.queries - 1)
    assert half(4 + needed.both[0], 80 + needed.both[1]) < 0.025
    assert needed.seeds is None
    assert half(10**6, 80) > 0.025


def test_more_needed_knows_settled_and_hopeless() -> None:
    found = seed_interval(crossed(rng(21), 3, 80, 0.2))
    assert more_needed(found, found.high + 0.1) == (more_needed(found, found.low - 0.1))
    assert more_needed(found, found.high + 0.1).seeds == 0
    hopeless = more_needed(found, found.mean)
    assert (hopeless.seeds, hopeless.queries, hopeless.both) == (None, None, None)
    # The seeds decide here: queries without end do not.
    values = crossed(rng(22), 3, 400, 1.0)
    spread = seed_interval(values)
    needed = more_needed(spread, spread.mean + 0.4)
    assert needed.queries is None
    assert needed.seeds is not None
    assert needed.seeds > 0


def test_bad_input_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="1 of 3 values are NaN"):
        paired_bootstrap([0.1, np.nan, 0.2], generator=rng())
    with pytest.raises(ValueError, match="2 dimensions"):
        seed_interval(np.zeros(4))
    with pytest.raises(ValueError, match="clusters must be"):
        seed_interval(np.zeros((2, 4)), [1, 2])
    with pytest.raises(ValueError, match="differ in shape"):
        seed_ratio_interval(np.ones((2, 4)), np.ones((3, 4)))
