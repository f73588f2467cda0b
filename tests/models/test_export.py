"""Exported rankers score as the ranker they were made of, whatever the number of lists and candidates."""

import pytest
import random_batches
import torch

from fusion_models.config import Recipe
from fusion_models.export import (
    TOLERANCE,
    eager_scorer,
    export_onnx,
    export_program,
    input_names,
    largest_difference,
    onnx_scorer,
    program_scorer,
    quantise_onnx,
)
from fusion_models.models import VARIANTS, build_ranker

SMALL = {"model.layers": 1, "model.width": 8, "model.heads": 2, "model.text_tokens": 2}
SIZES = ((1, 1), (1, 7), (5, 3))


def ranker(context=4, **changes):
    torch.manual_seed(0)
    recipe = Recipe().updated(SMALL | changes)
    return build_ranker(recipe, random_batches.schema(context), random_batches.statistics(context)).eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_exports_to_torch_and_onnx_and_scores_the_same(variant, tmp_path):
    model = ranker(**{"model.variant": variant, "model.context": "v1", "loss.unimodal": 0.1})
    program, names = export_program(model), input_names(model)
    path = export_onnx(model, tmp_path / "ranker.onnx", program)
    scorers = [program_scorer(program, names), onnx_scorer(path, names, threads=1)]
    for queries, candidates in SIZES:
        batch = random_batches.batch(queries, candidates, seed=queries)
        for scorer in scorers:
            assert largest_difference(eager_scorer(model), scorer, batch) <= TOLERANCE


def test_a_changed_weight_is_seen_by_the_comparison():
    model, other = ranker(), ranker()
    with torch.no_grad():
        other.score_head.weight *= 1.01
    batch = random_batches.batch()
    assert largest_difference(eager_scorer(model), eager_scorer(other), batch) > TOLERANCE


def test_inputs_are_what_the_recipe_reads_and_a_ranker_without_any_context_exports():
    model = ranker(context=0, **{"model.modalities": ("visual", "metadata")})
    names = input_names(model)
    assert names == ("visual", "metadata")
    assert input_names(ranker(**{"model.context": "v1"})) == ("visual", "text", "metadata", "context", "v1")
    scorer = program_scorer(export_program(model), names)
    assert largest_difference(eager_scorer(model), scorer, random_batches.batch(3, 4, context=0)) <= TOLERANCE


def test_int8_is_near_and_not_the_same(tmp_path):
    model = ranker()
    names = input_names(model)
    path = quantise_onnx(export_onnx(model, tmp_path / "a.onnx"), tmp_path / "b.onnx")
    difference = largest_difference(eager_scorer(model), onnx_scorer(path, names, 1), random_batches.batch())
    assert TOLERANCE < difference < 0.2
