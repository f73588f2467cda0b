"""Every estimator on 2,000 experiments whose truth is known: errors within what is promised."""

import numpy as np
import pytest

from search.experiment.simulation import fixed_horizon, interleaved, logged, peeking, sample_ratios
from search.experiment.sizes import power_of_means

RUNS = 2_000
ERROR = np.sqrt(0.05 * 0.95 / RUNS)
"""Standard error of a rate of 5 % over the simulated experiments."""


def test_fixed_horizon_errs_and_covers_as_promised():
    for name, rates in fixed_horizon(np.random.default_rng(0), runs=RUNS, units=400, effect=0.0).items():
        assert rates.shown == pytest.approx(0.05, abs=3.5 * ERROR), name
        assert rates.covered == pytest.approx(0.95, abs=3.5 * ERROR), name


def test_power_is_as_computed_and_cuped_has_more_of_it():
    found = fixed_horizon(np.random.default_rng(1), runs=RUNS, units=400, effect=0.2)
    expected = power_of_means(0.2, 1.0, 400, 400)
    assert found["difference of means"].shown == pytest.approx(expected, abs=0.04)
    assert found["difference of means"].covered > 0.95 - 3.5 * ERROR
    assert found["CUPED"].shown > found["difference of means"].shown + 0.03
    assert found["CUPED"].width < 0.9 * found["difference of means"].width
    assert found["CUPED"].covered > 0.95 - 3.5 * ERROR


@pytest.mark.parametrize("skewed", [False, True])
def test_peeking_is_safe_with_the_always_valid_interval_alone(skewed):
    found = peeking(np.random.default_rng(2), runs=RUNS, units=2_000, every=20, effect=0.0, skewed=skewed)
    assert found["fixed-horizon, one look"].shown == pytest.approx(0.05, abs=3.5 * ERROR)
    assert found["fixed-horizon, every look"].shown > 0.2
    valid = found["always valid, every look"]
    assert valid.shown <= 0.05
    assert valid.covered >= 0.95


def test_peeking_at_a_real_effect_covers_it_and_shows_it():
    found = peeking(np.random.default_rng(3), runs=RUNS, units=2_000, every=20, effect=0.15, skewed=False)
    valid = found["always valid, every look"]
    assert valid.covered >= 0.95
    assert valid.shown > 0.9
    assert 1.0 < valid.width / found["fixed-horizon, one look"].width < 2.0


def test_interleaving_errs_as_promised_and_finds_the_better_ranker():
    same = interleaved(np.random.default_rng(4), runs=RUNS, queries=150, strength=0.0)
    # the exact sign test is conservative
    assert same.shown <= 0.05 + 3.5 * ERROR
    assert same.covered == pytest.approx(0.95, abs=3.5 * ERROR)
    assert interleaved(np.random.default_rng(5), runs=300, queries=150, strength=4.0).shown > 0.3


def test_counterfactual_estimates_cover_the_truth():
    found = logged(np.random.default_rng(6), runs=RUNS, decisions=500)
    for name in ("IPS", "SNIPS", "doubly robust"):
        assert found[name].covered == pytest.approx(0.95, abs=3.5 * ERROR), name
    assert found["doubly robust"].width < found["IPS"].width
    # clipping buys narrowness with bias: it must be seen to
    assert found["IPS clipped at 2"].covered < 0.9


def test_the_sample_ratio_alarm_is_silent_without_and_rings_with_a_loss():
    assert sample_ratios(np.random.default_rng(7), runs=RUNS, days=30, daily=10_000, kept=1.0).shown <= 0.001
    assert sample_ratios(np.random.default_rng(8), runs=RUNS, days=30, daily=10_000, kept=0.9).shown > 0.99
