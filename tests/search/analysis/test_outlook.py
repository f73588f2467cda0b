"""What an open gate says of what would settle it."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest

from fusion_models.metrics import Interval, query_interval
from fusion_models.metrics.intervals.ensembles import Arm, arm_difference
from fusion_models.metrics.intervals.planning import look_level, probability_settled
from search.analysis.gates import read_gates
from search.analysis.judged import Evidence
from search.analysis.measure import smallest
from search.analysis.outlook import outlook
from spaces import PHASES

MEANS = {"visual": 0.01, "text": 0.02, "metadata": 0.03}


def test_a_measured_interval_gets_chances():
    interval = query_interval(np.random.default_rng(0).normal(0.02, 0.3, 400))
    assert outlook(interval, 0.02).startswith("chance to settle it: 2 times the queries")


def test_an_interval_that_is_not_known_says_so():
    assert "an interval is not known" in outlook(Interval(0.1, -inf, inf), 0.05)


def test_the_smallest_of_several_keeps_what_its_width_is_made_of():
    random = np.random.default_rng(1)
    several = smallest([query_interval(random.normal(mean, 0.3, 400)) for mean in (0.02, 0.03)])
    assert np.isfinite([several.low, several.high]).all()
    assert outlook(several, 0.02).startswith("chance to settle it: ")


def test_gates_on_the_smallest_of_several_say_what_would_settle_them():
    random = np.random.default_rng(2)
    open_ones = {m: query_interval(random.normal(mean, 0.3, 400)) for m, mean in MEANS.items()}
    evidence = Evidence(
        quantities={},
        refit_gain=open_ones,
        shapley_share={m: query_interval(random.normal(0.3, 1.5, 400)) for m in MEANS},
        has_attention=False,
    )
    found = {gate.quantity: gate for gate in read_gates(PHASES["phase3"], evidence)}
    for name in ("min_refit_gain", "attention_min_share"):
        assert found[name].status == "undecided"
        assert found[name].needed.startswith("chance to settle it: ")


def two_arms(look):
    """A difference of 0.02 of two recipes with five trainings each, as this look reads it."""
    random = np.random.default_rng(3)
    arms = []
    for mean in (0.02, 0.0):
        values = mean + random.normal(0, 0.01, (5, 1)) + random.normal(0, 0.15, (5, 300))
        arms.append(Arm(values.mean(axis=0), (values.sum(axis=0) - values) / 4, 1))
    return arm_difference(*arms, level=1 - look_level(look))


@pytest.mark.parametrize("look", [1, 2, 5])
def test_more_trainings_need_the_next_look_and_more_queries_are_new_data(look):
    """The chance at this look's level promised too much: the trainings of --settle are read at a further look."""
    found = two_arms(look)
    settled = probability_settled(replace(found, level=1 - look_level(look + 1)), 0.005, trainings=(12,))[0, 0]
    twice = probability_settled(replace(found, level=1 - look_level(1)), 0.005, queries=(600,))[0, 0]
    said = outlook(found, 0.005, look)
    assert said.startswith(f"chance to settle it: 12 trainings an arm {settled:.0%}, 2 times the queries {twice:.0%}, ")
    here = probability_settled(found, 0.005, trainings=(12,))[0, 0]
    assert f"12 trainings an arm {here:.0%}" in outlook(found, 0.005), "where looks spend nothing, the level stays"
    evidence = Evidence(quantities={}, refit_gain=dict.fromkeys(MEANS, found), look=look)
    gate = next(gate for gate in read_gates(PHASES["phase3"], evidence) if gate.quantity == "min_refit_gain")
    assert gate.needed == said
