from __future__ import annotations

from dataclasses import replace
from math import inf, pi

import numpy as np
import pytest
from test_ensembles import linear_arm

from fusion_models.metrics import Interval, query_interval, seed_interval
from fusion_models.metrics.intervals.ensembles import Arm, arm_difference
from fusion_models.metrics.intervals.planning import detectable, look_level, probability_settled


def test_all_looks_together_keep_the_level() -> None:
    levels = [look_level(look) for look in range(1, 20_001)]
    assert levels[0] == pytest.approx(0.05 * 6 / pi**2)
    assert levels[1] == pytest.approx(levels[0] / 4)
    assert 0.0499 < sum(levels) < 0.05
    with pytest.raises(ValueError, match="from 1"):
        look_level(0)


def test_without_more_data_the_chance_is_what_stands() -> None:
    values = np.random.default_rng(0).normal(0.2, 1, 100)
    values = np.concatenate([values, 2 * values.mean() - values])  # no skewness: the limits are Student's
    found = query_interval(values)
    for threshold, settled in ((found.low - 0.01, 1), (found.low + 0.01, 0), (found.high - 0.01, 0), (9.0, 1)):
        assert probability_settled(found, threshold) == settled
    assert probability_settled(found, 9.0, side="above") == 0
    assert probability_settled(found, 9.0, side="below") == 1


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("level", [0.95, 0.99])
def test_what_will_stand_has_the_limits_that_stand_where_values_are_skewed(sign: int, level: float) -> None:
    """A lopsided interval reaches farther on one side than Student's t: a plan that forgets it promises too much."""
    values = sign * np.random.default_rng(0).exponential(size=60) ** 2
    found, asked = query_interval(values), query_interval(values, level=level)
    assert abs(asked.variance.skew) > 0
    for threshold, settled in ((asked.low - 0.01, 1), (asked.low + 0.01, 0), (asked.high - 0.01, 0), (99.0, 1)):
        assert probability_settled(replace(found, level=level), threshold) == settled


def test_more_helps_up_to_what_the_other_part_allows() -> None:
    generator = np.random.default_rng(1)
    a, b = (linear_arm(generator, 5, 0.2 * generator.normal(size=400), 0.02, 0.1) for _ in range(2))
    found = arm_difference(a, b)
    chances = probability_settled(found, found.mean + 0.02, trainings=(5, 8, 16, 200), queries=(400, 2000, 50_000))
    assert chances.shape == (4, 3)
    assert (np.diff(chances, axis=0) > -0.03).all()
    assert (np.diff(chances, axis=1) > -0.03).all()
    assert chances[-1, -1] > 0.8 > chances[0, 0]
    np.testing.assert_array_equal(
        chances, probability_settled(found, found.mean + 0.02, trainings=(5, 8, 16, 200), queries=(400, 2000, 50_000))
    )
    sides = [probability_settled(found, 0.0, trainings=(12,), side=side) for side in ("above", "below", "either")]
    assert sides[0] + sides[1] == pytest.approx(sides[2])


@pytest.mark.parametrize(("n", "more", "queries", "threshold"), [(5, 12, 300, 0.02), (5, 8, 1200, 0.03)])
def test_the_chance_is_right_on_average(n: int, more: int, queries: int, threshold: float) -> None:
    """Truth spread widely, a study, the same study grown: as many are settled as was said."""
    generator, said, came = np.random.default_rng(2), [], []
    for _ in range(400):
        truth = generator.uniform(-0.15, 0.2)
        values = truth + 0.03 * generator.normal(size=(more, 1))
        values = values + 0.3 * generator.normal(size=queries) + 0.2 * generator.normal(size=(more, queries))

        def grown(trainings: int, some: int, values: np.ndarray = values) -> Interval:
            kept = values[:trainings, :some]
            total = kept.sum(axis=0)
            return arm_difference(Arm(total / trainings, (total - kept) / (trainings - 1), 1), np.zeros(some))

        before = grown(n, queries // 3)
        if before.low <= threshold <= before.high:
            chance = probability_settled(before, threshold, trainings=(more,), queries=(queries,), draws=500)
            said.append(float(chance.item()))
            after = grown(more, queries)
            came.append(not after.low <= threshold <= after.high)
    assert len(said) > 60
    assert np.mean(said) == pytest.approx(np.mean(came), abs=3 * 0.5 / len(said) ** 0.5)
    assert np.corrcoef(said, came)[0, 1] > 0.15  # and it tells which


def test_what_is_detectable_is_shown_with_that_power() -> None:
    generator = np.random.default_rng(3)

    def difference(truth: float, n: int, queries: int) -> Interval:
        query = 0.3 * generator.normal(size=queries)
        a = linear_arm(generator, n, truth + query + 0.1 * generator.normal(size=queries), 0.02, 0.1)
        return arm_difference(a, linear_arm(generator, n, query, 0.02, 0.1))

    pilot = difference(0.0, 300, 3000)
    least = detectable(pilot.variance, trainings=6, queries=200)
    shown = [difference(0.01 + least, 6, 200).low > 0.01 for _ in range(600)]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.06)
    assert detectable(pilot.variance, trainings=12, queries=200) < least
    assert detectable(pilot.variance, trainings=6, queries=900) < least
    assert detectable(pilot.variance, trainings=6, queries=200, power=0.9) > least
    assert detectable(pilot.variance, trainings=6, queries=200, level=0.99) > least


def test_detectable_in_closed_form_where_queries_are_many() -> None:
    values = np.random.default_rng(4).normal(size=100_000)
    found = query_interval(values)
    expected = (1.959964 + 0.841621) * values.std() / 100_000**0.5
    assert detectable(found.variance) == pytest.approx(expected, rel=1e-3)
    assert detectable(found.variance, queries=25_000) == pytest.approx(2 * expected, rel=2e-3)
    assert detectable(query_interval(np.full(5, 0.1)).variance) == 0.0


def test_paired_seeds_are_planned_too_and_the_unknown_is_unknown() -> None:
    values = np.random.default_rng(5).normal(0.05, 0.3, (4, 200)) + np.array([[0.1], [-0.1], [0.05], [-0.05]])
    found = seed_interval(values)
    low, high = probability_settled(found, 0.0, trainings=(4, 100)).ravel()
    assert low == 0 < high
    assert detectable(found.variance, trainings=16) < detectable(found.variance)
    unknown = seed_interval(values[:1])
    assert np.isnan(probability_settled(unknown, 0.0, trainings=(5,))).all()
    assert detectable(unknown.variance) == inf


def test_what_it_refuses() -> None:
    found = query_interval(np.random.default_rng(6).normal(size=50))
    with pytest.raises(ValueError, match="50 queries already"):
        probability_settled(found, 0.0, queries=(40,))
    with pytest.raises(ValueError, match="power"):
        detectable(found.variance, power=1.0)
    with pytest.raises(ValueError, match="two trainings"):
        detectable(found.variance, trainings=1)
