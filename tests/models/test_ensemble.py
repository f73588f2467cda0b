"""An ensemble is a ranker: the mean of its members' within-query standardised scores."""

import numpy as np
import pytest
import random_batches as random
import torch

from fusion_models.config import Recipe
from fusion_models.metrics import additive_projection, gradient_times_input_shares
from fusion_models.models import VARIANTS, Ensemble, build_ranker
from fusion_models.models.ensemble import standardised

SMALL = {"model.width": 8, "model.heads": 2, "model.layers": 1, "model.text_tokens": 2}


def ranker(seed, thumbnail=None, **changes):
    recipe = Recipe().updated(SMALL | {k.replace("__", "."): v for k, v in changes.items()})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_ranker(recipe, random.schema(4, thumbnail), random.statistics(4))
        torch.nn.init.normal_(model.score_head.weight, std=seed + 1.0)  # members differ in scale, too
    return model.eval()


def ensemble(count=3, **changes):
    return Ensemble([ranker(seed, **changes) for seed in range(count)]).eval()


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_scores_are_the_mean_of_the_standardised_members(variant):
    model, batch = ensemble(model__variant=variant), random.batch(6, 7)
    expected = np.zeros(batch.v1.shape)
    for member in model.members:
        for row, (scores, valid) in enumerate(
            zip(member(batch).scores.double().numpy(), batch.valid.numpy(), strict=True)
        ):
            real = scores[valid]
            if np.ptp(real) > 0:
                expected[row, valid] += (real - real.mean()) / real.std() / 3
    found = model(batch).scores
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(found.numpy()[batch.valid.numpy()], expected[batch.valid.numpy()], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_one_member_orders_as_it_does_alone():
    alone, batch = ranker(0), random.batch(6, 7)
    found = Ensemble([alone])(batch).scores
    for a, b, valid in zip(alone(batch).scores, found, batch.valid, strict=True):
        assert torch.equal(a[valid].argsort(), b[valid].argsort())


@torch.no_grad()
def test_padding_changes_nothing_and_candidates_may_be_permuted():
    model, batch = ensemble(), random.batch(5, 6)
    scores = model(batch).scores
    longer = batch._replace(
        features={m: torch.nn.functional.pad(x, (0, 0, 0, 3)) for m, x in batch.features.items()},
        context=torch.nn.functional.pad(batch.context, (0, 0, 0, 3)),
        **{n: torch.nn.functional.pad(getattr(batch, n), (0, 3)) for n in ("labels", "v1", "valid", "item")},
    )
    torch.testing.assert_close(model(longer).scores[:, :6], scores)
    assert (model(longer).scores[:, 6:] == 0.0).all()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(model(random.reorder(batch, order)).scores, scores[:, order])
    torch.testing.assert_close(model(random.reorder(batch, order)).shares, model(batch).shares[:, order])


def test_constant_scores_count_for_nothing():
    valid = torch.tensor([[True, True, True, False], [True, True, False, False], [True, False, False, False]])
    scores = torch.tensor([[5.0, 5.0, 5.0, 9.0], [1.0, 3.0, 7.0, 7.0], [4.0, 1.0, 1.0, 1.0]])
    expected = torch.tensor([[0.0, 0, 0, 0], [-1.0, 1.0, 0, 0], [0.0, 0, 0, 0]])
    torch.testing.assert_close(standardised(scores, valid), expected)
    rounded = torch.tensor([[0.1, 0.1 + 1e-8, 0.1, 0.0]]) * 3.0
    assert (standardised(rounded, valid[:1]) == 0.0).all()
    none = torch.zeros(1, 4, dtype=torch.bool)
    assert (standardised(scores[:1], none) == 0.0).all()


@torch.no_grad()
def test_evidence_is_the_members_mean_and_representations_stand_side_by_side():
    model, batch = ensemble(), random.batch()
    outs = [member(batch) for member in model.members]
    out = model(batch)
    torch.testing.assert_close(out.shares, torch.stack([o.shares for o in outs]).mean(0))
    torch.testing.assert_close(out.value_shares, torch.stack([o.value_shares for o in outs]).mean(0))
    torch.testing.assert_close(out.fused, torch.cat([o.fused for o in outs], -1))
    assert out.projected.shape == (4, 6, 3, 3 * 8)
    assert out.auxiliary == {}
    with model.scores_only():
        assert model(batch).value_shares is None
        assert torch.equal(model(batch).scores, out.scores)
    assert model(batch).value_shares is not None
    assert torch.equal(model.feature_mean("text"), model.members[0].feature_mean("text"))


def test_gradient_shares_are_the_members_mean():
    from fusion_models.evaluation import _shares

    model, batch = ensemble(model__variant="film"), random.batch()
    assert model.share_kind == "gradient_times_input"
    expected = []
    for member in model.members:
        tokens, owner, query = member.tokens(batch)
        tokens = tokens.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(member.score_tokens(tokens, query.detach()).sum(), tokens)
        expected.append(gradient_times_input_shares(tokens.detach(), gradient, owner))
    with torch.no_grad():
        found = _shares(model, batch, model(batch))
    torch.testing.assert_close(found, torch.stack(expected).mean(0).reshape(4, 6, 1, 3))
    torch.testing.assert_close(found.sum(-1), torch.ones(4, 6, 1))


@torch.no_grad()
def test_an_ensemble_of_additive_members_is_additive():
    """Standardised anew on every recombined list it would not be: the scale must be that of the list itself."""
    model, batch = ensemble(model__variant="late_sum"), random.batch(5, 6)
    generator = torch.Generator().manual_seed(0)
    fixed = model.fixed_scores(batch)
    torch.testing.assert_close(fixed(batch)[batch.valid], model(batch).scores[batch.valid])
    additive = additive_projection(fixed, batch, modalities=model.modalities, references=3, generator=generator)
    offset = (additive - model(batch).scores).masked_fill(~batch.valid, torch.nan)
    spread = offset - offset.nanmean(dim=1, keepdim=True)
    assert spread.nan_to_num().abs().max() < 1e-4


@torch.no_grad()
def test_pictures_are_the_members_mean():
    model = ensemble(thumbnail=8, loss__reconstruction=1.0)
    fused = torch.randn(4, 24, generator=torch.Generator().manual_seed(0))
    each = [m.decode_thumbnails(part) for m, part in zip(model.members, fused.chunk(3, -1), strict=True)]
    torch.testing.assert_close(model.decode_thumbnails(fused), torch.stack(each).mean(0))
    assert model.thumbnail is not None
    assert ensemble().thumbnail is None


def test_members_of_different_recipes_are_refused():
    with pytest.raises(ValueError, match="at least one member"):
        Ensemble([])
    for changes in (
        {"model__modalities": ("text", "metadata")},
        {"model__variant": "film"},
        {"model__context": "tuned_v1"},
    ):
        with pytest.raises(ValueError, match="one recipe"):
            Ensemble([ranker(0), ranker(1, **changes)])
