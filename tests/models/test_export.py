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
from fusion_models.models import VARIANTS, Ensemble, build_ranker
from fusion_models.models.trees import LEAVES, NODES

SMALL = {"model.layers": 1, "model.width": 8, "model.heads": 2, "model.text_tokens": 2}
SIZES = ((1, 1), (1, 7), (5, 3))


def ranker(context=4, seed=0, **changes):
    torch.manual_seed(seed)
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


def grown(model, seed=7):
    """The same ranker with random trees in its context: every split decides something."""
    trees, generator = model.trees, torch.Generator().manual_seed(seed)
    width = sum(random_batches.WIDTHS[m] for m in ("text", "metadata")) + 4 + 1 + 1  # context, a cosine, V1's score
    inner = torch.arange(LEAVES - 1)
    trees.left[:, : LEAVES - 1], trees.right[:, : LEAVES - 1] = 2 * inner + 1, 2 * inner + 2
    trees.feature[:, : LEAVES - 1] = torch.randint(0, width, (len(trees.feature), LEAVES - 1), generator=generator)
    trees.threshold.normal_(generator=generator)
    trees.value[:, LEAVES - 1 :] = torch.randn(len(trees.value), NODES - LEAVES + 1, generator=generator)
    trees.std.fill_(8.0)
    return model


def test_the_trees_of_a_tuned_v1_are_part_of_the_graph(tmp_path):
    model = grown(ranker(**{"model.context": "tuned_v1"}))
    names = input_names(model)
    assert names == ("visual", "text", "metadata", "context", "v1")
    program = export_program(model)
    path = export_onnx(model, tmp_path / "ranker.onnx", program)
    blind = grown(ranker(**{"model.context": "tuned_v1"}), seed=8)
    for queries, candidates in SIZES:
        batch = random_batches.batch(queries, candidates, seed=queries)
        for scorer in (program_scorer(program, names), onnx_scorer(path, names, threads=1)):
            assert largest_difference(eager_scorer(model), scorer, batch) <= TOLERANCE
    assert largest_difference(eager_scorer(model), eager_scorer(blind), random_batches.batch()) > 1e-3


def test_what_the_trees_read_is_an_input_though_the_ranker_does_not():
    model = ranker(**{"model.context": "tuned_v1", "model.modalities": ("visual",), "model.context_reads": ("text",)})
    assert input_names(model) == ("visual", "text", "context")


@pytest.mark.parametrize(
    ("context", "variant"), [("none", "film"), ("v1", "cross_attention"), ("tuned_v1", "cross_attention")]
)
def test_an_ensemble_is_one_graph_of_whole_lists(context, variant, tmp_path):
    members = [ranker(seed=s, **{"model.variant": variant, "model.context": context}) for s in range(3)]
    model = Ensemble([grown(m) for m in members] if context == "tuned_v1" else members).eval()
    program, names = export_program(model), input_names(model)
    assert names[-1] == "valid"
    path = export_onnx(model, tmp_path / "ranker.onnx", program)
    for queries, candidates in (*SIZES, (1, 40)):
        batch = random_batches.batch(queries, candidates, seed=queries)
        for scorer in (program_scorer(program, names), onnx_scorer(path, names, threads=1)):
            assert largest_difference(eager_scorer(model), scorer, batch) <= TOLERANCE
