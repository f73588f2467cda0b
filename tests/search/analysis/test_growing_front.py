"""The front that grows trial by trial is the front of all trials."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.analysis.front import GrowingFront, hypervolume, pareto_front
from search.run_store.job import TrialRecord
from spaces import PHASES

PHASE = PHASES["phase3"]
NAMES = [objective.name for objective in PHASE.objectives]
LEVELS = st.sampled_from([-0.2, 0.0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, float("nan")])


def record(index, values, state="finished"):
    return TrialRecord(
        trial_id=f"t{index:04d}", stage="search", name="sampled", state=state, state_reason="", epochs=3, seed=0,
        recipe={}, numbers=dict(zip(NAMES, values, strict=True)), seconds=2.0,
    )  # fmt: skip


@given(
    st.lists(
        st.tuples(st.tuples(*[LEVELS] * len(NAMES)), st.sampled_from(["finished", "finished", "stopped", "failed"])),
        max_size=25,
    )
)
def test_it_is_the_front_of_all_trials_after_each_of_them(trials):
    records = [record(index, values, state) for index, (values, state) in enumerate(trials)]
    growing = GrowingFront(PHASE)
    for count, one in enumerate(records, start=1):
        growing.add(one)
        whole = pareto_front(PHASE, records[:count])
        assert len(growing) == len(whole)
        best = max((r.numbers["ndcg_gain"] for r in whole), default=float("nan"))
        assert growing.best_gain == pytest.approx(best, nan_ok=True)
        assert growing.hypervolume == pytest.approx(hypervolume(PHASE, records[:count]), abs=1e-12)


def test_it_starts_from_what_an_interrupted_run_had():
    values = np.random.default_rng(0).uniform([0, 0, 0.4, 0.7], [0.1, 0.15, 1, 1], size=(20, 4))
    records = [record(index, row) for index, row in enumerate(values)]
    growing = GrowingFront(PHASE, records[:12])
    for one in records[12:]:
        growing.add(one)
    assert growing.hypervolume == pytest.approx(hypervolume(PHASE, records), abs=1e-12)
