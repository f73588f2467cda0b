"""Intervals of an artefact's quantities, arms of recipes, and what is read as the worst of several."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from outputs import MODALITIES, random_lists, random_outputs

from fusion_models.metrics import Interval
from fusion_models.metrics.intervals.ensembles import arm_difference
from fusion_models.quantities import ensemble, numbers, quantity
from search.analysis.measure import (
    at_level,
    largest,
    linear_interval,
    quantities,
    recipe_arm,
    smallest,
)
from search.analysis.replicates import objective_replicates, p_on_front
from search.run_store.artifacts import OUTPUTS, write_outputs
from search.run_store.folder import RunFolder
from search.run_store.job import TrialRecord
from spaces import PHASES

LISTS = random_lists(queries=80)
limits = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.3), st.floats(0, 0.3)), min_size=1, max_size=4)


@given(limits, st.floats(0, 1))
def test_the_largest_lies_where_all_lie_and_is_above_where_one_is(drawn, threshold):
    each = [Interval(mean, mean - below, mean + above) for mean, below, above in drawn]
    high, low = largest(each), smallest(each)
    assert (high.high <= threshold) == all(i.high <= threshold for i in each)
    assert (high.low > threshold) == any(i.low > threshold for i in each)
    assert (low.low >= threshold) == all(i.low >= threshold for i in each)
    assert (low.high < threshold) == any(i.high < threshold for i in each)
    assert high.low <= high.mean <= high.high
    assert low.low <= low.mean <= low.high


def test_every_number_of_an_artefact_has_an_interval_around_it():
    artefact = ensemble([random_outputs(LISTS, seed=s, images=True) for s in range(4)])
    found, told = quantities(artefact), numbers(artefact)
    assert found.keys() == told.keys()
    for name, interval in found.items():
        assert interval.mean == pytest.approx(told[name]), name
        assert interval.low <= interval.mean <= interval.high, name
    assert found["v1_correlation"].high <= 1.0


def test_every_interval_is_over_clusters_of_queries():
    artefact, clusters = random_outputs(LISTS, seed=1), np.repeat(np.arange(10), 8)
    plain, grouped = quantities(artefact), quantities(artefact, clusters=clusters)
    assert plain.keys() == grouped.keys()
    for name, interval in grouped.items():
        assert interval.mean == plain[name].mean
        assert interval.variance.query_df < 12 < plain[name].variance.query_df, name
    crossed = np.stack([clusters, 100 + np.arange(80) % 8], axis=1)
    assert quantities(artefact, clusters=crossed).keys() == plain.keys()


def test_a_ranker_that_orders_nothing_has_no_correlation():
    flat = dataclasses.replace(random_outputs(LISTS, seed=1), scores=np.zeros_like(LISTS.v1))
    assert "v1_correlation" not in quantities(flat)


def test_an_interval_of_another_level_is_what_it_would_have_been():
    artefact = random_outputs(LISTS, seed=1)
    for name, interval in quantities(artefact).items():
        again = at_level(interval, 0.99)
        expected = quantities(artefact, level=0.99)[name]
        if name not in ("v1_correlation", "attention_max_share", "attention_min_share"):
            assert (again.low, again.high) == pytest.approx((expected.low, expected.high)), name
    arms = [recipe_arm([random_outputs(LISTS, seed=s, noise=n) for s in range(6)], 4) for n in (1.0, 1.2)]
    difference = arm_difference(*arms, None, 0.95)
    expected = arm_difference(*arms, None, 0.9)
    again = at_level(difference, 0.9)
    assert (again.mean, again.low, again.high) == pytest.approx((expected.mean, expected.low, expected.high))


def test_a_recipe_is_compared_as_ensembles_and_needs_two_trainings():
    runs = [random_outputs(LISTS, seed=s) for s in range(5)]
    arm = recipe_arm(runs, 4)
    left_out = [ensemble(runs[:i] + runs[i + 1 :]).ndcg for i in range(5)]
    np.testing.assert_allclose(arm.mean, np.mean(left_out, axis=0))
    assert recipe_arm(runs[:2], 4).k == 1
    with pytest.raises(ValueError, match="two trainings at least"):
        recipe_arm(runs[:1], 4)
    with pytest.raises(ValueError, match="different queries"):
        recipe_arm([runs[0], random_outputs(LISTS.subset(np.arange(40)), seed=1)], 1)


def test_a_weighted_sum_of_arms_agrees_with_their_difference():
    a, b = (recipe_arm([random_outputs(LISTS, seed=10 * n + s, noise=n) for s in range(5)], 2) for n in (1, 2))
    one, other = linear_interval([(1.0, a), (-1.0, b)]), arm_difference(a, b)
    assert (one.mean, one.low, one.high) == pytest.approx((other.mean, other.low, other.high))
    assert linear_interval([(1.0, a), (-1.0, b)], constant=0.5).mean == pytest.approx(other.mean + 0.5)


def record(trial_id, recorded):
    return TrialRecord(
        trial_id=trial_id,
        stage="search",
        name="",
        state="finished",
        state_reason="",
        epochs=1,
        seed=0,
        recipe={},
        numbers=recorded,
    )


def test_the_objectives_of_a_replicate_are_those_of_the_repeated_queries():
    run, drawn = random_outputs(LISTS, seed=0), np.random.default_rng(1).integers(0, 80, 120)
    phase = PHASES["phase3"]
    found = objective_replicates(phase, run, np.bincount(drawn, minlength=80)[None].astype(float))
    again = numbers(run.subset(drawn))
    assert set(found) == {objective.name for objective in phase.objectives}
    for name, values in found.items():
        assert values[0] == pytest.approx(again[name]), name


def test_a_place_on_the_front_is_surer_where_queries_are_many_and_alone(tmp_path):
    folder, better = RunFolder(tmp_path), random_outputs(LISTS, seed=0)
    random = np.random.default_rng(5)
    worse = dataclasses.replace(
        better,
        scores=np.where(LISTS.valid, better.scores + random.normal(scale=0.35, size=LISTS.v1.shape), 0.0),
        shares=better.shares,
    )
    for name, run in (("t0", better), ("t1", worse), ("t2", better)):
        (folder.checkpoints / name).mkdir(parents=True)
        write_outputs(run, folder.checkpoints / name / OUTPUTS)
    records = [record(t, {"ndcg_gain": 0.0}) for t in ("t0", "t1", "t2")]
    phase = dataclasses.replace(PHASES["phase3"], objectives=PHASES["phase3"].objectives[:1])
    alone = p_on_front(folder, phase, records, LISTS, seed=0)
    assert alone["t0"] == alone["t2"] > 0.5
    assert 0.0 <= alone["t1"] < 0.5
    clusters = np.repeat([0, 1], 40)
    close = dataclasses.replace(
        worse, scores=np.where(LISTS.valid, better.scores + random.normal(scale=0.1, size=LISTS.v1.shape), 0.0)
    )
    write_outputs(close, folder.checkpoints / "t1" / OUTPUTS)
    alone = p_on_front(folder, phase, records, LISTS, seed=0)
    grouped = p_on_front(folder, phase, records, LISTS, clusters=clusters, seed=0)
    assert grouped != alone
    assert p_on_front(folder, phase, records, LISTS, clusters=np.arange(80), seed=0) == alone


def test_what_a_ranker_said_comes_back_from_the_disk(tmp_path):
    from search.run_store.artifacts import read_outputs

    said = random_outputs(LISTS, seed=3, images=True)
    write_outputs(said, tmp_path / OUTPUTS)
    again = read_outputs(tmp_path / OUTPUTS, LISTS)
    assert again.modalities == MODALITIES
    for name in ("ndcg", "visual_masking_drop", "attention_text", "v1_correlation", "reconstruction_ssim"):
        assert quantity(name).estimate(again) == pytest.approx(quantity(name).estimate(said), abs=1e-6)
    with pytest.raises(ValueError, match="measured on other queries"):
        read_outputs(tmp_path / OUTPUTS, LISTS.subset(np.arange(40)))
