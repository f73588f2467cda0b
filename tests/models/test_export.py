"""Exported rankers score as the ranker they were made of, whatever the number of lists and candidates."""

import dataclasses
import json

import numpy as np
import onnxruntime
import pytest
import random_batches
import torch

from fusion_models.config import Recipe
from fusion_models.data import open_dataset
from fusion_models.export import (
    TOLERANCE,
    described_inputs,
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
from fusion_models.models.trees import LEAVES, NODES, document_matrix

SMALL = {"model.layers": 1, "model.width": 8, "model.heads": 2, "model.text_tokens": 2}
SIZES = ((1, 1), (1, 7), (5, 3))


def ranker(context=4, seed=0, v1_input="score", **changes):
    torch.manual_seed(seed)
    recipe = Recipe().updated(SMALL | changes)
    statistics = dataclasses.replace(random_batches.statistics(context), v1_input=v1_input)
    return build_ranker(recipe, random_batches.schema(context), statistics).eval()


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


def shop(scores, vector=False):
    """Items with a price, a day and a brand (and a vector, where asked); queries and pairs with features; V1's scores
    as `scores` makes them."""
    g = np.random.default_rng(0)
    items = {
        "item_id": [f"i{n}" for n in range(120)],
        "visual": g.normal(size=(120, 5)).tolist(),
        "text": g.normal(size=(120, 4)).tolist(),
        "metadata.price": g.lognormal(size=120),
        "metadata.day": np.datetime64("2026-01-01", "s") + np.arange(120).astype("m8[s]"),
        "metadata.brand": g.choice(["north", "south"], size=120),
    } | ({"metadata": g.normal(size=(120, 2)).tolist()} if vector else {})
    queries = {"query_id": [f"q{n}" for n in range(60)], "features": g.normal(size=(60, 3)).tolist()}
    pairs = [(q, int(i)) for q in range(60) for i in g.choice(120, size=int(g.integers(3, 8)), replace=False)]
    judged = {
        "query_id": [f"q{q}" for q, _ in pairs],
        "item_id": [f"i{i}" for _, i in pairs],
        "label": g.integers(0, 3, len(pairs)),
        "v1_score": scores(g.normal(size=len(pairs)), np.array([q for q, _ in pairs])),
        "features": g.normal(size=(len(pairs), 2)).tolist(),
    }
    return open_dataset(items=items, queries=queries, judgements=judged)


SCORES = {
    "centred": lambda s, query: s + 1e9 * query,
    "rank": lambda s, query: s + 1e12 * (s > 1.0),
}


@pytest.mark.parametrize(
    ("kind", "context", "members"), [("centred", "v1", 1), ("rank", "v1", 1), ("rank", "tuned_v1", 2)]
)
def test_v1_s_score_is_handed_over_as_the_table_has_it(kind, context, members, tmp_path):
    data = shop(SCORES[kind])
    assert data.statistics.v1_input == kind
    batch = data.gather(np.arange(60))
    made = []
    for seed in range(members):
        torch.manual_seed(seed)
        model = build_ranker(Recipe().updated(SMALL | {"model.context": context}), data.schema, data.statistics)
        made.append(model.eval())
    model = made[0] if members == 1 else Ensemble(made).eval()
    if context == "tuned_v1":
        for trees in {id(m.trees): m.trees for m in made}.values():  # they split at the median of what V1 says
            trees.feature[:, 0] = document_matrix(batch, trees.reads, trees.context).shape[-1] - 1
            trees.left[:, 0], trees.right[:, 0] = LEAVES - 1, LEAVES
            trees.threshold[:, 0] = 0.55
            trees.value[:, LEAVES] = 1.0
    names = input_names(model)
    parts = {**batch.features, "context": batch.context, "v1": batch.v1.unsqueeze(-1), "valid": batch.valid}
    assert names[-2:] == ("v1", "valid")
    given = [parts[name] for name in names]
    program = export_program(model)
    session = onnxruntime.InferenceSession(str(export_onnx(model, tmp_path / "v2.onnx", program)))
    feed = {name: x.numpy() for name, x in zip(names, given, strict=True)}
    with torch.no_grad():
        truth = model(model.complete(batch)).scores
        answers = [program.module()(*given), torch.from_numpy(session.run(["scores"], feed)[0])]
    assert truth[batch.valid].std() > 0.01
    for answer in answers:
        assert (answer - truth)[batch.valid].abs().max() <= TOLERANCE


def test_what_every_input_holds_is_written_down():
    data = shop(SCORES["rank"])
    model = build_ranker(Recipe().updated(SMALL | {"model.context": "v1"}), data.schema, data.statistics)
    said = json.loads(json.dumps(described_inputs(model, data.schema, data.statistics)))
    assert said["inputs"] == list(input_names(model)) == list(said["columns"])
    columns = said["columns"]
    assert columns["visual"] == {"type": "float32", "width": 5, "holds": [{"column": "items.visual", "width": 5}]}
    assert columns["context"]["holds"] == [
        {"column": "queries.features", "width": 3},
        {"column": "judgements.features", "width": 2},
    ]
    assert (columns["v1"]["type"], columns["v1"]["read_as"], columns["valid"]) == ("float64", "rank", {"type": "bool"})
    price, day, brand = columns["metadata"]["holds"]
    assert (price["column"], price["width"]) == ("items.metadata.price", 1)
    assert price["mean"] > 0 < price["std"]
    assert "time" not in price
    assert day["time"].startswith("timestamp[")
    assert (sorted(brand["categories"]), brand["width"]) == (["north", "south"], 3)
    assert sum(each["width"] for each in columns["metadata"]["holds"]) == columns["metadata"]["width"]


def test_the_vector_of_a_modality_comes_before_the_scalars_beside_it():
    data = shop(SCORES["centred"], vector=True)
    model = build_ranker(Recipe().updated(SMALL), data.schema, data.statistics)
    said = described_inputs(model, data.schema, data.statistics)["columns"]["metadata"]
    first, *scalars = said["holds"]
    assert first == {"column": "items.metadata", "width": 2}
    assert [each["column"].split(".")[-1] for each in scalars] == ["price", "day", "brand"]
    assert sum(each["width"] for each in said["holds"]) == said["width"] == data.schema.width("metadata")


@pytest.mark.parametrize("kind", ["centred", "rank"])
def test_a_ranker_that_reads_v1_beside_its_list_scores_lists(kind):
    assert input_names(ranker(v1_input=kind, **{"model.context": "v1"}))[-2:] == ("v1", "valid")
    assert "valid" not in input_names(ranker(v1_input=kind))
