"""Stratified differences against a regression with a dummy a stratum; exact limits against brute force."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import special

from search.experiment.guardrails import Guardrail, limits, read_guardrails
from search.experiment.guardrails.bounded import bounded_difference, bounded_mean
from search.experiment.sequential import Moments, always_valid_difference, width_factor
from search.experiment.strata import always_valid_stratified, contrast, moments, pooled, stratified_difference


def arms(draw, sizes):
    return [draw.normal(0.1 * k, 1.0, n) for k, n in enumerate(sizes)]


def test_the_stratified_difference_is_that_of_a_regression_on_strata():
    draw = np.random.default_rng(0)
    treated, kept = arms(draw, (30, 200, 500)), arms(draw, (600, 700, 450))
    found = stratified_difference([moments(x) for x in treated], [moments(x) for x in kept])
    outcome = np.concatenate(treated + kept)
    stratum = np.concatenate([np.full(len(x), k) for side in (treated, kept) for k, x in enumerate(side)])
    treatment = np.arange(len(outcome)) < sum(len(x) for x in treated)
    design = np.column_stack([treatment, *(stratum == k for k in range(3))]).astype(float)
    fit = sm.OLS(outcome, design).fit(cov_type="HC1")
    assert found.value == pytest.approx(fit.params[0])
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * fit.bse[0], rel=0.02)


def test_one_stratum_is_no_stratum():
    draw = np.random.default_rng(1)
    t, c = moments(draw.normal(size=400)), moments(draw.normal(size=400))
    one = always_valid_stratified([t], [c])
    plain = always_valid_difference(t, c)
    assert one.low == pytest.approx(float(plain.low))
    assert one.p == pytest.approx(float(plain.p))


def test_pooled_parts_are_the_whole_and_empty_parts_are_nothing():
    values = np.random.default_rng(2).normal(5.0, 2.0, 90)
    empty = Moments(np.float64(0), np.float64(np.nan), np.float64(np.nan))
    whole = pooled([moments(values[:20]), empty, moments(values[20:])])
    assert [float(x) for x in whole] == pytest.approx([90, values.mean(), values.var(ddof=1)])
    t, c = [moments(values[:40]), empty], [moments(values[40:60]), moments(values[60:])]
    assert stratified_difference(t, c).value == pytest.approx(values[:40].mean() - values[40:60].mean())


def test_peeking_over_a_ramp_with_drift_is_safe_within_stages():
    """1,000 ramps of 30 looks over three shares with 0.3 deviations of drift; promised 5 % (MC error 0.7 points)."""
    draw, wrong = np.random.default_rng(3), np.zeros(1_000, bool)
    parts = ([], [])
    for stage, share in enumerate((0.05, 0.2, 0.5)):
        n_t, n_c = int(400 * share), int(400 * (1 - share))
        seen = [draw.normal(0.15 * stage, 1.0, (1_000, 10 * n)) for n in (n_t, n_c)]
        for look in range(1, 11):
            now = [moments(x[:, : look * n]) for x, n in zip(seen, (n_t, n_c), strict=True)]
            wrong |= always_valid_stratified([*parts[0], now[0]], [*parts[1], now[1]]).p <= 0.05
        for done, x in zip(parts, seen, strict=True):
            done.append(moments(x))
    assert wrong.mean() <= 0.05
    assert stratified_difference(*parts).value.mean() == pytest.approx(0.0, abs=0.01)


ONE_SIDED = [
    ([(50, 0.5, 0.25), (5_000, 0.9, 0.09)], [(950, 0.5, 0.25), (1, 0.0, 0.0)]),
    ([(1, 1.0, 0.0), (150, 0.5, 0.25)], [(90_000, 0.5, 0.25), (2_850, 0.5, 0.25)]),
    ([(150, 0.5, 0.25), (0, np.nan, np.nan)], [(2_850, 0.5, 0.25), (90_000, 0.1, 0.09)]),
]


@pytest.mark.parametrize(("treatment", "control"), ONE_SIDED)
def test_units_of_a_stratum_that_is_left_out_are_no_burn_in(treatment, control):
    arms = [[Moments(*map(np.float64, part)) for part in arm] for arm in (treatment, control)]
    assert always_valid_stratified(*arms).high == np.inf
    rail = Guardrail(name="clicks", metric="share", harm="lower", margin=0.1, least_events=0.0)
    assert limits(rail, *arms, alpha=0.05)[0].high == np.inf
    # what is left out changes nothing else either
    kept = [
        [a for a, b in zip(arm, other, strict=True) if min(a.units, b.units) > 1] for arm, other in (arms, arms[::-1])
    ]
    assert always_valid_stratified(*arms, burn_in=10) == always_valid_stratified(*kept, burn_in=10)


@pytest.mark.parametrize("few", [0, 1])
def test_events_of_a_stratum_that_is_left_out_are_none(few):
    """600 and 900 units with 3 events, beside thousands of events that nothing is compared with."""
    arms = [
        [Moments(*map(np.float64, part)) for part in ((n, 3 / n, 3 / n), (other, 0.3, 0.21))]
        for n, other in ((600, few), (900, 50_000))
    ]
    rail = Guardrail(name="failed", metric="share", harm="higher", margin=0.1)
    found, _, events = limits(rail, *arms, alpha=0.05)
    assert events == pytest.approx(3, abs=0.1)
    assert found.high == np.inf


def test_one_variance_is_read_of_strata_and_of_the_whole():
    """An arm that has missed the tail, as one stratum, as two alike, and beside one that is left out."""
    t, c = (Moments(*map(np.float64, x)) for x in ((400, 0.1, 0.2), (8_000, 0.2, 1.0)))
    alone = Moments(*map(np.float64, (1, 9.0, 0.0)))
    plain = always_valid_difference(t, c)
    for found in (always_valid_stratified([t], [c]), always_valid_stratified([t, alone], [c, c])):
        even = 4 * 400 * 8_000 / 8_400
        factor = width_factor(even, 0.05) / width_factor(8_400, 0.05)
        assert found.high - found.value == pytest.approx(float(factor * (plain.high - plain.value)))
    rail = Guardrail(name="x", metric="y", harm="higher", margin=0.0, least_events=0.0)
    one, two = (limits(rail, *arms, alpha=0.05)[0] for arms in ((t, c), ([t, alone], [c, c])))
    assert two.high >= always_valid_stratified([t, alone], [c, c]).high
    assert one.value == two.value


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_exact_limits_are_read_of_an_entry_a_stage_too(stages):
    """Without an event there is no central limit to believe in; with a V2 that breaks nobody waits for one."""
    rail = Guardrail(name="failed", metric="share", harm="higher", margin=0.001, upper=1.0)
    none = [[Moments(*map(np.float64, (n, 0, 0)))] * stages for n in (60_000, 300_000)]
    clear, margin, _ = limits(rail, *none, alpha=0.01)
    assert clear.high <= margin
    broken = [
        [*([Moments(*map(np.float64, (n, 0, 0)))] * (stages - 1)), Moments(*map(np.float64, now))]
        for n, now in ((500, (60, 0.35, 0.23)), (9_500, (1_140, 0.0, 0.0)))
    ]
    stop, margin, _ = limits(rail, *broken, alpha=0.01)
    assert stop.low > margin


def test_one_stage_s_exact_limits_have_the_whole_level_and_an_entry_a_stage_its_part():
    """As a plan sizes a stage: at 0.05, half of it for each of the two limits that are read."""
    rail = Guardrail(name="failed", metric="share", harm="higher", margin=0.001, upper=1.0)
    t, c = (Moments(*map(np.float64, (n, 0, 0))) for n in (2_000, 38_000))
    for arms, level in (((t, c), 0.025), (([t], [c]), 0.025 * 6 / np.pi**2)):
        (found,) = read_guardrails([rail], *({"failed": arm} for arm in arms), alpha=0.05)
        low, high = bounded_difference(t, c, alpha=level)
        assert (found.harm_low, found.harm_high) == pytest.approx((float(low), float(high)))
        assert found.harm_high == float(limits(rail, *arms, alpha=0.05)[0].high)


def test_exact_limits_of_a_ramp_hold_at_all_of_its_looks():
    """800 ramps of three stages, five looks each, at a harm of the margin; promised 5 % (MC error 0.8 points)."""
    draw, wrong = np.random.default_rng(6), np.zeros((2, 800), bool)
    rail = Guardrail(name="failed", metric="share", harm="higher", margin=0.02, upper=1.0, least_events=1e9)
    done = ([], [])
    for stage, share in enumerate((0.05, 0.2, 0.5)):
        chance = 0.01 + 0.02 * stage
        sizes = [int(300 * share), int(300 * (1 - share))]
        seen = [draw.random((800, 5 * n)) < p for n, p in zip(sizes, (chance + 0.02, chance), strict=True)]
        for look in range(1, 6):
            now = [moments(x[:, : look * n]) for x, n in zip(seen, sizes, strict=True)]
            harm, margin, _ = limits(rail, [*done[0], now[0]], [*done[1], now[1]], alpha=0.05)
            wrong |= np.stack([harm.low > margin + 1e-12, harm.high < margin - 1e-12])
        for parts, x in zip(done, seen, strict=True):
            parts.append(moments(x))
    assert wrong.any(0).mean() <= 0.05
    assert np.isfinite(harm.high).all()


def test_arms_with_other_strata_and_empty_ones_are_refused():
    one = moments(np.arange(5.0))
    with pytest.raises(ValueError, match="same strata"):
        contrast([one], [one, one])
    nobody = Moments(*(np.float64(0),) * 3)
    with pytest.raises(ValueError, match="nothing can be compared"):
        stratified_difference([nobody], [one])
    with pytest.raises(ValueError, match="at least one part"):
        pooled([])


@pytest.mark.parametrize(("units", "mean"), [(40, 0.0), (200, 0.03), (1_000, 0.5), (300, 1.0), (50, 0.015)])
def test_exact_limits_are_where_the_bet_has_grown_to_one_over_alpha(units, mean):
    low, high = bounded_mean(units, mean, alpha=0.05, tuned_for=1_000.0)
    weight = 1_000 / (-2 * np.log(0.05) + np.log(-2 * np.log(0.05) + 1))
    p = np.linspace(1e-6, 1 - 1e-6, 200_001)
    hits = units * mean
    bet = special.betaln(p * weight + hits, (1 - p) * weight + units - hits) - special.betaln(
        p * weight, (1 - p) * weight
    )
    kept = p[bet - special.xlogy(hits, p) - special.xlog1py(units - hits, -p) < np.log(20)]
    assert (low, high) == (pytest.approx(kept.min(), abs=1e-5), pytest.approx(kept.max(), abs=1e-5))


def test_exact_limits_hold_for_coins_and_for_shares_at_every_look():
    """500 sequences of 400 values, 20 looks, promised 5 % (MC error 1 point); shares of several answers err less."""
    draw, looks = np.random.default_rng(4), np.unique(np.geomspace(1, 400, 20).astype(int))
    for p in (0.01, 0.2):
        for values in (draw.random((500, 400)) < p, draw.beta(p, 1 - p, (500, 400))):
            low, high = bounded_mean(looks, values.cumsum(1)[:, looks - 1] / looks, tuned_for=200.0)
            assert ((low > p) | (high < p)).any(1).mean() <= 0.05


def test_exact_differences_scale_with_their_bound():
    t, c = (Moments(*map(np.float64, x)) for x in ((300, 0.1, 0.09), (900, 0.2, 0.16)))
    low, high = bounded_difference(t, c)
    assert low < -0.1 < high
    scaled = bounded_difference(t._replace(mean=t.mean * 7), c._replace(mean=c.mean * 7), upper=7.0)
    assert scaled == (pytest.approx(7 * low), pytest.approx(7 * high))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        bounded_mean(10, 1.2)
