from __future__ import annotations

from collections.abc import Callable
from math import inf

import numpy as np
import pytest
from scipy import sparse, stats

from fusion_models.metrics import seed_correlation_interval, seed_ratio_interval
from fusion_models.metrics.intervals.query_intervals import (
    Clustering,
    Ties,
    clusters_of,
    crossed,
    query_correlation_interval,
    query_interval,
    query_ratio_interval,
)

Draw = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray | None]]


def zipf(generator: np.random.Generator, queries: int, clusters: int, power: float = 1.0) -> np.ndarray:
    shares = 1.0 / np.arange(1, clusters + 1) ** power
    return generator.choice(clusters, queries, p=shares / shares.sum())


def plain(generator: np.random.Generator) -> tuple[np.ndarray, None]:
    return generator.normal(size=150), None


def skewed(generator: np.random.Generator) -> tuple[np.ndarray, None]:
    return 1.0 - generator.exponential(size=150), None


def mostly_zero(generator: np.random.Generator) -> tuple[np.ndarray, None]:
    """85 % zeros; a gain is twice as frequent as a loss and half as large."""
    up, size = generator.random(300) < 2 / 3, generator.random(300)
    return (generator.random(300) < 0.15) * np.where(up, size, -2 * size), None


def few_large_losses(generator: np.random.Generator) -> tuple[np.ndarray, None]:
    up, size = generator.random(300) < 0.8, generator.random(300)
    return (generator.random(300) < 0.15) * np.where(up, size, -4 * size), None


def zipf_clusters(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    ids = zipf(generator, 300, 30)
    return 0.55 * generator.normal(size=30)[ids] + 0.84 * generator.normal(size=300), ids * 3 + 5


def two_words(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Queries of two words of one vocabulary, each of which brings an effect of its own."""
    words = np.stack([zipf(generator, 300, 60, 0.7), zipf(generator, 300, 60, 0.7)], axis=1)
    return 0.32 * generator.normal(size=60)[words].sum(axis=1) + 0.9 * generator.normal(size=300), words


def words_and_items(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    word, item = zipf(generator, 300, 40, 0.7), zipf(generator, 300, 80, 0.7)
    shared = generator.normal(size=40)[word] + generator.normal(size=80)[item]
    return 0.32 * shared + 0.9 * generator.normal(size=300), crossed(word, item)


@pytest.mark.parametrize(
    ("draw", "most"),
    [
        (plain, 0.035),
        (skewed, 0.04),
        (mostly_zero, 0.04),
        (few_large_losses, 0.05),  # 6 % by Student's t
        (zipf_clusters, 0.04),
        (two_words, 0.04),
        (words_and_items, 0.04),
    ],
)
def test_an_interval_holds_its_level(draw: Draw, most: float) -> None:
    """Two-sided coverage near 95 %, and a gate at the truth passes falsely in about 2.5 %."""
    generator, repeats = np.random.default_rng(11), 700
    misses = [0, 0]
    for _ in range(repeats):
        values, clusters = draw(generator)
        found = query_interval(values, clusters=clusters)
        misses[0] += found.low > 0
        misses[1] += found.high < 0
    assert max(misses) / repeats <= most
    assert 0.93 <= 1 - sum(misses) / repeats <= 0.98


def test_values_that_are_not_skewed_get_students_t() -> None:
    half = np.random.default_rng(0).normal(size=40)
    values = np.concatenate([half, -half]) + 0.3
    found = query_interval(values)
    limits = stats.t.interval(0.95, found.variance.query_df, values.mean(), values.std(ddof=1) / 80**0.5)
    assert (found.low, found.high) == pytest.approx(limits)
    assert found.variance.query_df <= 79
    wider = query_interval(values, level=0.9875)
    assert wider.low < found.low < found.high < wider.high


def test_a_limit_lies_farther_out_on_the_side_of_the_rare_large_values() -> None:
    values = np.random.default_rng(0).exponential(size=200)
    found = query_interval(values)
    assert found.high - found.mean > found.mean - found.low
    turned = query_interval(-values)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_clusters_of_one_change_nothing_and_numbers_are_names() -> None:
    generator = np.random.default_rng(1)
    values, ids = generator.normal(size=60), generator.integers(0, 15, 60)
    alone = query_interval(values)
    for clusters in (np.arange(60)[::-1], np.full(60, -1), np.full((60, 2), -1), crossed(np.arange(60), np.arange(60))):
        found = query_interval(values, clusters=clusters)
        assert (found.low, found.high) == pytest.approx((alone.low, alone.high), rel=0.01)
    order = generator.permutation(60)
    shuffled = query_interval(values[order], clusters=(ids * -7 + 200)[order])
    named = query_interval(values, clusters=ids)
    assert (shuffled.low, shuffled.high) == pytest.approx((named.low, named.high))


def test_crossed_clusters_equal_the_naive_double_sum() -> None:
    generator = np.random.default_rng(2)
    values = generator.normal(size=50) + generator.normal(size=12)[np.arange(50) % 12]
    ids = crossed(np.arange(50) % 12, generator.integers(-1, 20, (50, 2)))
    deviations = values - values.mean()
    total, pairs = 0.0, 0
    for i in range(50):
        for j in range(50):
            if i == j or set(ids[i][ids[i] >= 0]) & set(ids[j][ids[j] >= 0]):
                total, pairs = total + deviations[i] * deviations[j], pairs + 1
    widest = max(Clustering(ids[:, way], 50).part(values).variance for way in range(3))
    assert Clustering(ids, 50).part(values).variance == pytest.approx(max(total / (50**2 - pairs), widest))


def test_crossed_numbers_ways_apart() -> None:
    found = crossed([3, 3, -1], [[3, -5], [4, 3], [4, 4]])
    assert found.shape == (3, 3)
    assert found[0, 0] == found[1, 0] != found[0, 1] == found[1, 2]
    assert (found[2, 0], found[0, 2]) == (-1, -1)
    assert found[1, 1] == found[2, 1] == found[2, 2]


def test_an_estimate_of_its_own_and_what_cannot_be_bounded() -> None:
    values = np.array([1.0, 2.0, 4.0])
    found = query_interval(values, 0.5)
    assert found.mean == 0.5
    assert found.low < 0.5 < found.high
    for clusters, some in ((None, [1.0]), ([4, 4, 4], values), ([[1, 2], [2, 3], [3, 1]], values)):
        unbounded = query_interval(some, clusters=clusters)
        assert (unbounded.low, unbounded.high) == (-inf, inf)
    same = query_interval([0.2, 0.2, 0.2])
    assert (same.low, same.high) == (pytest.approx(0.2), pytest.approx(0.2))


def test_ratio_and_correlation_equal_those_over_seeds_of_one() -> None:
    """The same influence values as where seeds are drawn too; seeds that do not differ add nothing."""
    generator = np.random.default_rng(3)
    full = generator.uniform(0.3, 1.0, 300)
    masked = full - generator.normal(0.05, 0.1, 300)
    ratio, over_seeds = query_ratio_interval(full - masked, full), seed_ratio_interval([full - masked] * 9, [full] * 9)
    assert (ratio.mean, ratio.variance.query) == pytest.approx((over_seeds.mean, over_seeds.variance.query))
    assert (ratio.low, ratio.high) == pytest.approx((over_seeds.low, over_seeds.high), abs=0.002)
    a, b = generator.normal(size=(2, 300, 5))
    b = b + 2 * a
    moments = np.stack([(a * b).sum(axis=1), (a * a).sum(axis=1), (b * b).sum(axis=1)], axis=1)
    found, expected = query_correlation_interval(moments), seed_correlation_interval([moments] * 9)
    assert (found.mean, found.variance.query) == pytest.approx((expected.mean, expected.variance.query))
    assert -1 <= found.low < found.mean < found.high <= 1
    assert query_correlation_interval(moments[:, [1, 1, 1]]).high == 1.0
    with pytest.raises(ValueError, match="above 0"):
        query_ratio_interval([1.0, 2.0], [0.0, 0.0])
    with pytest.raises(ValueError, match="vary"):
        query_correlation_interval(moments * [1, 1, 0])


@pytest.mark.parametrize(
    ("values", "clusters", "match"),
    [
        ([], None, "finite influence"),
        ([1.0, np.nan], None, "finite influence"),
        ([1.0, 2.0], [1], r"integers \[2\]"),
        ([1.0, 2.0], [1.0, 2.0], "integers"),
    ],
)
def test_what_it_refuses(values: list[float], clusters: list[int] | None, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        query_interval(values, clusters=clusters)


def test_ties_equal_the_naive_double_sum_and_are_cut_like_arrays() -> None:
    generator = np.random.default_rng(5)
    values, main = generator.normal(size=40), generator.integers(-1, 9, 40)
    pairs = sparse.csr_array((generator.random((40, 40)) < 0.05).astype(float))
    ties = Ties(main, sparse.csr_array(pairs + pairs.T))
    kept = generator.random(40) < 0.8
    for some, own in ((np.ones(40, dtype=bool), ties), (kept, ties[kept]), (kept, clusters_of(ties, kept))):
        deviations, same = values[some] - values[some].mean(), main[some]
        together = ties.pairs.toarray()[np.ix_(some, some)] > 0
        together |= (same[:, None] == same) & (same >= 0)[:, None] | np.eye(len(same), dtype=bool)
        naive = float((np.outer(deviations, deviations) * together).sum()) / (len(same) ** 2 - together.sum())
        one_way = query_interval(values[some], clusters=same).variance.query
        assert len(own) == len(same)
        assert query_interval(values[some], clusters=own).variance.query == pytest.approx(max(naive, one_way))


def test_ties_of_another_length_are_refused() -> None:
    ties = Ties(np.full(4, -1), sparse.csr_array((4, 4)))
    with pytest.raises(ValueError, match="clusters must be integers"):
        query_interval(np.zeros(5), clusters=ties)
    with pytest.raises(ValueError, match="pairs"):
        Ties(np.full(4, -1), sparse.csr_array((5, 5)))
