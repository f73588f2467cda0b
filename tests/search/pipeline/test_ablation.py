"""What is taken out of a recipe, how its effect is measured, and that a whole ablation runs and resumes on real Ray."""

import math

import numpy as np
import pandas as pd
import pytest

from fusion_models.config import Recipe
from fusion_models.models.applicability import require_applicable
from search.analysis.effects import COLUMNS, Measured, effect_table, linearised
from search.analysis.measure import quantities
from search.pipeline.ablation import ablation_complete, active, affordable, expected_trainings, said_changes, without
from spaces import PHASES

MODALITIES = ("visual", "text", "metadata")
PHASE = PHASES["phase3"]
OBJECTIVES = [o.name for o in PHASE.objectives]


def training(seed, *, boost=0.0, queries=80):
    """Values per query as `artifacts.write_queries` keeps them; query 3 has no relevant item."""
    generator = np.random.default_rng(seed)
    ndcg = generator.uniform(0.3, 0.8, queries) + boost
    ndcg[3] = math.nan
    a, b = generator.normal(size=(2, queries, 10))
    moments = np.stack([(a * (a + b)).sum(1), (a * a).sum(1), ((a + b) ** 2).sum(1)], axis=1)
    return {
        "rows": np.arange(queries),
        "documents": generator.integers(5, 20, queries).astype(float),
        "ndcg": ndcg,
        "v1_ndcg": np.where(np.isfinite(ndcg), 0.5, math.nan),
        "masked.visual.zero": ndcg - generator.uniform(0.0, 0.1, queries),
        "shares": generator.dirichlet(np.ones(3), size=(queries, 2)),
        "moments": moments,
    }


@pytest.mark.parametrize("name", ["ndcg", *OBJECTIVES])
def test_linearised_values_have_the_interval_of_the_quantity_itself(name):
    from fusion_models.metrics import seed_interval

    runs = [training(seed) for seed in range(3)]
    known = quantities(runs, MODALITIES)
    largest = max((f"attention_{m}" for m in MODALITIES), key=lambda share: known[share].mean)
    expected = known[largest if name == "attention_max_share" else name]  # one modality's: the gate reads all of them
    found = seed_interval(linearised(runs, name, MODALITIES))
    assert found.mean == pytest.approx(expected.mean, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def single(name, runs):
    return Measured(kind="single", removed=(name,), changes="", status="measured", runs=runs)


def test_a_change_is_paired_and_its_interval_agrees_with_its_p():
    intact = {s: training(s) for s in range(3)}
    worse = {s: training(s, boost=-0.02) for s in range(3)}
    table = effect_table("t1", "validation", intact, [single("a", worse)], ["ndcg_gain"], MODALITIES)
    row = table.iloc[0]
    assert list(table.columns) == list(COLUMNS)
    assert row["change"] == pytest.approx(-0.02)  # exact: the same seeds and queries, so what is common cancels
    assert row["ci_high"] - row["ci_low"] < 1e-9
    unlike = {s: training(100 + s, boost=-0.02) for s in range(3)}
    for runs in (worse, unlike):
        for row in effect_table("t1", "test", intact, [single("a", runs)], OBJECTIVES, MODALITIES).to_dict("records"):
            assert (row["p"] < 0.05) == (not row["ci_low"] <= 0.0 <= row["ci_high"]), row


def test_a_pair_says_what_it_does_beyond_the_sum_of_its_parts():
    intact = {s: training(s) for s in range(3)}
    parts = {b: {s: training(s, boost=b) for s in range(3)} for b in (-0.01, -0.02, -0.05)}
    pair = Measured(kind="pair", removed=("a", "b"), changes="", status="measured", runs=parts[-0.05])
    table = effect_table(
        "t1", "test", intact, [single("a", parts[-0.01]), single("b", parts[-0.02]), pair], ["ndcg_gain"], MODALITIES
    )
    assert table["beyond_sum"].iloc[:2].isna().all()
    assert table["beyond_sum"].iloc[2] == pytest.approx(-0.02)
    assert (table["p_holm"] >= table["p"]).all()


def test_one_seed_gives_a_change_without_an_interval_and_none_gives_nothing():
    intact = {s: training(s) for s in range(3)}
    rows = [single("a", {1: training(1, boost=-0.02)}), single("b", {})]
    table = effect_table("t1", "test", intact, rows, ["ndcg_gain"], MODALITIES)
    assert list(table["seeds"]) == [1, 0]
    assert table["change"].iloc[0] == pytest.approx(-0.02)
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
