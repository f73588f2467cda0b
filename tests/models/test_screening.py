"""Products of a modality's own features: where they start, what they find, and that nothing else changes."""

import dataclasses

import numpy as np
import pytest
import random_batches
import torch

from fusion_models.config import Recipe
from fusion_models.data import open_dataset
from fusion_models.data.planted.presets import planted_config
from fusion_models.export import TOLERANCE, eager_scorer, export_onnx, input_names, largest_difference, onnx_scorer
from fusion_models.models import build_ranker
from fusion_models.models.products import CLIP, ProductUnits
from fusion_models.probes.columns import fit_columns
from fusion_models.probes.grouped_sums import GroupedSums
from fusion_models.probes.second_order import screen_products
from fusion_models.screening import confirmed_columns, confirmed_products, start_screened
from fusion_models.training import start, train
from fusion_models.training.warm_start import WeightsError, require_fitting, warm_start

SMALL = {"model.layers": 1, "model.width": 8, "model.heads": 2, "model.text_tokens": 1, "model.scale": "feature"}
SIGNED = (
    "planted:healthy?queries=600&validation_fraction=0.4&test_fraction=0.05&candidates=12&visual_width=128"
    "&visual_coding=sign&share_visual=0.32"
)

WIDE = (
    "planted:healthy?queries=600&validation_fraction=0.4&test_fraction=0.05&candidates=12&visual_width=512"
    "&share_visual=0.32"
)
wide_config = planted_config(WIDE)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def signed(_own_cache):
    return open_dataset(SIGNED)


@pytest.fixture(scope="module")
def wide(_own_cache):
    return open_dataset(WIDE)


def ranker(products=3, **changes):
    torch.manual_seed(0)
    recipe = Recipe().updated(SMALL | {"model.products": products} | changes)
    return build_ranker(recipe, random_batches.schema(4), random_batches.statistics(4)).eval()


def test_a_unit_is_a_product_of_two_projections_or_of_a_sign_and_one():
    units = ProductUnits(np.array([1.0, -2.0, 5.0]), np.array([2.0, 0.5, 0.0]), 4)
    assert units.signed.tolist() == [False, False, True, True]
    left, right = torch.eye(3)[:, [1, 0, 0]], torch.eye(3)[:, [1, 1, 1]] * 2.0
    units.start_from(left, right, torch.tensor([True, False, True]))
    x = torch.tensor([[[-1.0, -1.0, 9.0], [2.0, -1.9, 5.0]]])
    z = units.standardised(x)
    torch.testing.assert_close(z, torch.tensor([[-1.0, 2.0, 0.0], [0.5, 0.2, 0.0]]))  # what never varies says nothing
    torch.testing.assert_close(units(x), torch.tensor([[-4.0, 0.0, 4.0, -4.0], [0.2, 0.0, 0.4, 0.4]]))
    assert units.standardised(x * 1e6).abs().max() == CLIP


def pairs(found):
    """The two columns of each product that has two."""
    both = (found["left"].abs() + found["right"].abs()).numpy().T
    return [tuple(columns) for row in both if len(columns := np.flatnonzero(row)) == 2]


def test_only_what_was_confirmed_is_read(signed):
    """Two columns of the code stand two apart; where nothing is confirmed the units are 0 and stay 0."""
    assert any(b - a == 2 for a, b in pairs(confirmed_products(signed, "visual")))
    assert confirmed_products(signed, "text")["signed"].numel() == 0
    model = start(Recipe().updated(SMALL | {"model.products": 4}), signed, seed=0).model
    units = model.product_units()
    assert list(units) == ["visual", "text", "metadata"]
    assert not units["text"].left.any()
    assert not units["text"].right.any()
    batches = signed.batches(signed.rows("train"), 64)
    values = torch.cat([units["visual"](b.features["visual"])[b.valid.flatten()] for b in batches])
    torch.testing.assert_close(values.std(0), torch.ones(4), atol=0.05, rtol=0)


def test_each_training_draws_which_confirmed_products_it_starts_at(signed):
    """Members that all start at the same ones differ less, and an ensemble of them gains less."""
    recipe = Recipe().updated(SMALL | {"model.products": 2})
    assert len(confirmed_products(signed, "visual")["signed"]) > 4
    drawn = [start(recipe, signed, seed=seed).model.product_units()["visual"] for seed in (0, 0, 1, 2)]
    assert torch.equal(drawn[0].left, drawn[1].left)
    assert len({tuple(units.left.flatten().tolist()) for units in drawn}) > 1


@pytest.mark.usefixtures("_own_cache")
def test_a_context_takes_no_direction_away():
    """A product of eigenvectors is dense: of modality and context together it would belong to neither."""
    base = "planted:healthy?queries=600&candidates=12&visual_coding=sign&share_visual=0.32"
    alone, beside = (open_dataset(base + more) for more in ("", "&v1_pair_feature=1"))
    assert beside.schema.context == 1
    sides = [confirmed_products(data, "visual")["left"].numpy().T for data in (alone, beside)]
    dense = [sum(len(np.flatnonzero(left)) > 2 for left in found) for found in sides]
    assert dense[0] == dense[1] > 0


@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_modality_that_never_varies_has_no_products(width, small_data, monkeypatch):
    rows = small_data.rows("train")
    columns = fit_columns(small_data, rows, modalities=("visual",), with_context=False)
    flat = dataclasses.replace(columns, mean=columns.mean[:width], scale=columns.scale[:width] * 0, blocks=(0,) * width)
    monkeypatch.setattr("fusion_models.probes.columns._raw", lambda batch, *_: batch.features["visual"][..., :width])
    assert screen_products(small_data, rows, flat).count == 0


def test_a_ranker_reads_a_sign_code_that_its_projections_miss(signed):
    reached, drops = {}, {}
    for products in (0, 4):
        recipe = Recipe().updated(SMALL | {"model.products": products, "train.epochs": 6, "model.width": 16})
        state = start(recipe, signed, seed=0)
        list(train(state, signed))
        reached[products], drops[products] = state.best_ndcg, state.best_numbers["visual_masking_drop"]
    assert reached[4] > reached[0] + 0.03
    assert drops[0] < 0.02
    assert drops[4] > 0.04


@pytest.mark.usefixtures("_own_cache")
def test_what_is_by_chance_true_of_an_item_is_not_confirmed_where_it_recurs():
    """The image is a hash of the item, and items recur in training: halves of the queries share them."""
    data = open_dataset("planted:healthy?queries=400&candidates=12&visual_width=256&visual_hash=1&item_reuse=16")
    assert confirmed_products(data, "visual")["signed"].numel() <= 1
    assert int(confirmed_columns(data, "visual").sum()) <= 6


@pytest.mark.usefixtures("_own_cache")
@pytest.mark.parametrize(
    "dials",
    ["candidates=2&queries=900&grades=0.5,0.5", "candidates=12&queries=300", "candidates=12&queries=300&item_reuse=16"],
)
def test_a_modality_of_noise_keeps_all_of_its_columns(dials):
    """A few that pass by chance must not stand for it, so that data that hardly differ give one structure."""
    found = [
        int(confirmed_columns(open_dataset(f"planted:no-visual?visual_width=384&seed={seed}&{dials}"), "visual").sum())
        for seed in range(4)
    ]
    assert sorted(found)[:3] == [0, 0, 0]


def test_columns_that_tell_of_the_label_are_confirmed(wide):
    """The image codes its signals in its first columns, the rest of its 512 are noise."""
    found = confirmed_columns(wide, "visual")
    coded = wide_config.block * len(wide_config.signals("visual"))
    assert found.shape == (512,)
    assert found[:coded].all()
    assert int(found[coded:].sum()) <= 6


def test_the_standard_error_of_groups_is_a_naive_one():
    sums, sizes = torch.randn(7, 3, dtype=torch.float64), torch.randint(1, 9, (7,)).double()
    streamed = GroupedSums()
    streamed.add(sums[:4], sizes[:4])
    streamed.add(sums[4:], sizes[4:])
    around = sums - sizes[:, None] * (sums.sum(0) / sizes.sum())
    torch.testing.assert_close(streamed.error(), ((around**2).sum(0) * 7 / 6).sqrt())
    torch.testing.assert_close(streamed.total, sums.sum(0))


def test_a_ranker_that_reads_confirmed_columns_alone_is_led_by_no_noise(wide):
    reached = {}
    for columns in ("all", "confirmed"):
        recipe = Recipe().updated(SMALL | {"model.columns": columns, "train.epochs": 8, "model.width": 16})
        state = start(recipe, wide, seed=0)
        list(train(state, wide))
        reached[columns] = state.best_ndcg
    assert reached["confirmed"] > reached["all"] + 0.01
    model, kept = state.model.eval(), confirmed_columns(wide, "visual")
    batch = wide.gather(wide.rows("test")[:4])
    noise = torch.randn_like(batch.features["visual"]) * ~kept
    other = batch._replace(features=batch.features | {"visual": batch.features["visual"] + noise})
    torch.testing.assert_close(model(other).scores, model(batch).scores)
    assert not torch.allclose(
        model(batch).scores,
        model(batch._replace(features=batch.features | {"visual": -batch.features["visual"]})).scores,
    )


def test_where_no_column_is_confirmed_all_are_read():
    model = ranker(0, **{"model.columns": "confirmed"})
    encoder = model.screened_encoders()["visual"]
    encoder.keep(torch.zeros(len(encoder.kept), dtype=torch.bool))
    assert torch.equal(encoder.kept, torch.ones_like(encoder.kept))
    columns = torch.arange(len(encoder.kept)) < 1
    encoder.keep(columns)
    assert encoder.kept.norm() == pytest.approx(len(columns) ** 0.5)
    assert ranker(0).screened_encoders() == {}


def test_a_ranker_without_products_has_none_of_their_weights():
    plain, with_them = ranker(0), ranker(3)
    assert plain.product_units() == {}
    assert set(with_them.state_dict()) - set(plain.state_dict()) == {
        f"projections.encoders.{m}.{name}"
        for m in ("visual", "text", "metadata")
        for name in (
            "of_products.weight",
            "products.left",
            "products.right",
            "products.mean",
            "products.scale",
            "products.signed",
        )
    }
    with pytest.raises(ValueError, match="products must be >= 0, got -1"):
        ranker(-1)


@pytest.mark.parametrize("standardise", [True, False])
def test_products_are_exported_and_measured_as_they_score(standardise, tmp_path):
    model = ranker(**{"model.standardise": standardise, "model.columns": "confirmed"})
    model.screened_encoders()["visual"].keep(torch.arange(model.input_widths["visual"]) % 2 == 0)
    with torch.no_grad():
        for units in model.product_units().values():
            units.left.normal_()
            units.right.normal_()
    scorer = onnx_scorer(export_onnx(model, tmp_path / "ranker.onnx"), input_names(model), threads=1)
    for queries, candidates in ((1, 1), (5, 3)):
        batch = random_batches.batch(queries, candidates, seed=queries)
        assert largest_difference(eager_scorer(model), scorer, batch) <= TOLERANCE
    batch = random_batches.batch(4, 5)
    blank = batch._replace(features=batch.features | {"visual": torch.zeros_like(batch.features["visual"])})
    inputs = model.projections(batch, None)
    tokens = model.projections.replaced(inputs, blank, "visual")
    torch.testing.assert_close(tokens, model.projections(blank, None).tokens)
    assert not torch.equal(tokens, inputs.tokens)


def test_starting_leaves_a_ranker_without_products_alone(signed):
    model = start(Recipe().updated(SMALL), signed, seed=0).model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    start_screened(model, signed)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert dataclasses.replace(Recipe().model, products=0) == Recipe().model


def test_weights_without_products_start_a_ranker_that_has_some(signed):
    plain = start(Recipe().updated(SMALL), signed, seed=0).model
    model = start(Recipe().updated(SMALL | {"model.products": 4}), signed, seed=1).model
    units = {name: value.clone() for name, value in model.state_dict().items() if "products." in name}
    weights = {name: value.clone() for name, value in plain.state_dict().items()}
    require_fitting(model, weights, "theirs.safetensors")
    warm_start(model, weights)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in (weights | units).items())
    screened = start(Recipe().updated(SMALL | {"model.columns": "confirmed"}), signed, seed=1).model
    with pytest.raises(WeightsError, match=r"model\.columns is confirmed, .* set it to all"):
        require_fitting(screened, weights, "theirs.safetensors")
    del weights["score_head.weight"]
    with pytest.raises(WeightsError, match=r"score_head\.weight is missing there"):
        require_fitting(model, weights, "theirs.safetensors")
