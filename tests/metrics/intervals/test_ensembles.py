from __future__ import annotations

import time
from itertools import combinations
from math import comb

import numpy as np
import pytest
import torch
from padded_lists import random_lists
from scipy import stats

from fusion_models.metrics import more_needed, ndcg
from fusion_models.metrics.fusion import standardise
from fusion_models.metrics.intervals.ensembles import (
    Arm,
    arm,
    arm_difference,
    arm_of,
    ensemble_scores,
    ndcg_of,
    standardised,
)


def trainings(
    seed: int, n: int, queries: int = 40, length: int = 12, recipe: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores `[n, Q, L]` of trainings that share a signal, labels and valid places; ties and junk where padded."""
    lists = random_lists(seed, queries, length)
    own = np.random.default_rng([seed, recipe]).normal(size=(n, queries, length))
    scores = lists.labels.numpy() + 2 * lists.a.numpy() + own
    scores[:, ::3] = scores[:, ::3].round()
    return scores, lists.labels.numpy(), lists.valid.numpy()


def test_standardised_equals_the_tensors_function_and_knows_constants_and_single_candidates() -> None:
    scores, _, valid = trainings(0, 3)
    found = standardised(scores, valid)
    for one, theirs in zip(found, scores, strict=True):
        expected = standardise(torch.from_numpy(theirs), torch.from_numpy(valid)).numpy()
        np.testing.assert_array_equal(one, expected)
    assert (found[:, ~valid] == 0).all()
    alone = np.array([[True, False, False], [True, True, False]])
    assert (standardised([[5.0, 9.0, np.nan], [0.1, 0.1, 7.0]], alone) == 0).all()
    with pytest.raises(ValueError, match="NaN"):
        standardised([[np.nan, 1.0, 2.0]], np.ones((1, 3), bool))
    with pytest.raises(ValueError, match=r"lists \(2, 3\)"):
        standardised(np.zeros((2, 4)), alone)


def test_an_ensemble_is_the_mean_of_its_standardised_members_and_scale_does_not_count() -> None:
    scores, _, valid = trainings(1, 4)
    found = ensemble_scores(scores, valid)
    np.testing.assert_allclose(found, np.mean([standardised(s, valid) for s in scores], axis=0))
    scaled = scores * np.array([1.0, 7.0, 0.1, 30.0])[:, None, None] + 5.0
    np.testing.assert_allclose(ensemble_scores(scaled, valid), found, atol=1e-9)
    with pytest.raises(ValueError, match="at least one training"):
        ensemble_scores(scores[:0], valid)


@pytest.mark.parametrize("seed", range(3))
def test_ndcg_of_equals_ndcg_with_ties_padding_and_empty_lists(seed: int) -> None:
    scores, labels, valid = trainings(seed, 2, queries=80)
    values = ndcg_of(labels, valid)
    for one in scores:
        expected = ndcg(torch.from_numpy(one), torch.from_numpy(labels), torch.from_numpy(valid)).numpy()
        np.testing.assert_allclose(values(one), expected, atol=1e-12)
    order = np.random.default_rng(seed).permutation(labels.shape[1])
    np.testing.assert_allclose(
        ndcg_of(labels[:, order], valid[:, order])(scores[0][:, order]), values(scores[0]), atol=1e-12
    )
    with pytest.raises(ValueError, match="labels"):
        ndcg_of(np.where(valid, -1.0, 0.0), valid)


@pytest.mark.parametrize(("n", "k"), [(5, 4), (5, 2), (4, 1), (6, 3)])
def test_an_arm_equals_its_naive_loop(n: int, k: int) -> None:
    scores, labels, valid = trainings(2, n)
    values = ndcg_of(labels, valid)
    by_subset = {s: values(ensemble_scores(scores[list(s)], valid)) for s in combinations(range(n), k)}
    found = arm(scores, labels, valid, k)
    assert (found.n, found.k, len(by_subset)) == (n, k, comb(n, k))
    np.testing.assert_allclose(found.mean, np.mean(list(by_subset.values()), axis=0))
    for i in range(n):
        without = np.mean([v for s, v in by_subset.items() if i not in s], axis=0)
        np.testing.assert_allclose(found.left_out[i], without)


def test_a_sample_of_subsets_is_balanced_repeatable_and_near_all_of_them() -> None:
    scores, labels, valid = trainings(3, 10, queries=120)
    every, some = arm(scores, labels, valid, 4, most_subsets=210), arm(scores, labels, valid, 4, most_subsets=100)
    again = arm(scores, labels, valid, 4, most_subsets=100)
    np.testing.assert_array_equal(some.mean, again.mean)
    np.testing.assert_allclose(np.nanmean(some.mean), np.nanmean(every.mean), atol=0.003)
    # Balanced: the mean over trainings of what is left without one is the mean of all.
    np.testing.assert_allclose(some.left_out.mean(axis=0), some.mean)
    assert 0.7 < np.nanmean(some.left_out, axis=1).std() / np.nanmean(every.left_out, axis=1).std() < 1.4


def test_an_arm_of_any_quantity() -> None:
    scores, _, valid = trainings(4, 5)
    found = arm_of(scores, valid, lambda s: s[:, 0], 2)
    np.testing.assert_allclose(found.mean, standardised(scores, valid)[:, :, 0].mean(axis=0))


@pytest.mark.parametrize(("n", "k"), [(4, 4), (1, 1), (3, 0)])
def test_too_few_trainings_say_how_many_there_must_be(n: int, k: int) -> None:
    scores, labels, valid = trainings(5, n)
    with pytest.raises(ValueError, match=f"train at least {max(k, 1) + 1}"):
        arm(scores, labels, valid, k)


def test_an_arm_takes_about_a_second_at_the_size_of_a_run() -> None:
    scores, labels, valid = trainings(6, 12, queries=720, length=20)
    scores += np.random.default_rng(0).normal(size=scores.shape)  # few ties, as rankers have
    began = time.process_time()
    arm(scores, labels, valid, 4)
    assert time.process_time() - began < 6


def linear_arm(generator: np.random.Generator, n: int, query: np.ndarray, seed: float, own: float, k: int = 1) -> Arm:
    """An arm whose values are query effect + training effect + interaction; an ensemble is the mean of its members."""
    values = query + seed * generator.normal(size=(n, 1)) + own * generator.normal(size=(n, len(query)))
    total = values.sum(axis=0)
    return Arm(total / n, (total - values) / (n - 1), k)


def test_the_seed_part_in_closed_form() -> None:
    generator = np.random.default_rng(0)
    one = linear_arm(generator, 6, generator.normal(size=50), 0.3, 0.2)
    values = one.n * one.mean - (one.n - 1) * one.left_out
    found = arm_difference(one, np.zeros(50)).variance
    (part,) = found.arms
    assert part.variance == pytest.approx(values.mean(axis=1).var(ddof=1) / 6)
    assert found.query == pytest.approx(values.mean(axis=0).var(ddof=1) / 50)
    residual = values - values.mean(axis=0)
    shared = ((residual - residual.mean(axis=1, keepdims=True)) ** 2).sum() / (6 * 5) / (50 * 49)
    assert part.shared == pytest.approx(shared)
    assert found.seed == pytest.approx(part.variance - part.shared)
    query = np.sum((one.mean - one.mean.mean()) ** 2) / (50 * 49)
    freedom = (query + found.seed) ** 2 / (query**2 / found.query_df + (part.variance - part.shared / 2) ** 2 / 5)
    half = stats.t.ppf(0.975, freedom) * (query + found.seed) ** 0.5
    interval = arm_difference(one, np.zeros(50))
    assert interval.low <= interval.mean - half + 1e-12  # skewness only widens
    assert interval.high >= interval.mean + half - 1e-12
    assert interval.high - interval.low < 2.3 * half


def test_a_difference_is_antisymmetric_and_leaves_out_queries_without_a_value() -> None:
    scores, labels, valid = trainings(7, 5, queries=90)
    others, _, _ = trainings(7, 6, queries=90, recipe=1)
    a, b = arm(scores, labels, valid, 4), arm(others, labels, valid, 4)
    assert np.isnan(a.mean).any()
    ab, ba = arm_difference(a, b), arm_difference(b, a)
    assert (ab.mean, ab.low, ab.high) == pytest.approx((-ba.mean, -ba.high, -ba.low))
    assert ab.mean == pytest.approx(np.nanmean(a.mean - b.mean))
    assert ab.variance.queries == int(np.isfinite(a.mean).sum())
    assert [part.trainings for part in ab.variance.arms] == [5, 6]
    order = np.random.default_rng(0).permutation(90)
    shuffled = arm_difference(Arm(a.mean[order], a.left_out[:, order], 4), Arm(b.mean[order], b.left_out[:, order], 4))
    assert (shuffled.low, shuffled.high) == pytest.approx((ab.low, ab.high))


def test_a_plan_of_more_needs_no_seeds_where_trainings_do_not_differ() -> None:
    query = np.random.default_rng(1).normal(size=50)
    for left_out in (np.tile(query, (5, 1)), query + np.random.default_rng(2).normal(size=(5, 50))):
        found = arm_difference(Arm(query, left_out, 4), np.zeros(50))
        assert found.variance.seed == pytest.approx(0.0, abs=0.01)
        assert more_needed(found, found.mean - 0.01).queries is not None


def test_arms_that_do_not_compare() -> None:
    one = Arm(np.zeros(9), np.zeros((5, 9)), 4)
    with pytest.raises(ValueError, match="ensemble of 4 against one of 1"):
        arm_difference(one, Arm(np.zeros(9), np.zeros((5, 9)), 1))
    with pytest.raises(ValueError, match="other queries"):
        arm_difference(one, np.zeros(8))
    with pytest.raises(ValueError, match="no query has a value"):
        arm_difference(one, np.full(9, np.nan))


@pytest.mark.parametrize(("n", "seed", "own"), [(5, 0.0, 0.5), (5, 0.05, 0.5), (5, 0.3, 0.2), (8, 0.05, 1.0)])
def test_a_difference_of_arms_covers(n: int, seed: float, own: float) -> None:
    generator, misses, repeats, queries = np.random.default_rng(n), [0, 0], 900, 200
    for _ in range(repeats):
        query = generator.normal(size=(2, queries)) * 0.5
        a, b = (linear_arm(generator, n, query[side], seed, own) for side in (0, 1))
        found = arm_difference(a, b)
        misses[0] += found.low > 0
        misses[1] += found.high < 0
    assert 0.935 <= 1 - sum(misses) / repeats <= 0.978
    assert max(misses) / repeats <= 0.04  # nominal 0.025; three deviations of 900 draws are 0.0156


def test_a_difference_of_arms_covers_where_queries_cross() -> None:
    """Words that help one recipe: two words a query, of one vocabulary."""
    generator, misses, repeats, queries = np.random.default_rng(9), 0, 300, 200
    for _ in range(repeats):
        words = generator.integers(0, 40, (queries, 2))
        query = 0.4 * generator.normal(size=queries)
        helped = query + 0.1 * generator.normal(size=40)[words].sum(axis=1)
        a, b = linear_arm(generator, 5, helped, 0.02, 0.2), linear_arm(generator, 5, query, 0.02, 0.2)
        found = arm_difference(a, b, words)
        misses += not found.low <= 0 <= found.high
    assert 0.92 <= 1 - misses / repeats <= 0.985


@pytest.mark.parametrize("scale", [1.0, 443.0, 1329.0, 1e90])
def test_the_quick_ndcg_is_ndcg_for_labels_of_any_size(scale):
    """2^1329 is no float64: a query with such a label must not count as one without a relevant document."""
    random = np.random.default_rng(2)
    labels, valid = random.integers(0, 4, (40, 9)) * scale, random.random((40, 9)) < 0.9
    scores = random.normal(size=(40, 9))
    expected = ndcg(torch.from_numpy(scores), torch.from_numpy(labels), torch.from_numpy(valid)).numpy()
    np.testing.assert_allclose(ndcg_of(labels, valid)(scores), expected, atol=1e-12)
    assert np.isfinite(expected).mean() > 0.9
