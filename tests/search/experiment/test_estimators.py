"""The estimators against closed forms, naive loops and statsmodels; what they refuse."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from search.experiment.analysis import cuped, difference_of_means, ratio_difference
from search.experiment.assignment import buckets, in_treatment
from search.experiment.counterfactual import doubly_robust, importance_weights, ips, snips
from search.experiment.estimate import skewed_mean, t_estimate
from search.experiment.guardrails import GUARDRAILS, Guardrail, may_ramp, read_guardrails, should_stop
from search.experiment.interleaving import preference, team_draft
from search.experiment.sample_ratio import always_valid_sample_ratio_p, sample_ratio
from search.experiment.sequential import Moments, always_valid_difference, running_moments

UNITS = [f"user-{i}" for i in range(20_000)]


def test_ramping_up_moves_nobody_out_of_treatment():
    before = np.zeros(len(UNITS), bool)
    for share in (0.0, 0.05, 0.2, 0.5, 1.0):
        now = in_treatment(UNITS, "visual-v2", share)
        assert not (before & ~now).any()
        assert now.mean() == pytest.approx(share, abs=0.012)
        before = now


def test_buckets_are_uniform_and_salts_independent():
    one, other = buckets(UNITS, "one"), buckets(UNITS, "other")
    assert stats.kstest(one, "uniform").pvalue > 1e-3
    table = np.histogram2d(one, other, bins=5)[0]
    assert stats.chi2_contingency(table).pvalue > 1e-3
    assert np.array_equal(one, buckets(UNITS, "one"))
    assert buckets(["user-7"], "one")[0] == one[7]


def test_buckets_are_the_same_on_every_machine():
    assert buckets(["a", "ü", ""], "salt") == pytest.approx([0.395425, 0.064595, 0.264343], abs=1e-5)


def test_an_empty_salt_and_a_share_beyond_one_are_refused():
    with pytest.raises(ValueError, match="salt"):
        buckets(["a"], "")
    with pytest.raises(ValueError, match="share"):
        in_treatment(["a"], "s", 1.2)


def test_difference_of_means_is_welch_s():
    generator = np.random.default_rng(0)
    treatment, control = generator.normal(0.3, 2.0, 80), generator.normal(0.0, 1.0, 300)
    found = difference_of_means(treatment, control, alpha=0.1)
    peer = CompareMeans(DescrStatsW(treatment), DescrStatsW(control))
    low, high = peer.tconfint_diff(alpha=0.1, usevar="unequal")
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.p == pytest.approx(peer.ttest_ind(usevar="unequal")[1])
    stacked = difference_of_means(np.stack([treatment, treatment + 1]), np.stack([control, control]), alpha=0.1)
    assert stacked.value == pytest.approx([float(found.value), float(found.value) + 1])


@pytest.mark.filterwarnings("ignore:Precision loss:RuntimeWarning")
def test_constant_arms_have_no_nan():
    same, other = difference_of_means(np.ones(5), np.ones(5)), difference_of_means(np.ones(5), np.zeros(5))
    assert (same.p, same.low, same.high) == (1.0, 0.0, 0.0)
    assert (other.p, other.low, other.high) == (0.0, 1.0, 1.0)


def test_cuped_of_an_unrelated_covariate_changes_little_and_of_a_constant_nothing():
    generator = np.random.default_rng(1)
    treatment, control = generator.normal(size=500), generator.normal(size=500)
    plain = difference_of_means(treatment, control)
    found = cuped(treatment, control, np.ones(500), np.ones(500))
    assert found.theta == 0.0
    assert found.estimate.p == pytest.approx(float(plain.p))
    assert abs(float(cuped(treatment, control, *generator.normal(size=(2, 500))).variance_removed)) < 0.02
    assert cuped(treatment, control, 2 * treatment, 2 * control).theta == pytest.approx(0.5)


def test_a_ratio_with_equal_denominators_is_a_difference_of_means():
    generator = np.random.default_rng(2)
    treatment, control = generator.normal(1.0, 1.0, 200), generator.normal(1.0, 2.0, 150)
    found = ratio_difference((treatment, np.full(200, 2.0)), (control, np.full(150, 2.0)))
    plain = difference_of_means(treatment / 2, control / 2)
    assert found[:4] == pytest.approx(tuple(float(x) for x in plain[:4]))


def test_nan_is_refused_by_name():
    with pytest.raises(ValueError, match=r"control: the value at \(1,\)"):
        difference_of_means([1.0, 2.0], [1.0, np.nan])


def test_running_moments_are_those_of_each_prefix():
    values = np.random.default_rng(3).normal(1e6, 1.0, (4, 50))
    found = running_moments(values, [2, 7, 50])
    for k, look in enumerate((2, 7, 50)):
        assert found.mean[:, k] == pytest.approx(values[:, :look].mean(1))
        assert found.variance[:, k] == pytest.approx(values[:, :look].var(1, ddof=1), rel=1e-6)


def test_the_always_valid_p_is_where_its_interval_touches_zero():
    treatment, control = Moments(*map(np.float64, (900, 0.13, 1.0))), Moments(*map(np.float64, (800, 0.0, 1.3)))
    p = float(always_valid_difference(treatment, control, tuned_for=1_000).p)
    rho = always_valid_difference(treatment, control, alpha=0.05, tuned_for=1_000)
    assert 0.01 < p < 1.0
    # the interval at the level of its own p ends at 0, for the mixture that alpha = 0.05 was tuned with
    count, error = 1_700.0, np.sqrt(1 / 900 + 1.3 / 800)
    spread = count * (-2 * np.log(0.05) + np.log(-2 * np.log(0.05) + 1)) / 1_000
    half = error * np.sqrt((spread + 1) / spread * 2 * np.log(np.sqrt(spread + 1) / p))
    assert half == pytest.approx(0.13)
    assert (rho.low > 0) == (p < 0.05)


def test_looks_before_the_burn_in_say_nothing():
    arm = Moments(np.array([50.0, 500.0]), np.array([9.0, 9.0]), np.array([1.0, 1.0]))
    found = always_valid_difference(arm, Moments(arm.units, arm.mean - 9, arm.variance), burn_in=200)
    assert found.p[0] == 1.0
    assert found.high[0] == np.inf
    assert found.p[1] < 1e-6


def test_the_sample_ratio_is_chi_square():
    found = sample_ratio([5_200, 94_800], (0.05, 0.95))
    assert found.p == pytest.approx(stats.chisquare([5_200, 94_800], [5_000, 95_000]).pvalue)
    assert not found.mismatch
    assert sample_ratio([5_400, 94_600], (0.05, 0.95)).mismatch
    with pytest.raises(ValueError, match="wait"):
        sample_ratio([1, 20], (0.05, 0.95))
    with pytest.raises(ValueError, match="sum to 1"):
        sample_ratio([100, 100], (0.5, 0.6))


def test_the_sequential_sample_ratio_never_takes_an_alarm_back():
    counts = np.array([[50, 50], [300, 100], [500, 500]])
    p = always_valid_sample_ratio_p(counts, (0.5, 0.5))
    assert p[1] < 1e-6
    assert p[2] == p[1]


def test_team_draft_is_fair_and_shows_no_document_twice():
    generator = np.random.default_rng(4)
    v1, v2 = (generator.permuted(np.tile(np.arange(9), (3_000, 1)), axis=1) for _ in range(2))
    lists = team_draft(v1, v2, 6, generator)
    assert all(len(set(row)) == 6 for row in lists.shown.tolist())
    assert (np.abs(np.cumsum(2 * lists.team - 1, axis=1))[:, 1::2] == 0).all()
    assert lists.team[:, 0].mean() == pytest.approx(0.5, abs=0.04)
    # the first document is the picking team's own best
    first = np.where(lists.team[:, 0] == 0, v1[:, 0], v2[:, 0])
    assert np.array_equal(lists.shown[:, 0], first)


def test_equal_orders_are_shown_unchanged():
    order = np.random.default_rng(5).permuted(np.tile(np.arange(7), (40, 1)), axis=1)
    assert np.array_equal(team_draft(order, order, 7, np.random.default_rng(6)).shown, order)


def test_preference_counts_wins_by_hand():
    team = np.array([[0, 1], [0, 1], [1, 0], [1, 0]])
    found = preference(team, np.array([[0, 1], [1, 1], [1, 0], [0, 1]]))
    assert (found.wins, found.losses, found.ties) == (2, 1, 1)
    assert found.estimate.value == pytest.approx((2 + 0.5) / 4 - 0.5)
    assert found.sign_p == pytest.approx(stats.binomtest(1, 3).pvalue)


def preferred(wins, losses, ties, **level):
    """`preference` of as many queries, each with one click or none."""
    lead = np.repeat([1, -1, 0], [wins, losses, ties])
    team = np.tile([0, 1], (len(lead), 1))
    return preference(team, np.stack([lead < 0, lead > 0], axis=1), **level)


@pytest.mark.parametrize(
    ("wins", "losses", "ties"), [(3, 0, 0), (0, 12, 0), (0, 0, 5), (8, 0, 4), (60, 0, 0), (1, 0, 40)]
)
def test_a_preference_without_a_counterexample_is_not_certain(wins, losses, ties):
    found = preferred(wins, losses, ties)
    n = wins + losses + ties
    low, high = 2 * found.estimate.low, 2 * found.estimate.high
    assert low <= (wins - losses) / n <= high
    # at least as wide as the exact limit of a side that was never seen
    unseen = 1 - 0.025 ** (1 / n)
    assert high - low > 0.6 * unseen


def test_a_preference_s_limits_and_p_say_the_same_of_0():
    for alpha in (0.05, 0.2):
        for n in (2, 3, 5, 6, 9, 30):
            for wins in range(n + 1):
                for losses in range(0, n + 1 - wins, 1 if n < 10 else 7):
                    found = preferred(wins, losses, n - wins - losses, alpha=alpha).estimate
                    assert (found.p <= alpha) == (found.low > 0 or found.high < 0), (wins, losses, n)


@pytest.mark.parametrize("n", [8, 30])
@pytest.mark.parametrize(("won", "lost"), [(1.0, 0.0), (0.9, 0.1), (0.95, 0.0), (0.3, 0.3), (0.05, 0.01), (0.6, 0.2)])
def test_a_preference_s_limits_cover_it(n, won, lost):
    """Exact coverage, over all outcomes of n queries. The t interval: down to 34 and 79 %."""
    outcomes = [(w, l, n - w - l) for w in range(n + 1) for l in range(n + 1 - w)]
    chance = stats.multinomial.pmf(outcomes, n, [won, lost, abs(round(1 - won - lost, 9))])
    covered = sum(
        p
        for p, outcome in zip(chance, outcomes, strict=True)
        if p > 1e-12 and (e := preferred(*outcome).estimate).low - 1e-9 <= (won - lost) / 2 <= e.high + 1e-9
    )
    assert covered >= 0.935


def test_score_limits_are_where_the_likeliest_chances_are_just_not_rejected():
    """Against a search over the chance of a loss by brute force, 17 wins, 5 losses, 8 ties."""
    found = 2 * preferred(17, 5, 8).estimate.low

    def statistic(d):
        lost = np.linspace(max(0.0, -d) + 1e-9, (1 - d) / 2 - 1e-9, 40_001)
        likelihood = 17 * np.log(lost + d) + 5 * np.log(lost) + 8 * np.log1p(-2 * lost - d)
        best = lost[likelihood.argmax()]
        return (12 / 30 - d) / np.sqrt((2 * best + d - d**2) / 30)

    grid = np.linspace(0.0, 0.2, 401)
    limit = grid[[statistic(d) <= stats.norm.ppf(0.975) for d in grid]].min()
    exact = stats.binomtest(17, 22).proportion_ci(0.95).low
    assert found == pytest.approx(min(limit, 2 * (exact - 0.5) * 22 / 30), abs=2e-3)


def test_counterfactuals_by_hand():
    reward, weight = np.array([1.0, 0.0, 1.0, 1.0]), importance_weights([0.5, 0.2, 0.9, 0.1], [0.25, 0.4, 0.3, 0.5])
    assert weight == pytest.approx([2.0, 0.5, 3.0, 0.2])
    assert ips(reward, weight).estimate.value == pytest.approx(5.2 / 4)
    assert snips(reward, weight).estimate.value == pytest.approx(5.2 / 5.7)
    assert snips(reward + 7, weight).estimate.value == pytest.approx(5.2 / 5.7 + 7)
    assert ips(reward, weight).effective == pytest.approx(5.7**2 / (4 + 0.25 + 9 + 0.04))
    clipped = ips(reward, weight, clip=1.0)
    assert (clipped.clipped, clipped.largest) == (0.5, 3.0)
    perfect = doubly_robust(reward, weight, reward, np.full(4, 0.7))
    assert (perfect.estimate.value, perfect.estimate.low) == (pytest.approx(0.7), pytest.approx(0.7))


def test_an_impossible_logged_action_is_refused():
    with pytest.raises(ValueError, match="impossible"):
        importance_weights([0.5], [0.0])


def arms(**means):
    return {name: Moments(*map(np.float64, (50_000, mean, 0.01))) for name, mean in means.items()}


def test_a_guardrail_stops_on_harm_clears_on_safety_and_waits_between():
    rails = (
        Guardrail(name="slow", metric="share", harm="higher", margin=0.01),
        Guardrail(name="revenue", metric="mean", harm="lower", margin=0.02, relative=True),
    )
    same = read_guardrails(rails, arms(slow=0.05, revenue=1.0), arms(slow=0.05, revenue=1.0))
    assert may_ramp(same)
    worse = read_guardrails(rails, arms(slow=0.08, revenue=0.985), arms(slow=0.05, revenue=1.0))
    assert [reading.status for reading in worse] == ["stop", "clear"]
    assert should_stop(worse)
    assert worse[0].then
    unsure = read_guardrails(rails, arms(slow=0.0595, revenue=1.0), arms(slow=0.05, revenue=1.0))
    assert unsure[0].status == "wait"
    assert not may_ramp(unsure)
    loss = read_guardrails(rails, arms(slow=0.05, revenue=0.96), arms(slow=0.05, revenue=1.0))
    assert loss[1].status == "stop"
    assert loss[1].harm == pytest.approx(0.04)


def test_an_unread_guardrail_is_an_error():
    with pytest.raises(ValueError, match="not measured in both arms: slow answers"):
        read_guardrails(GUARDRAILS[:1], {}, {})


def test_limits_that_heed_skewness_mirror_agree_with_p_and_are_student_s_without_it():
    draw = np.random.default_rng(5)
    heavy = draw.lognormal(sigma=1.5, size=(200, 80)) - 2.5
    found, mirrored = skewed_mean(heavy, 0.05), skewed_mean(-heavy, 0.05)
    np.testing.assert_allclose(mirrored.low, -found.high)
    np.testing.assert_allclose(mirrored.p, found.p)
    outside = (found.low > 0) | (found.high < 0)
    assert 20 < outside.sum() < 180
    np.testing.assert_array_equal(found.p <= 0.05, outside)
    assert (found.high - found.value > found.value - found.low).all()  # the long side is where the tail is
    even = np.concatenate([heavy, -heavy], axis=1)
    plain, student = skewed_mean(even, 0.1), t_estimate(even.mean(-1), even.var(-1, ddof=1) / 160, 159, 0.1)
    np.testing.assert_allclose(plain.low, student.low, atol=1e-5)
    np.testing.assert_allclose(plain.p, student.p, atol=1e-5)
    flat = skewed_mean(np.array([[0.0, 0.0], [1.0, 1.0]]), 0.05)
    assert flat.p.tolist() == [1.0, 0.0]
    assert flat.low.tolist() == flat.high.tolist() == [0.0, 1.0]
