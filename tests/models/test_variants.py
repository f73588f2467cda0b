"""One conformance suite that every fusion variant passes."""

import itertools
from dataclasses import replace

import pytest
import random_batches as random
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from fusion_models.config import LOSS_TERMS, Recipe
from fusion_models.losses import Step, sample_documents, total_loss
from fusion_models.modalities import MODALITIES
from fusion_models.models import VARIANTS, build_ranker

SMALL = {"model.width": 8, "model.heads": 2, "model.layers": 2, "model.dropout": 0.0, "model.rank": 3}
EVERY_TERM = {
    f"loss.{term}": 0.5
    for term in (
        "visual_importance",
        "variance",
        "unimodal",
        "reconstruction",
        "contrastive",
        "adversarial",
        "orthogonality",
        "decorrelation",
    )
} | {"train.modality_dropout": 0.2}
SUBSETS = [s for n in (1, 2, 3) for s in itertools.combinations(MODALITIES, n)]

pytestmark = pytest.mark.parametrize("variant", VARIANTS)


def ranker(variant, changes=None, *, seed=0, context=4, thumbnail=None, **more):
    recipe = Recipe().updated({"model.variant": variant} | SMALL | (changes or {}) | more)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_ranker(recipe, random.schema(context, thumbnail), random.statistics(context)), recipe


def stepped(model, batch, recipe, out, generator=None):
    """What the recipe's loss is made of."""
    return Step(forward=model, batch=batch, config=recipe.loss, out=out, generator=generator or torch.Generator())


def test_shapes(variant):
    model, _ = ranker(variant, EVERY_TERM, thumbnail=16)
    out = model.eval()(random.batch(), decode=torch.tensor([0, 5, 7]))
    assert out.scores.shape == (4, 6)
    assert out.fused.shape == (4, 6, 8)
    assert out.projected.shape == (4, 6, 3, 8)
    heads = {k: tuple(v.shape) for k, v in out.auxiliary.items()}
    assert heads == {
        "unimodal": (4, 6, 3),
        "reconstruction": (4, 6, 7),
        "reconstruction_target": (4, 6, 7),
        "thumbnail": (3, 3, 16, 16),
        "contrastive_suspect": (4, 6, 8),
        "contrastive_partner": (4, 6, 8),
        "contrastive_scale": (),
        "shared": (4, 6, 3, 4),
        "private": (4, 6, 3, 4),
        "discriminator": (4, 6, 3, 3),
    }


def test_no_head_without_a_weight(variant):
    model, _ = ranker(variant)
    out = model(random.batch())
    assert out.auxiliary == {}
    prefixes = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert prefixes == {"projections", "fusion", "score_head"}
    assert "projections.null" not in dict(model.named_parameters())


@pytest.mark.parametrize("modalities", SUBSETS, ids="+".join)
@pytest.mark.parametrize("context", [0, 4])
def test_any_modalities_widths_and_tokens(variant, modalities, context):
    model, _ = ranker(variant, {"model.modalities": modalities, "model.text_tokens": 3}, context=context)
    out = model.eval()(random.batch(context=context))
    assert out.projected.shape == (4, 6, len(modalities), 8)
    assert torch.isfinite(out.scores).all()
    if len(modalities) > 1 or model.share_kind == "gradient_times_input":
        assert out.scores[0].std() > 1e-4


@pytest.mark.parametrize("changes", [{}, {"model.visual_tokens": 2, "model.text_tokens": 5}], ids=["one", "many"])
def test_a_padded_list_scores_as_the_unpadded_one(variant, changes):
    model, _ = ranker(variant, changes)
    padded, short = random.batch(seed=3), random.batch(seed=3)
    noise = torch.randn(4, 6, generator=torch.Generator().manual_seed(9)) * 50
    for x in padded.features.values():
        x += (noise * ~padded.valid)[..., None]
    out = model.eval()(padded)
    for row, length in enumerate(short.valid.sum(1).tolist()):
        alone = short._replace(
            features={m: x[row : row + 1, :length] for m, x in short.features.items()},
            **{k: getattr(short, k)[row : row + 1, :length] for k in ("context", "labels", "v1", "valid", "item")},
            query=short.query[row : row + 1],
        )
        torch.testing.assert_close(out.scores[row, :length], model(alone).scores[0], atol=1e-5, rtol=1e-5)


def test_permuting_candidates_permutes_scores(variant):
    model, _ = ranker(variant)
    b = random.batch()
    order = torch.randperm(6, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(model(b).scores[:, order], model(random.reorder(b, order)).scores, atol=1e-5, rtol=1e-5)


def test_every_parameter_is_reached_by_a_gradient(variant):
    changes = EVERY_TERM | {"model.text_tokens": 2, "model.context": "v1"}
    if VARIANTS[variant].share_kind != "gradient_times_input":
        changes |= {"loss.attention_entropy": 1.0, "loss.attention_entropy_target": 1.0}
    model, recipe = ranker(variant, changes, thumbnail=16)
    b = random.batch(queries=6, full=True)
    g = torch.Generator().manual_seed(0)
    decoded = sample_documents(b.valid, 8, g)
    keep = torch.rand(6, 3, generator=g) > 0.3
    out = model(b, keep=keep, reversal=1.0, decode=decoded)
    thumbnails = torch.randint(0, 256, (8, 3, 16, 16), generator=g).to(torch.uint8)
    step = stepped(model, b, recipe, out, g)
    total, parts = total_loss(replace(step, decoded=decoded, thumbnails=thumbnails))
    assert len(parts) == 2 + sum(getattr(recipe.loss, term) > 0 for term in LOSS_TERMS)
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 1e-9, name


def test_the_ranking_loss_reaches_every_parameter_of_the_plain_ranker(variant):
    model, recipe = ranker(variant, {"model.text_tokens": 2})
    b = random.batch(queries=6, full=True)
    total_loss(stepped(model, b, recipe, model(b)))[0].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 1e-9, name


def test_shares_sum_to_one(variant):
    model, _ = ranker(variant, {"model.text_tokens": 4})
    out = model.eval()(random.batch())
    if model.share_kind == "gradient_times_input":
        assert out.shares is None
        assert out.value_shares is None
        return
    layers = 1 if model.share_kind == "gate" else 2
    for shares in (out.shares, out.value_shares):
        assert shares.shape == (4, 6, layers, 3)
        assert (shares >= 0).all()
        torch.testing.assert_close(shares.sum(-1), torch.ones(4, 6, layers))
    assert not out.value_shares.requires_grad
    assert model.train()(random.batch()).value_shares is None


@pytest.mark.parametrize("dropped", range(3))
def test_any_modality_gives_way_to_its_null_token(variant, dropped):
    model, _ = ranker(variant, {"train.modality_dropout": 0.2})
    b = random.batch()
    other = b._replace(features=b.features | {MODALITIES[dropped]: torch.randn_like(b.features[MODALITIES[dropped]])})
    keep = torch.ones(4, 3, dtype=torch.bool)
    torch.testing.assert_close(model(b, keep=keep).scores, model(b).scores)
    keep[1:3, dropped] = False
    one, two = model(b, keep=keep).scores, model(other, keep=keep).scores
    torch.testing.assert_close(one[1:3], two[1:3])
    assert not torch.allclose(one[0], two[0])


def test_saves_and_loads(variant, tmp_path):
    model, _ = ranker(variant, EVERY_TERM)
    other, _ = ranker(variant, EVERY_TERM, seed=1)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    b = random.batch()
    assert torch.equal(model.eval()(b).scores, other.eval()(b).scores)


def test_one_seed_gives_one_ranker(variant):
    one, two, three = (ranker(variant, EVERY_TERM, seed=s)[0].state_dict() for s in (0, 0, 1))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert any(not torch.equal(one[k], three[k]) for k in one)


def test_scores_start_near_zero(variant):
    model, _ = ranker(variant, {"model.width": 32, "model.heads": 8, "model.layers": 4})
    scores = model.eval()(random.batch(queries=32, candidates=20, full=True)).scores
    assert 0.005 < scores.std() < 0.3
    assert scores.abs().max() < 1.0


class Scores(nn.Module):
    """What a server exports: features in, scores out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch):
        return self.model(batch).scores


def test_exports(variant):
    model, _ = ranker(variant, {"model.layers": 1})
    b = random.batch()
    queries, candidates = torch.export.Dim("B", min=2, max=64), torch.export.Dim("L", min=2, max=512)
    sizes = {0: queries, 1: candidates}
    shapes = type(b)(dict.fromkeys(b.features, sizes), sizes, sizes, sizes, sizes, {0: queries}, sizes)
    exported = torch.export.export(Scores(model.eval()), (b,), dynamic_shapes=(shapes,)).module()
    longer = random.batch(queries=3, candidates=11, seed=2)
    torch.testing.assert_close(exported(longer), model(longer).scores, atol=1e-5, rtol=1e-5)


def test_two_rankers_stack_into_one(variant):
    models = [ranker(variant, {"loss.unimodal": 1.0}, seed=s)[0] for s in (0, 1)]
    b = random.batch()
    parameters, buffers = stack_module_state(models)

    def score(parameters, buffers):
        out = functional_call(models[0], (parameters, buffers), (b,))
        return out.scores, out.auxiliary["unimodal"]

    scores, unimodal = vmap(score)(parameters, buffers)
    for i, model in enumerate(models):
        torch.testing.assert_close(scores[i], model(b).scores, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(unimodal[i], model(b).auxiliary["unimodal"], atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def one_process():
    """A process group of one: enough for DDP to miss a parameter that forward leaves out."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_trains_under_ddp(variant):
    model, recipe = ranker(variant, EVERY_TERM)
    wrapped = nn.parallel.DistributedDataParallel(model)
    b, g = random.batch(), torch.Generator().manual_seed(0)
    keep = torch.tensor([[True, False, True]] * 4)
    for _ in range(2):  # the second step raises if the first left a parameter out
        out = wrapped(b, keep=keep, reversal=0.5)
        total_loss(stepped(wrapped, b, recipe, out, g))[0].backward()


def test_learns_a_match_between_query_and_item(variant):
    model, recipe = ranker(variant, {"model.width": 16, "loss.temperature": 0.3})
    b = random.batch(queries=48, candidates=10, full=True)
    match = (b.features["visual"][..., :4] * b.context).sum(-1) + b.features["text"][..., 0]
    b = b._replace(labels=(match > match.quantile(0.8, dim=1, keepdim=True)).float())
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
    losses = []
    for _ in range(60):
        loss, _ = total_loss(stepped(model, b, recipe, model(b)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    floor = -(p := torch.softmax(b.labels / 0.3, -1)).mul(p.log()).sum(-1).mean().item()
    assert losses[-1] - floor < 0.5 * (losses[0] - floor)
