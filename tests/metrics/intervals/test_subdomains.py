"""Subdomains' gains: level under simulated seeds, agreement of p and interval, closed forms, what is refused."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from fusion_models.metrics.intervals.resampling import holm, sign_flip_p
from fusion_models.metrics.intervals.subdomains import subdomain_gains

RUNS = 1_500


def draws(generator: np.random.Generator, seeds: int, queries: int, luck: float, own: float) -> Any:
    """`[RUNS, S, Q]` with a true mean of 0: `luck` is the seeds' deviation over that of the queries' mean."""
    shape = RUNS, seeds, queries
    values = generator.laplace(size=(RUNS, 1, queries)) / np.sqrt(2) + own * generator.normal(size=shape)
    return values + luck * np.sqrt(seeds / queries) * generator.normal(size=(RUNS, seeds, 1))


@pytest.mark.parametrize("seeds", [3, 5, 8])
@pytest.mark.parametrize(("luck", "own"), [(0.0, 1.0), (0.5, 0.3), (1.0, 1.0), (2.0, 0.3), (5.0, 0.3)])
def test_level_is_five_per_cent_with_seeds_of_any_luck(seeds: int, luck: float, own: float) -> None:
    """Within 1 point of 5 %, plus 2.5 Monte Carlo errors (0.56 points) of 1,500 simulated subdomains a design."""
    values = draws(np.random.default_rng(seeds), seeds, 60, luck, own)
    found = [subdomain_gains(one, np.repeat("a", 60))[0] for one in values]
    level = np.mean([each.p <= 0.05 for each in found])
    assert level == pytest.approx(0.05, abs=0.01 + 2.5 * np.sqrt(0.05 * 0.95 / RUNS))
    assert [each.p <= 0.05 for each in found] == [not each.interval.low < 0 < each.interval.high for each in found]


def test_one_df_for_both_parts_is_what_was_wrong_with_three_seeds() -> None:
    """Satterthwaite's df, where the seeds' part is the larger: above 6 % at a level of 5 %."""
    wrong = []
    for one in draws(np.random.default_rng(9), 3, 60, 2.0, 0.3):
        part = subdomain_gains(one, np.repeat("a", 60))[0].interval.variance
        total = part.query + part.seed
        df = total**2 / (part.query**2 / part.query_df + (part.seed) ** 2 / part.seed_df)
        wrong.append(2 * stats.t.sf(abs(one.mean()) / np.sqrt(total), df) <= 0.05)
    assert np.mean(wrong) > 0.06


def test_a_query_of_weight_two_counts_twice_in_its_subdomain() -> None:
    generator = np.random.default_rng(10)
    values, times = generator.normal(0.2, 1.0, (4, 60)), generator.integers(1, 4, 60)
    labels, again = np.array(["a", "b"])[np.arange(60) % 2], np.repeat(np.arange(60), times)
    mine = subdomain_gains(values, labels, weights=times.astype(float))
    theirs = subdomain_gains(values[:, again], labels[again], again)
    for one, other in zip(mine, theirs, strict=True):
        assert one.interval.mean == pytest.approx(other.interval.mean)
        assert one.p == pytest.approx(other.p, abs=0.02)


def test_a_permutation_of_queries_takes_the_seeds_luck_for_a_gain() -> None:
    """The p that this replaces: with luck as large as the queries' own error, above 13 % at a level of 5 %."""
    generator = np.random.default_rng(1)
    values = draws(generator, 5, 60, 1.0, 0.3)[:400]
    p = [sign_flip_p(one.mean(0), permutations=399, generator=generator) for one in values]
    assert np.mean(np.asarray(p) <= 0.05) > 0.13


def test_levels_hold_in_clusters_of_unlike_sizes() -> None:
    """40 clusters of 1 to 6 queries with an effect of their own; 1,500 simulated (Monte Carlo error 0.56 points)."""
    generator = np.random.default_rng(2)
    clusters = np.repeat(np.arange(40), 1 + np.arange(40) % 6)
    queries = len(clusters)
    values = draws(generator, 5, queries, 1.0, 0.5) + generator.normal(size=(RUNS, 1, 40))[..., clusters]
    p = [subdomain_gains(one, np.repeat("a", queries), clusters)[0].p for one in values]
    assert np.mean(np.asarray(p) <= 0.05) == pytest.approx(0.05, abs=0.01 + 2.5 * np.sqrt(0.05 * 0.95 / RUNS))
    apart = [subdomain_gains(one, np.repeat("a", queries))[0].p for one in values[:400]]
    assert np.mean(np.asarray(apart) <= 0.05) > 0.09


def test_no_subdomain_of_many_is_called_a_gain_more_often_than_promised() -> None:
    """Eight subdomains whose seeds are lucky together: any below 0.05 after Holm in at most 5 % (error 1 point)."""
    generator = np.random.default_rng(3)
    labels, wrong = np.repeat(list("abcdefgh"), 25), 0
    for _ in range(400):
        luck = generator.normal(size=(5, 1)) * 0.3
        values = generator.normal(size=(1, 200)) + 0.3 * generator.normal(size=(5, 200)) + luck
        wrong += any(each.p_holm <= 0.05 for each in subdomain_gains(values, labels))
    assert wrong / 400 <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 400)


def test_alike_seeds_leave_the_t_test_over_queries_and_alike_queries_that_over_seeds() -> None:
    generator = np.random.default_rng(4)
    queries, seeds = generator.normal(0.3, 1.0, 40), generator.normal(0.3, 1.0, 6)
    over_queries = subdomain_gains(np.tile(queries, (6, 1)), ["a"] * 40)[0]
    assert over_queries.p == pytest.approx(stats.ttest_1samp(queries, 0).pvalue)
    over_seeds = subdomain_gains(np.tile(seeds[:, None], (1, 40)), ["a"] * 40)[0]
    assert over_seeds.p == pytest.approx(stats.ttest_1samp(seeds, 0).pvalue)
    limits = stats.ttest_1samp(seeds, 0).confidence_interval()
    assert (over_seeds.interval.low, over_seeds.interval.high) == pytest.approx((limits.low, limits.high))


def test_a_cluster_a_query_is_no_cluster_and_the_order_of_queries_does_not_matter() -> None:
    generator = np.random.default_rng(5)
    values, labels = generator.normal(0.2, 1.0, (5, 90)), np.array(list("abc"))[np.arange(90) % 3]
    plain = subdomain_gains(values, labels)
    assert [each.subdomain for each in plain] == ["a", "b", "c"]
    assert [each.queries for each in plain] == [30, 30, 30]
    assert [each.p_holm for each in plain] == pytest.approx(holm([each.p for each in plain]))
    moved = generator.permutation(90)
    again = subdomain_gains(values[:, moved], labels[moved], np.arange(90)[moved])
    assert [each.p for each in again] == pytest.approx([each.p for each in plain])


def test_what_cannot_be_bounded_is_no_gain_and_bad_input_is_refused() -> None:
    assert subdomain_gains(np.ones((1, 9)), ["a"] * 9)[0].p == 1.0
    one_cluster = subdomain_gains(np.random.default_rng(6).normal(5, 1, (5, 9)), ["a"] * 9, np.zeros(9, int))[0]
    assert (one_cluster.p, one_cluster.interval.high) == (1.0, np.inf)
    untested, tested = subdomain_gains(np.random.default_rng(7).normal(1, 1, (5, 9)), ["a"] + ["b"] * 8)
    assert untested.p_holm == 1.0
    assert tested.p_holm == tested.p < 1.0
    assert subdomain_gains(np.ones((3, 9)), ["a"] * 9)[0].p == 0.0
    assert subdomain_gains(np.zeros((3, 9)), ["a"] * 9)[0].p == 1.0
    with pytest.raises(ValueError, match="finite"):
        subdomain_gains(np.full((2, 3), np.nan), list("aaa"))
    with pytest.raises(ValueError, match="labels"):
        subdomain_gains(np.ones((2, 3)), list("aa"))
