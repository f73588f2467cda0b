"""A rollout plan: stages, sizes that hold what they promise, days, guardrails as data."""

import json

import pytest

from search.experiment.rollout import WEEK, Baseline, plan_power, rollout_plan


def plan(daily_units=None, **changes):
    return rollout_plan(Baseline(mean=0.55, sd=0.3, daily_units=daily_units), 0.015, **changes)


def test_five_per_cent_comes_first_and_the_even_split_decides():
    found = plan(daily_units=5_000)
    assert [stage.share for stage in found.stages] == [0.05, 0.2, 0.5, 1.0]
    assert [stage.purpose for stage in found.stages] == ["safety", "safety", "decision", "full"]
    assert found.total_days == sum(stage.days for stage in found.stages)
    assert found.stages[2].days % WEEK == 0


def test_the_deciding_stage_has_the_promised_power():
    assert plan_power(plan()) == pytest.approx(0.8, abs=2e-3)
    assert plan_power(plan(daily_units=777, power=0.9)) >= 0.9
    decision = plan().stages[2]
    assert decision.treatment_units == plan().units_per_arm.treatment
    assert decision.detectable_effect == pytest.approx(0.015, rel=1e-3)


def test_days_bring_the_units_that_a_stage_needs():
    for stage in plan(daily_units=900).stages[:3]:
        assert stage.days * stage.share * 900 >= stage.treatment_units - 1
        assert stage.days * (1 - stage.share) * 900 >= stage.control_units - 1
        assert stage.detectable_effect <= 0.03 * (1 + 1e-6)


def test_without_traffic_days_are_open():
    found = plan()
    assert found.total_days is None
    assert all(stage.days is None for stage in found.stages)


def test_the_plan_is_json_with_its_guardrails():
    said = json.loads(json.dumps(plan(daily_units=5_000).as_json(), allow_nan=False))
    assert {"slow answers", "zero results", "revenue"} <= {g["name"] for g in said["guardrails"]}
    assert said["units_per_arm"]["treatment"] > 1_000
    assert said["relative_effect"] == pytest.approx(0.015 / 0.55)


@pytest.mark.parametrize("stages", [(), (1.0,), (0.2, 0.05), (0.0, 0.5), (0.5, 1.5), (0.5, 0.5)])
def test_stages_that_are_none_are_refused(stages):
    with pytest.raises(ValueError, match="stages must ascend"):
        plan(stages=stages)


def test_no_traffic_is_refused():
    with pytest.raises(ValueError, match="daily_units"):
        plan(daily_units=0)


@pytest.mark.parametrize(
    ("effect", "sd", "words"), [(0.0, 0.3, "effect"), (float("nan"), 0.3, "effect"), (0.1, 0.0, "deviation")]
)
def test_what_no_stage_can_be_sized_by_is_refused(effect, sd, words):
    with pytest.raises(ValueError, match=words):
        rollout_plan(Baseline(mean=0.5, sd=sd), effect)
