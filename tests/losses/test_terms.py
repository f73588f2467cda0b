import math

import pytest
import random_batches as random
import torch

from fusion_models.losses import adversarial, importance, multitask
from fusion_models.losses.modulation import modulation_coefficients
from fusion_models.losses.ranking import listnet
from fusion_models.metrics import spearman, ssim


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


def test_shuffling_keeps_each_lists_documents_and_the_padding():
    valid = torch.tensor([[True, False, True, True, False], [True, True, True, True, True]])
    x = torch.arange(10.0).reshape(2, 5, 1)
    moved = 0
    for seed in range(20):
        y = importance.shuffled_within_lists(x, valid, generator(seed))
        assert torch.equal(y[~valid], x[~valid])
        for row in range(2):
            assert sorted(y[row][valid[row]].flatten().tolist()) == x[row][valid[row]].flatten().tolist()
        moved += not torch.equal(x, y)
    assert moved >= 18


@pytest.mark.parametrize(("margin", "expected"), [(0.1, 0.0), (5.0, None)])
def test_reliance_is_a_hinge_whose_shuffled_pass_has_no_gradient(margin, expected):
    b = random.batch(queries=8, full=True)
    weight = torch.tensor(3.0, requires_grad=True)
    b = b._replace(labels=(b.features["visual"][..., 0] > 0.8).float())

    class Out:
        def __init__(self, scores):
            self.scores = scores

    def forward(batch):
        assert not torch.is_grad_enabled()
        return Out(weight * batch.features["visual"][..., 0])

    loss = listnet(weight * b.features["visual"][..., 0], b.labels, b.valid)
    mixed = importance.suspect_shuffled(b, "visual", generator())
    term = importance.reliance(forward, mixed, loss, listnet, margin=margin)
    if expected is not None:
        assert term.item() == expected
        return
    shuffled = importance.shuffled_within_lists(b.features["visual"], b.valid, generator())[..., 0]
    worse = listnet(weight.detach() * shuffled, b.labels, b.valid)
    assert term.item() == pytest.approx(margin - (worse - loss).item(), abs=1e-5)
    (of_term,) = torch.autograd.grad(term, weight, retain_graph=True)
    (of_loss,) = torch.autograd.grad(loss, weight)
    torch.testing.assert_close(of_term, of_loss)


def test_literal_importance_is_clipped():
    valid = torch.tensor([[True, True, False]])
    projected = torch.zeros(1, 3, 4)
    projected[0] = torch.tensor([1.0, -2.0, 99.0])[:, None]
    assert importance.literal_importance(projected, valid).item() == -1.5
    assert importance.literal_importance(projected * 100, valid).item() == -importance.LITERAL_CEILING


def test_variance_hinge():
    valid = torch.rand(6, 9, generator=generator()) > 0.3
    x = draw(6, 9, 3, 4)
    x[..., 0, :] *= 0.1
    std = x[valid].std(dim=0)
    expected = torch.relu(1 - torch.sqrt(std**2 + 1e-4)).mean()
    torch.testing.assert_close(importance.variance(x, valid), expected)
    x.requires_grad_(True)
    importance.variance(x * 0, valid).backward()
    assert torch.isfinite(x.grad).all()


def test_share_entropy_terms():
    valid = torch.tensor([[True, True, False]])
    uniform, peaked = [1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0]
    shares = torch.tensor([[[uniform], [peaked], [peaked]]])
    assert importance.share_entropy(shares)[0, :2, 0].tolist() == pytest.approx([1.0, 0.0], abs=1e-6)
    assert importance.attention_entropy(shares, valid, target=0.9).item() == pytest.approx(0.45, abs=1e-6)
    assert importance.literal_attention_entropy(shares, valid).item() == pytest.approx(-math.log(3) / 2, abs=1e-6)


def test_attention_entropy_sees_a_layer_that_ignores_a_modality():
    spread, peaked = [0.4, 0.3, 0.3], [0.05, 0.9, 0.05]
    shares = torch.tensor([[[spread, peaked]]])
    assert importance.attention_entropy(shares, torch.ones(1, 1, dtype=torch.bool), target=0.95) > 0.1


def test_unimodal_is_the_sum_of_ranking_losses():
    b = random.batch()
    scores = draw(4, 6, 3)
    expected = sum(listnet(scores[..., m], b.labels, b.valid) for m in range(3))
    torch.testing.assert_close(importance.unimodal(scores, b, listnet), expected)


def test_reconstruction_terms():
    valid = random.batch().valid
    decoded, target = draw(4, 6, 5), draw(4, 6, 5, seed=1)
    torch.testing.assert_close(
        multitask.reconstruction_mse(decoded, target, valid), (decoded - target)[valid].square().mean()
    )
    cosine = torch.nn.functional.cosine_similarity(decoded[valid], target[valid], dim=-1)
    torch.testing.assert_close(multitask.reconstruction_cosine(decoded, target, valid), (1 - cosine).mean())


def test_thumbnail_term_is_one_minus_ssim_of_real_documents():
    pictures = torch.rand(3, 3, 16, 16, generator=generator())
    truth = torch.randint(0, 256, (3, 3, 16, 16), generator=generator(1)).to(torch.uint8)
    valid = torch.tensor([True, False, True])
    expected = 1 - ssim(pictures[valid], truth[valid].float() / 255).mean()
    torch.testing.assert_close(multitask.thumbnail_dissimilarity(pictures, truth, valid), expected)
    same = multitask.thumbnail_dissimilarity(truth.float() / 255, truth, valid)
    assert same.item() == pytest.approx(0.0, abs=1e-5)


def test_items_without_a_picture_have_no_thumbnail_to_rebuild():
    pictures = torch.rand(3, 3, 16, 16, generator=generator())
    truth = torch.randint(0, 256, (3, 3, 16, 16), generator=generator(1)).to(torch.uint8)
    truth[1] = 255
    valid = torch.ones(3, dtype=torch.bool)
    expected = multitask.thumbnail_dissimilarity(pictures[::2], truth[::2], valid[::2])
    torch.testing.assert_close(multitask.thumbnail_dissimilarity(pictures, truth, valid), expected)
    torch.testing.assert_close(multitask.thumbnail_dissimilarity(pictures, truth.float() / 255, valid), expected)
    assert multitask.thumbnail_dissimilarity(pictures, torch.full_like(truth, 255), valid).item() == 0.0


def test_sampled_documents_are_real_and_distinct():
    valid = torch.rand(8, 10, generator=generator()) > 0.5
    for seed in range(10):
        chosen = multitask.sample_documents(valid, 20, generator(seed))
        assert valid.flatten()[chosen].all()
        assert len(set(chosen.tolist())) == 20
    assert len(multitask.sample_documents(valid, 500, generator())) == 80


def test_contrastive_against_a_naive_loop():
    b = random.batch(queries=5, candidates=6)
    visual, text = (torch.nn.functional.normalize(draw(5, 6, 4, seed=s), dim=-1) for s in (1, 2))
    term = multitask.contrastive(visual, text, torch.tensor(3.0), b, generator=generator())
    docs = [(i, j) for i in range(5) for j in range(6) if b.valid[i, j]]
    assert len({int(b.item[d]) for d in docs}) < len(docs), "the batch repeats items"
    total = 0.0
    for d in docs:
        others = [o for o in docs if o == d or b.item[o] != b.item[d]]
        forth = [3 * float(visual[d] @ text[o]) for o in others]
        back = [3 * float(visual[o] @ text[d]) for o in others]
        own = 3 * float(visual[d] @ text[d])
        total -= own - 0.5 * (math.log(sum(map(math.exp, forth))) + math.log(sum(map(math.exp, back))))
    assert term.item() == pytest.approx(total / len(docs), abs=1e-4)


def test_decorrelation_is_spearmans_and_silent_below_its_target():
    b = random.batch(queries=20, candidates=8)
    noisy = b.v1 + 0.1 * draw(20, 8)
    rho = float(spearman(noisy, b.v1, b.valid).nanmean())
    term = multitask.decorrelation(noisy, b.v1, b.valid, target=0.9)
    assert term.item() == pytest.approx(rho**2 - 0.81, abs=1e-6)
    assert term.item() > 0.05
    for scores in (draw(20, 8, seed=5), -b.v1):
        scores = scores.requires_grad_(True)
        silent = multitask.decorrelation(scores, b.v1, b.valid, target=0.9)
        (gradient,) = torch.autograd.grad(silent, scores)
        assert silent.item() == 0.0
        assert (gradient == 0).all()
    constant = torch.ones(20, 8, requires_grad=True)
    none = multitask.rank_correlation(constant, b.v1, b.valid)
    (gradient,) = torch.autograd.grad(none, constant)
    assert none.item() == 0.0
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    "monotone",
    [
        lambda x: torch.exp(2 * x),
        lambda x: x * torch.logspace(-2, 2, len(x))[:, None],
        lambda x: x + 100 * draw(len(x), 1, seed=3),
        lambda x: x**3,
    ],
    ids=["exp", "a factor a query", "an offset a query", "cube"],
)
def test_no_monotone_map_of_the_scores_moves_the_decorrelation(monotone):
    b = random.batch(queries=30, candidates=9)
    scores = b.v1.double() + 0.15 * draw(30, 9).double()
    term = multitask.decorrelation(scores, b.v1, b.valid, target=0.8)
    assert multitask.decorrelation(monotone(scores), b.v1, b.valid, target=0.8).item() == pytest.approx(
        term.item(), abs=1e-6
    )
    exact = multitask.decorrelation(monotone(b.v1.double()), b.v1, b.valid, target=0.8)
    assert exact.item() == pytest.approx(1 - 0.64, abs=1e-6)  # V1 in disguise is V1


@pytest.mark.parametrize(
    "start", [lambda v1: torch.exp(2 * v1), lambda v1: v1 * torch.logspace(-1, 1, len(v1))[:, None]]
)
def test_gradient_steps_move_documents_away_from_v1s_order(start):
    b = random.batch(queries=30, candidates=9)
    scores = start(b.v1.float()).requires_grad_(True)
    optimiser = torch.optim.Adam([scores], lr=0.05)
    reached = []
    for _ in range(60):
        term = multitask.decorrelation(scores, b.v1, b.valid, target=0.8)
        reached.append(float(spearman(scores.detach(), b.v1, b.valid).nanmean()))
        optimiser.zero_grad()
        term.backward()
        optimiser.step()
    assert reached[0] == pytest.approx(1.0)
    assert reached[10] < reached[5] < reached[1] < 1.0
    assert min(reached) < 0.8  # and then the hinge is silent
    assert multitask.decorrelation(scores, b.v1, b.valid, target=0.8).item() == 0.0


def test_adversarial_is_the_discriminators_cross_entropy():
    valid = random.batch().valid
    logits = draw(4, 6, 3, 3)
    rows = logits[valid].reshape(-1, 3)
    expected = torch.nn.functional.cross_entropy(rows, torch.arange(3).repeat(len(rows) // 3))
    torch.testing.assert_close(adversarial.adversarial(logits, valid), expected)
    even = adversarial.adversarial(torch.zeros(4, 6, 3, 3), valid)
    assert even.item() == pytest.approx(math.log(3))


def test_literal_adversarial_is_clipped():
    valid = torch.ones(2, 2, dtype=torch.bool)
    assert adversarial.literal_adversarial(torch.zeros(2, 2, 3), valid).item() == pytest.approx(-math.log(3))
    sure = torch.tensor([1e4, 0.0, 0.0]).expand(2, 2, 3)
    assert adversarial.literal_adversarial(sure, valid).item() == -adversarial.LITERAL_CEILING


def test_orthogonality_is_the_mean_squared_correlation():
    valid = torch.rand(6, 9, generator=generator()) > 0.3
    shared, private = draw(6, 9, 2, 3, seed=1), draw(6, 9, 2, 3, seed=2)
    private[..., 0] += shared[..., 0]
    squares = []
    for m in range(2):
        both = torch.cat([shared[valid][:, m], private[valid][:, m]], dim=1)
        squares.append(torch.corrcoef(both.T)[:3, 3:].square())
    torch.testing.assert_close(adversarial.orthogonality(shared, private, valid), torch.stack(squares).mean())
    torch.testing.assert_close(
        adversarial.orthogonality(shared, 0.01 * private, valid), torch.stack(squares).mean(), atol=1e-5, rtol=1e-4
    )


def test_modulation_slows_the_modality_that_is_ahead():
    b = random.batch(queries=16, full=True)
    scores = torch.stack([5 * b.labels, draw(16, 6), draw(16, 6, seed=1)], dim=-1)
    coefficients = modulation_coefficients(scores, b, strength=0.5)
    assert coefficients[1:].tolist() == [1.0, 1.0]
    p = torch.softmax(scores, dim=1)
    relevant = b.labels > 0
    evidence = (p * relevant[..., None]).sum((0, 1)) / relevant.any(1).sum()
    ratio = evidence[0] / evidence[1:].mean()
    assert coefficients[0].item() == pytest.approx(1 - math.tanh(0.5 * ratio), abs=1e-5)
    assert modulation_coefficients(scores, b, strength=0.0).tolist() == [1.0, 1.0, 1.0]
