"""The front against a brute-force order, on shuffled rows."""

import dataclasses

import numpy as np
import pytest

from search.analysis.front import costs, hypervolume, pareto_front
from search.run_store.job import TrialRecord
from spaces import PHASES, Objective

PHASE = PHASES["phase3"]


def record(index, gain, drop, share, correlation, state="finished"):
    numbers = {
        "ndcg_gain": gain,
        "visual_masking_drop": drop,
        "attention_max_share": share,
        "attention_min_share": (1 - share) / 2,
        "v1_correlation": correlation,
    }
    return TrialRecord(
        trial_id=f"t{index:04d}",
        stage="search",
        name="sampled",
        state=state,
        state_reason="",
        epochs=1,
        seed=0,
        recipe={},
        numbers=numbers,
    )


def brute_force(records):
    points = costs(PHASE, records)
    return {
        r.trial_id
        for r, p in zip(records, points, strict=True)
        if not any((q <= p).all() and (q < p).any() for q in points)
    }


@pytest.mark.parametrize("seed", range(5))
def test_front_equals_brute_force_on_rounded_values_with_ties(seed):
    rng = np.random.default_rng(seed)
    values = np.round(rng.uniform([-0.05, 0.0, 0.33, 0.5], [0.05, 0.3, 1.0, 1.0], size=(60, 4)), 1)
    records = [record(i, *row) for i, row in enumerate(values)]
    rng.shuffle(records)
    assert {r.trial_id for r in pareto_front(PHASE, records)} == brute_force(records)


def test_only_finished_trials_stand_on_the_front():
    good = record(1, 0.05, 0.1, 0.4, 0.8, state="stopped")
    poor = record(2, 0.01, 0.0, 0.9, 0.99)
    assert pareto_front(PHASE, [good, poor]) == [poor]
    assert pareto_front(PHASE, [good]) == []


def test_beyond_a_bound_more_is_not_better():
    broken = record(1, 0.01, 0.95, 0.4, 0.1)
    sound = record(2, 0.02, 0.15, 0.4, 0.7)
    assert pareto_front(PHASE, [broken, sound]) == [sound]


def test_gates_come_first_then_gain():
    passes = record(1, 0.021, 0.10, 0.40, 0.9)
    gains = record(2, 0.050, 0.01, 0.80, 0.9)
    assert [r.trial_id for r in pareto_front(PHASE, [gains, passes])] == ["t0001", "t0002"]


def test_hypervolume_of_one_point_is_its_box():
    point = record(1, 0.0, 0.05, 0.7, 0.85)
    # boxes from the reference: gain 0.10 of 0.20, drop 0.10 of 0.20, share 0.30 of 0.60, correlation 0.15 of 0.30
    assert hypervolume(PHASE, [point]) == pytest.approx(0.5**4)
    assert hypervolume(PHASE, [record(2, -0.5, 0.1, 0.4, 0.7)]) == 0.0


@pytest.mark.parametrize(
    ("direction", "reference", "values"),
    [
        ("maximize", 0.10, (0.12, 0.15)),  # a reference that lies at the 0.10 of an objective without a bound
        ("maximize", 0.50, (0.52, 0.55)),
        ("minimize", 0.05, (0.04, 0.01)),
        ("maximize", -0.10, (-0.05, 0.05)),
    ],
)
def test_an_objective_without_a_bound_has_a_hypervolume_wherever_its_reference_lies(direction, reference, values):
    (first, *others) = PHASE.objectives
    phase = dataclasses.replace(
        PHASE, objectives=(Objective(name=first.name, direction=direction, reference=reference), *others)
    )
    worse, better = (hypervolume(phase, [record(1, value, 0.1, 0.5, 0.8)]) for value in values)
    assert 0.0 < worse < better < 1.0
