"""What an open gate says of what would settle it."""

from math import inf

import numpy as np

from fusion_models.metrics import Interval, query_interval
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
