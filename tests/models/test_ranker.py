import numpy as np
import pytest
import random_batches as random
import torch

from fusion_models.config import Recipe
from fusion_models.data.schema import FeatureStatistics
from fusion_models.modalities import MODALITIES
from fusion_models.models import VARIANTS, build_ranker, inapplicable
from fusion_models.models.attention import attend, head_membership, read_tokens
from fusion_models.models.heads import reverse_gradient
from fusion_models.models.variants.cross_attention import MANY_TOKENS

SMALL = {"model.width": 8, "model.heads": 2, "model.layers": 2, "model.dropout": 0.0}


def build(seed=0, *, context=4, stats=None, thumbnail=None, pair=0, **changes):
    recipe = Recipe().updated(SMALL | {k.replace("__", "."): v for k, v in changes.items()})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_ranker(recipe, random.schema(context, thumbnail, pair), stats or random.statistics(context + pair))


def test_attention_is_pytorchs():
    g = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(5, 8, generator=g), torch.randn(5, 3, 8, generator=g), torch.randn(5, 3, 8, generator=g)
    moved, weights = attend(q, k, v, head_membership(8, 2))
    heads = [x.reshape(5, -1, 2, 4).transpose(1, 2) for x in (q, k, v)]
    expected = torch.nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(5, 8)
    torch.testing.assert_close(moved.sum(1), expected)
    torch.testing.assert_close(weights.sum(1), torch.ones(5, 2))


def plain_attention(tokens, query, key, value):
    """Keys and values of every token, made and then attended to: what `read_tokens` does without them."""
    keys, values = tokens @ key.flatten(0, 1).T, tokens @ value.flatten(0, 1).T
    moved, weights = attend(query, keys, values, head_membership(query.shape[-1], len(key)).to(query.dtype))
    return moved.sum(1), weights.transpose(0, 1)


def attention_inputs(count=5, tokens=9, width=8, heads=2):
    g = torch.Generator().manual_seed(1)
    shapes = (count, tokens, width), (count, width), *2 * ((heads, width // heads, width),)
    return [torch.randn(shape, generator=g, dtype=torch.float64).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("weight", [0.0, 1.0], ids=["of what is found", "of the weights too"])
def test_asking_the_tokens_is_attention_to_their_keys_and_values(weight):
    inputs, g = attention_inputs(), torch.Generator().manual_seed(2)
    into = torch.randn(5, 8, generator=g, dtype=torch.float64), torch.randn(9, 5, 2, generator=g, dtype=torch.float64)

    def value_and_gradients(attention):
        found, weights = attention(*inputs)
        loss = (found * into[0]).sum() + (weight * (weights * into[1]).sum() if weight else 0.0)
        return found, weights, *torch.autograd.grad(loss, inputs)

    torch.testing.assert_close(value_and_gradients(read_tokens), value_and_gradients(plain_attention))


def test_asking_the_tokens_has_the_right_first_and_second_derivatives():
    inputs = attention_inputs(count=2, tokens=3, width=4)
    assert torch.autograd.gradcheck(read_tokens, inputs)
    assert torch.autograd.gradgradcheck(read_tokens, inputs)


def test_asking_the_tokens_stacks():
    tokens, query, key, value = (x.detach() for x in attention_inputs())
    keys = torch.stack([key, 2 * key, -key])

    def gradient(attention):
        def loss(key, query):
            found, weights = attention(tokens, query, key, value)
            return (found**2).sum() + (weights**3).sum()

        return torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)), in_dims=(0, None))(keys, query)

    torch.testing.assert_close(gradient(read_tokens), gradient(plain_attention))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_ranker_of_many_tokens_is_one_of_keys_and_values(monkeypatch, precision):
    """Scores, shares, value shares and every gradient, with the switch between both ways turned."""
    model, b = build(model__text_tokens=MANY_TOKENS, loss__attention_entropy=1.0), random.batch()
    found = []
    for many in (MANY_TOKENS, 1000):
        monkeypatch.setattr("fusion_models.models.variants.cross_attention.MANY_TOKENS", many)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            out = model.train()(b)
        loss = (out.scores * b.labels).sum() + (out.shares[..., 0] ** 2).sum()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        measured = model.eval()(b)
        found.append([out.scores, out.shares, measured.value_shares, *gradients])
    loose = {"atol": 0.05, "rtol": 0.1} if precision == "bfloat16" else {"atol": 1e-5, "rtol": 1e-4}
    torch.testing.assert_close(found[0], found[1], **loose)


def test_shares_are_worked_out_in_training_only_where_a_term_reads_them():
    assert build(model__layers=1).train()(random.batch()).shares is None
    assert build(model__layers=1, loss__attention_entropy=1.0).train()(random.batch()).shares is not None


def test_tokens_with_one_modality_replaced_are_those_of_the_changed_batch():
    for context in (0, 4):
        model, b = build(model__text_tokens=3, context=context).eval(), random.batch(context=context)
        inputs = model.projections(b, None)
        for m in MODALITIES:
            changed = b._replace(features={**b.features, m: b.features[m].flip(1) + 1})
            expected = model.projections(changed, None).tokens
            torch.testing.assert_close(model.projections.replaced(inputs, changed, m), expected)
            assert not torch.equal(expected, inputs.tokens)


def test_shares_are_the_attention_on_each_modalitys_tokens():
    model = build(model__text_tokens=3, model__layers=1).eval()
    tokens, owner, query = model.tokens(b := random.batch())
    layer = model.fusion.layers[0]
    keys, _ = model.fusion.keys_values(tokens).chunk(2, dim=-1)
    q = layer.query(layer.norm(query)).reshape(-1, 2, 4)
    logits = torch.einsum("nhd,nthd->nht", q, keys.reshape(len(q), -1, 2, 4)) / 2
    by_hand = torch.softmax(logits, -1).mean(1)
    sums = torch.stack([by_hand[:, owner == m].sum(1) for m in range(3)], dim=-1)
    torch.testing.assert_close(model(b).shares[:, :, 0].flatten(0, 1), sums)


def test_value_shares_are_the_norms_of_what_tokens_add():
    model = build(model__text_tokens=2, model__layers=1).eval()
    tokens, owner, query = model.tokens(b := random.batch())
    layer = model.fusion.layers[0]
    keys, values = model.fusion.keys_values(tokens).chunk(2, dim=-1)
    _, weights = attend(layer.query(layer.norm(query)), keys, values, model.fusion.membership_DH)
    norms = torch.zeros(tokens.shape[:2])
    for t in range(tokens.shape[1]):
        per_head = [weights[:, t, h, None] * values[:, t, 4 * h : 4 * h + 4] for h in range(2)]
        norms[:, t] = (torch.cat(per_head, -1) @ layer.out.weight.T).norm(dim=-1)
    sums = torch.stack([norms[:, owner == m].sum(1) for m in range(3)], dim=-1)
    expected = sums / sums.sum(-1, keepdim=True)
    torch.testing.assert_close(model(b).value_shares[:, :, 0].flatten(0, 1), expected, atol=1e-5, rtol=1e-5)


def test_scores_of_tokens_are_the_rankers():
    for variant in VARIANTS:
        model = build(model__variant=variant, model__visual_tokens=2).eval()
        tokens, owner, query = model.tokens(b := random.batch())
        assert owner.tolist() == [0, 0, 1, 2]
        torch.testing.assert_close(model.score_tokens(tokens, query).reshape(4, 6), model(b).scores)


def test_standardisation_lives_inside():
    stats = random.statistics()
    plain = FeatureStatistics(
        mean={m: np.zeros_like(x) for m, x in stats.mean.items()},
        std={m: np.ones_like(x) for m, x in stats.std.items()},
        v1_mean=stats.v1_mean,
        v1_std=stats.v1_std,
    )
    b = random.batch()
    scaled = {m: (x - torch.tensor(stats.mean[m])) / torch.tensor(stats.std[m]) for m, x in b.features.items()}
    context = (b.context - torch.tensor(stats.mean["context"])) / torch.tensor(stats.std["context"])
    outside = build(stats=plain, model__scale="feature")(b._replace(features=scaled, context=context)).scores
    torch.testing.assert_close(build(stats=stats, model__scale="feature")(b).scores, outside)
    raw = build(stats=stats, model__standardise=False)
    torch.testing.assert_close(raw(b._replace(features=scaled, context=context)).scores, outside)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("value", [9.97e36, -3e38])
def test_one_value_far_off_makes_no_score_infinite(variant, value):
    """A fill value in one document of the test split; what training saw knows nothing of it."""
    b = random.batch(context=random.WIDTHS["text"], full=True)
    model = build(context=random.WIDTHS["text"], model__variant=variant).eval()
    for modality, x in b.features.items():
        filled = x.clone()
        filled[0, 0, 0] = value
        assert torch.isfinite(model(b._replace(features=b.features | {modality: filled})).scores).all()
    context = b.context.clone()
    context[0, :, 0] = value
    assert torch.isfinite(model(b._replace(context=context)).scores).all()


def test_v1_reaches_the_query_token_alone():
    model = build(model__context="v1", loss__unimodal=1.0).eval()
    b = random.batch()
    other = b._replace(v1=b.v1 + 1.0)
    (tokens, _, query), (tokens_too, _, query_too) = model.tokens(b), model.tokens(other)
    assert torch.equal(tokens, tokens_too)
    assert not torch.allclose(query, query_too)
    assert torch.equal(model(b).auxiliary["unimodal"], model(other).auxiliary["unimodal"])
    assert not torch.allclose(model(b).scores, model(other).scores)
    without = build().eval()
    assert torch.equal(without(b).scores, without(other).scores)


def test_pair_features_are_context():
    model = build(context=2, pair=2)
    assert torch.isfinite(model(random.batch(context=4)).scores).all()


def test_a_modality_as_wide_as_the_query_reads_their_cosine():
    """Text of the query's width shares its space."""
    wide = random.WIDTHS["text"]
    model = build(context=wide).eval()
    assert [m for m in model.modalities if model.projections.encoders[m].match is not None] == ["text"]
    b = random.batch(context=wide, full=True)
    expected = torch.cosine_similarity(b.features["text"], b.context, dim=-1)
    torch.testing.assert_close(model.projections._match("text", b), expected)
    zero = b._replace(features=b.features | {"text": torch.zeros_like(b.features["text"])})
    assert (model.projections._match("text", zero) == 0).all()
    assert torch.isfinite(model(zero).scores).all()
    model(b).scores.sum().backward()
    assert model.projections.encoders["text"].match.weight.grad.abs().max() > 0


def test_late_sum_only_adds_and_attention_does_not():
    def interaction(variant):
        model = build(model__variant=variant, model__layers=2).eval()
        b, other = random.batch(seed=0, full=True), random.batch(seed=1, full=True)

        def scores(visual, text):
            mixed = b.features | {"visual": visual.features["visual"], "text": text.features["text"]}
            return model(b._replace(features=mixed)).scores

        return (scores(b, b) - scores(b, other) - scores(other, b) + scores(other, other)).abs().max()

    assert interaction("late_sum") < 1e-5
    for variant in set(VARIANTS) - {"late_sum"}:
        assert interaction(variant) > 1e-4, variant


def test_gradient_reversal():
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = reverse_gradient(x, 0.7)
    assert torch.equal(y, x)
    (y * torch.tensor([3.0, 5.0])).sum().backward()
    torch.testing.assert_close(x.grad, -0.7 * torch.tensor([3.0, 5.0]))


def test_the_literal_discriminator_has_a_plain_gradient():
    model = build(loss__adversarial=1.0, loss__adversarial_form="literal")
    assert model(random.batch()).auxiliary["fused_discriminator"].shape == (4, 6, 3)
    fused = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    (literal,) = torch.autograd.grad(model.fused_discriminator(fused, -1.0)[:, 0].sum(), fused)
    (plain,) = torch.autograd.grad(model.fused_discriminator.layers(fused)[:, 0].sum(), fused)
    torch.testing.assert_close(literal, plain)


def test_encoder_parameters_and_means():
    model = build()
    assert {p.shape[-1] for p in model.encoder_parameters("visual") if p.ndim == 2} == {random.WIDTHS["visual"]}
    assert model.feature_mean("text").tolist() == random.statistics().mean["text"].tolist()


def test_thumbnails_are_pictures():
    model = build(loss__reconstruction=1.0, thumbnail=17)
    pictures = model.decode_thumbnails(torch.randn(3, 8, generator=torch.Generator().manual_seed(0)))
    assert pictures.shape == (3, 3, 17, 17)
    assert ((pictures >= 0) & (pictures <= 1)).all()
    with pytest.raises(ValueError, match=r"loss\.reconstruction"):
        build().decode_thumbnails(torch.zeros(1, 8))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"model.variant": "film", "loss.attention_entropy": 1.0}, ["loss.attention_entropy", "model.variant"]),
        ({"model.modalities": ("text", "metadata"), "loss.reconstruction": 1.0}, ["loss.reconstruction", "visual"]),
        ({"model.modalities": ("text", "metadata"), "loss.visual_importance": 1.0}, ["loss.visual_importance"]),
        (
            {"model.modalities": ("visual", "metadata"), "loss.contrastive": 1.0},
            ["loss.contrastive", "model.modalities"],
        ),
        ({"model.modalities": ("text",), "loss.adversarial": 1.0}, ["loss.adversarial", "two modalities"]),
        ({"train.gradient_modulation": 0.5}, ["train.gradient_modulation", "loss.unimodal"]),
        (
            {"loss.adversarial": 1.0, "loss.orthogonality": 1.0, "loss.adversarial_form": "literal"},
            ["loss.orthogonality", "loss.adversarial_form"],
        ),
        ({"model.variant": "transformer"}, ["model.variant", "cross_attention"]),
        ({"model.width": 1, "model.heads": 1, "loss.adversarial": 1.0}, ["loss.adversarial", "model.width"]),
    ],
)
def test_a_term_that_cannot_apply_is_refused(changes, names):
    recipe = Recipe().updated(changes)
    with pytest.raises(ValueError, match=r"model|loss") as error:
        build_ranker(recipe, random.schema(), random.statistics())
    for name in names:
        assert name in str(error.value)


@pytest.mark.parametrize("modalities", [("visual",), ("text",), ("text", "metadata"), ("visual", "metadata")])
def test_a_restricted_recipe_builds(modalities):
    terms = ("visual_importance", "reconstruction", "contrastive", "adversarial", "orthogonality", "attention_entropy")
    recipe = Recipe().updated({f"loss.{t}": 1.0 for t in (*terms, "unimodal")} | {"train.gradient_modulation": 0.5})
    restricted = recipe.restricted(modalities)
    assert not inapplicable(restricted)
    assert build_ranker(restricted, random.schema(), random.statistics()).modalities == modalities


def test_all_modalities_in_order():
    assert build().modalities == MODALITIES
