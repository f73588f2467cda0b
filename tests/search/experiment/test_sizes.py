"""Sample sizes against closed forms, and power against simulated experiments."""

import numpy as np
import pytest
from scipy import stats

from search.experiment.sizes import (
    detectable_effect,
    power_of_means,
    power_of_proportions,
    ratio_sd,
    size_of_means,
    size_of_proportions,
)


@pytest.mark.parametrize(("effect", "sd", "ratio"), [(0.1, 1.0, 1.0), (-0.02, 0.4, 19.0), (0.001, 0.3, 1.0)])
def test_size_of_means_is_the_normal_closed_form_for_large_arms(effect, sd, ratio):
    found = size_of_means(effect, sd, alpha=0.05, power=0.8, ratio=ratio)
    quantiles = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    expected = (quantiles * sd / effect) ** 2 * (1 + 1 / ratio)
    assert found.treatment == pytest.approx(expected, rel=2e-3, abs=2)
    assert found.control == pytest.approx(ratio * expected, rel=2e-3, abs=2 * ratio)


def test_size_power_and_detectable_effect_agree():
    size = size_of_means(0.05, 0.7, power=0.9, ratio=4.0)
    assert power_of_means(0.05, 0.7, size.treatment, size.control) == pytest.approx(0.9, abs=1e-3)
    assert detectable_effect(0.7, size.treatment, size.control, power=0.9) == pytest.approx(0.05, rel=1e-3)


def test_power_of_means_is_that_of_simulated_experiments():
    generator = np.random.default_rng(0)
    size = size_of_means(0.3, 1.0, power=0.8, ratio=3.0)
    treatment = generator.normal(0.3, 1.0, (3_000, size.treatment))
    control = generator.normal(0.0, 1.0, (3_000, size.control))
    shown = stats.ttest_ind(treatment, control, axis=1).pvalue <= 0.05
    assert shown.mean() == pytest.approx(0.8, abs=3.5 * np.sqrt(0.16 / 3_000))


@pytest.mark.parametrize(("baseline", "effect"), [(0.1, 0.02), (0.3, -0.05)])
def test_size_of_proportions_reaches_its_power(baseline, effect):
    size = size_of_proportions(baseline, effect, power=0.8)
    assert power_of_proportions(baseline, effect, size.treatment, size.control) == pytest.approx(0.8, abs=0.01)
    generator = np.random.default_rng(1)
    treated = generator.binomial(size.treatment, baseline + effect, 4_000) / size.treatment
    kept = generator.binomial(size.control, baseline, 4_000) / size.control
    error = np.sqrt(treated * (1 - treated) / size.treatment + kept * (1 - kept) / size.control)
    shown = np.abs(treated - kept) / error > stats.norm.ppf(0.975)
    assert shown.mean() == pytest.approx(0.8, abs=0.03)


def test_ratio_sd_is_the_spread_of_the_ratio():
    generator = np.random.default_rng(2)
    queries = generator.poisson(5.0, (4_000, 300)) + 1.0
    clicks = generator.binomial(queries.astype(int), 0.3).astype(float)
    ratios = clicks.sum(1) / queries.sum(1)
    expected = ratios.std() * np.sqrt(300)
    found = np.mean([ratio_sd(c, q) for c, q in zip(clicks[:50], queries[:50], strict=True)])
    assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"effect": 0.0}, "effect"),
        ({"sd": 0.0}, "standard deviation"),
        ({"alpha": 1.0}, "alpha"),
        ({"power": 1.0}, "power"),
        ({"ratio": 0.0}, "control units"),
    ],
)
def test_what_cannot_be_planned_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        size_of_means(**({"effect": 0.1, "sd": 1.0} | change))


def test_a_proportion_above_one_is_refused():
    with pytest.raises(ValueError, match="proportions"):
        size_of_proportions(0.95, 0.1)
