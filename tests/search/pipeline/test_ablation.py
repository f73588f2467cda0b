"""What is taken out of a recipe, how its effect is measured, and that a whole ablation runs and resumes on real Ray."""

import math

import numpy as np
import pandas as pd
import pytest
from outputs import random_lists, random_outputs

from fusion_models.config import Recipe
from fusion_models.models.applicability import require_applicable
from fusion_models.quantities import quantity
from search.analysis.effects import COLUMNS, Measured, effect_table, objective_arm
from search.pipeline.ablation import ablation_complete, active, affordable, expected_trainings, said_changes, without
from spaces import PHASES

PHASE = PHASES["phase3"]
OBJECTIVES = [o.name for o in PHASE.objectives]
LISTS = random_lists(queries=80)


def training(seed, *, noise=1.0):
    return random_outputs(LISTS, seed=seed, noise=noise)


@pytest.mark.parametrize("name", ["ndcg", *OBJECTIVES])
def test_the_values_of_an_arm_have_the_mean_of_the_quantity_itself(name):
    runs = [training(seed) for seed in range(3)]
    arm = objective_arm(runs, name)
    assert np.nanmean(arm.mean) == pytest.approx(np.mean([quantity(name).estimate(run) for run in runs]), abs=1e-12)
    assert arm.n == 3
    without_first = np.nanmean(arm.left_out[0])
    assert without_first == pytest.approx(np.mean([quantity(name).estimate(run) for run in runs[1:]]), abs=1e-12)


def single(name, runs):
    return Measured(kind="single", removed=(name,), changes="", status="measured", runs=runs)


def test_a_change_is_over_trainings_of_both_sides_and_its_interval_agrees_with_its_p():
    intact, worse = [training(s) for s in range(5)], [training(100 + s, noise=1.6) for s in range(3)]
    table = effect_table("t1", "validation", intact, [single("a", worse)], ["ndcg_gain"])
    row = table.iloc[0]
    assert list(table.columns) == list(COLUMNS)
    expected = np.mean([quantity("ndcg_gain").estimate(w) for w in worse])
    expected -= np.mean([quantity("ndcg_gain").estimate(i) for i in intact])
    assert row["change"] == pytest.approx(expected)
    assert row["seeds"] == 3
    for runs in (worse, [training(200 + s) for s in range(3)], [training(300 + s, noise=0.9) for s in range(3)]):
        for row in effect_table("t1", "test", intact, [single("a", runs)], OBJECTIVES).to_dict("records"):
            assert (row["p"] < 0.05) == (not row["ci_low"] <= 0.0 <= row["ci_high"]), row


def test_the_seeds_of_two_recipes_are_not_paired():
    """Same-seed pairing cancels nothing; which training stands beside which plays no part."""
    intact, changed = [training(s) for s in range(4)], [training(100 + s, noise=1.3) for s in range(4)]
    one = effect_table("t1", "test", intact, [single("a", changed)], OBJECTIVES)
    other = effect_table("t1", "test", intact, [single("a", changed[::-1])], OBJECTIVES)
    pd.testing.assert_frame_equal(one, other)


def test_a_pair_says_what_it_does_beyond_the_sum_of_its_parts():
    intact = [training(s) for s in range(3)]
    parts = {n: [training(1000 * i + s, noise=n) for s in range(3)] for i, n in enumerate((1.1, 1.3, 2.5), 1)}
    pair = Measured(kind="pair", removed=("a", "b"), changes="", status="measured", runs=parts[2.5])
    table = effect_table("t1", "test", intact, [single("a", parts[1.1]), single("b", parts[1.3]), pair], ["ndcg_gain"])
    assert table["beyond_sum"].iloc[:2].isna().all()
    changes = table["change"]
    assert table["beyond_sum"].iloc[2] == pytest.approx(changes.iloc[2] - changes.iloc[0] - changes.iloc[1])
    assert table["beyond_sum_ci_low"].iloc[2] < table["beyond_sum"].iloc[2] < table["beyond_sum_ci_high"].iloc[2]
    assert (table["p_holm"] >= table["p"]).all()


def test_one_training_gives_a_change_without_an_interval_and_none_gives_nothing():
    intact = [training(s) for s in range(3)]
    rows = [single("a", [training(1, noise=1.5)]), single("b", [])]
    table = effect_table("t1", "test", intact, rows, ["ndcg_gain"])
    assert list(table["seeds"]) == [1, 0]
    assert np.isfinite(table["change"].iloc[0])
    assert table[["ci_low", "p", "p_holm"]].isna().all(axis=None)


@pytest.mark.parametrize("phase", PHASES.values(), ids=list(PHASES))
def test_every_component_of_every_known_recipe_comes_out_and_what_is_left_can_be_trained(phase):
    for name, recipe in phase.known_recipes().items():
        found = active(phase, recipe)
        assert bool(found) == (name != "base"), name
        for variation in found:
            require_applicable(variation.recipe)
            assert variation.recipe.flat() != recipe.flat()


def test_what_only_made_sense_with_a_component_goes_with_it():
    recipe = Recipe.from_flat(
        PHASE.base.flat()
        | {"model.variant": "bottleneck", "model.layers": 1, "loss.unimodal": 0.3, "train.gradient_modulation": 0.5}
    )
    fewer = without(PHASE, recipe, ("unimodal heads",)).flat()
    assert (fewer["loss.unimodal"], fewer["train.gradient_modulation"]) == (0.0, 0.0)
    plain = without(PHASE, recipe, ("fusion variant",)).flat()
    assert (plain["model.variant"], plain["model.layers"]) == ("cross_attention", PHASE.base.model.layers)
    assert plain["loss.unimodal"] == 0.3
    assert said_changes(recipe.flat(), plain) == "model.variant bottleneck → cross_attention; model.layers 1 → 4"


def test_complete_means_that_nothing_that_was_asked_for_is_missing():
    table = pd.DataFrame({"status": ["measured", "screened"]})
    assert ablation_complete(table)
    assert not ablation_complete(pd.DataFrame({"status": ["measured", "not trained"]}))
    assert not ablation_complete(table.iloc[:0])
    assert expected_trainings(PHASE, 3) > 15


@pytest.mark.parametrize(
    ("trainings", "extent"),
    [
        (math.inf, (5, True, 3)),
        (8 + 15 + 9, (5, True, 3)),
        (8 + 15 + 8.9, (5, True, 0)),
        (8 + 14, (5, False, 0)),
        (14, (4, False, 0)),
        (6.9, (2, False, 0)),
        (0, (1, False, 0)),
    ],
)
def test_with_little_time_few_components_are_trained_with_every_seed(trainings, extent):
    assert affordable(8, trainings, seeds=3, largest=5, pairs_among=3) == extent


def test_nothing_is_screened_where_all_components_are_trained():
    assert affordable(2, math.inf, seeds=3, largest=5, pairs_among=3) == (2, False, 3)
    assert affordable(2, 8, seeds=3, largest=5, pairs_among=3) == (2, False, 0)
