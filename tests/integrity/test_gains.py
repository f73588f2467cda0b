import numpy as np
import pytest

from fusion_models.integrity import subdomain_check


def checked(gains, names, **more):
    return subdomain_check(gains, names, **more)


def drawn(means, count=200, sd=0.1):
    random = np.random.default_rng(1)
    names = np.repeat(list(means), count)
    return random.normal([means[n] for n in names], sd), names


def test_one_subdomain_with_all_of_the_gain_fails_and_is_named():
    found = checked(*drawn({"a": 0.15, "b": 0.0, "c": 0.0}))
    assert (found.status, found.counts) == ("fail", True)
    assert "without a: 400 of 600" in found.detail


def test_a_gain_that_all_have_passes_however_unequal():
    assert checked(*drawn({"a": 0.15, "b": 0.04, "c": 0.05})).status == "pass"


def test_too_few_others_are_a_warning_and_no_gain_or_one_subdomain_is_no_question():
    gains, names = drawn({"a": 0.1, "b": 0.02})
    few = np.concatenate([np.arange(200), np.arange(200, 215)])
    assert checked(gains[few], names[few]).status == "warning"
    assert checked(gains[:205], names[:205]).status == "warning"
    assert checked(*drawn({"a": 0.0, "b": 0.0})).status == "not applicable"
    assert checked(gains, np.repeat("all", 400)).status == "not applicable"


def test_queries_without_a_relevant_item_are_left_out_and_clusters_stand_together():
    gains, names = drawn({"a": 0.15, "b": 0.0})
    gains[::7] = np.nan
    assert checked(gains, names, clusters=np.arange(400) // 2).status == "fail"


@pytest.mark.parametrize(
    ("others", "sd", "expected"),
    [(0.0, 0.05, "fail"), (0.0, 0.6, "undecided"), (0.1, 0.9, "warning"), (0.1, 0.1, "pass")],
)
def test_where_the_others_may_gain_nothing_and_their_interval_is_wide_it_is_undecided(others, sd, expected):
    """It was a warning wherever the others' interval reached a quarter of the gain, and warnings keep nothing back."""
    random, names = np.random.default_rng(4), np.repeat(["a", "b", "c"], 100)
    noise = random.normal(size=300)
    for name in "abc":  # each subdomain's mean is what it was asked to be
        noise[names == name] -= noise[names == name].mean()
    found = checked(np.where(names == "a", 0.3, others) + sd * np.where(names == "a", 0.1, noise), names)
    assert (found.status, found.counts) == (expected, expected != "warning")


def test_queries_that_stand_together_across_clusters_widen_what_the_others_gain():
    gains, names = drawn({"a": 0.3, "b": 0.05, "c": 0.05}, count=60)
    words = np.arange(180) // 6
    crossed = np.stack([words, 1000 + (np.arange(180) * 7) % 30], axis=1)
    alone, one, both = (checked(gains, names, clusters=c) for c in (None, words, crossed))
    assert alone.value == one.value == both.value
    assert len({alone.ci_low, one.ci_low, both.ci_low}) == 3
