"""Phases are data that must hold together: every key exists, every known point lies in the space."""

import dataclasses

import optuna
import pytest

from fusion_models.config import Recipe
from spaces import PHASES, Choice, Float, Weight, parameters, suggest


@pytest.mark.parametrize("phase", PHASES.values(), ids=list(PHASES))
class TestEveryPhase:
    def test_known_points_lie_in_the_space_and_come_back(self, phase):
        base = phase.base.flat()
        for recipe in phase.known_recipes().values():
            point = parameters(phase.ranges, recipe.flat(), base)
            trial = optuna.trial.FixedTrial(point)
            assert base | suggest(trial, phase.ranges, base) == recipe.flat()

    def test_sampled_points_are_recipes(self, phase):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        base = phase.base.flat()
        for _ in range(50):
            recipe = Recipe.from_flat(base | suggest(study.ask(), phase.ranges, base))
            if recipe.loss.attention_entropy > 0:
                assert recipe.model.variant in ("cross_attention", "bottleneck")

    def test_ablations_change_known_keys(self, phase):
        for changes in phase.ablatable.values():
            phase.base.updated(changes)

    def test_a_fixed_key_is_no_longer_searched(self, phase):
        fixed = phase.with_base({"train.learning_rate": "0.004", "train.epochs": 3})
        assert "train.learning_rate" not in fixed.ranges
        assert {r.train.learning_rate for r in fixed.known_recipes().values()} == {0.004}


def test_phase_3_may_search_every_context():
    phase = PHASES["phase3"]
    contexts = {recipe.model.context for recipe in phase.known_recipes().values()}
    assert contexts == set(phase.ranges["model.context"].values) == {"none", "v1", "tuned_v1"}
    assert phase.base.model.context_reads == ("v1", *phase.v1_reads)


def test_gate_violation_is_negative_where_it_passes():
    gates = {g.name: g for g in PHASES["phase1"].gates}
    assert gates["visual_masking_drop"].violation(0.06) == pytest.approx(-0.01)
    assert gates["attention_max_share"].violation(0.70) == pytest.approx(0.10)


def test_a_point_outside_its_range_is_refused():
    ranges = {"train.learning_rate": Float(low=1e-3, high=1e-2, log=True)}
    base = Recipe().flat()
    with pytest.raises(ValueError, match="outside its range"):
        parameters(ranges, base | {"train.learning_rate": 0.5}, base)


def test_a_weight_is_exactly_zero_or_in_its_range():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    weight = Weight(low=0.1, high=1.0)
    found = [weight.suggest(study.ask(), "loss.unimodal") for _ in range(200)]
    assert 0.0 in found
    assert all(w == 0.0 or 0.1 <= w <= 1.0 for w in found)


def test_a_conditional_range_falls_back_to_the_base():
    base = Recipe().flat()
    ranges = {
        "model.variant": Choice(values=("late_sum", "cross_attention")),
        "loss.attention_entropy": Weight(low=0.1, high=1.0, when={"model.variant": ("cross_attention",)}),
    }
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=2))
    for _ in range(30):
        point = suggest(study.ask(), ranges, base)
        assert point["loss.attention_entropy"] == 0.0 or point["model.variant"] == "cross_attention"


def test_a_phase_without_a_gate_on_the_drop_wants_what_the_roadmap_wants():
    """Else no drop would be enough for the rule "no rise", and none too much to be fragile."""
    open_ended = dataclasses.replace(PHASES["phase1"], gates=(), resume_gates=())
    assert open_ended.wanted_drop == PHASES["phase1"].wanted_drop == 0.05
