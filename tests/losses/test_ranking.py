import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from fusion_models.losses import RANKING_LOSSES
from fusion_models.losses.ranking import LONGEST, listnet, neural_ndcg, shortened

SMOOTH = ["listnet", "lambdarank", "approx_ndcg", "neural_ndcg", "ranknet"]


def lists(seed=0, queries=5, candidates=7):
    g = torch.Generator().manual_seed(seed)
    valid = torch.arange(candidates) < torch.randint(2, candidates + 1, (queries, 1), generator=g)
    scores = torch.randn(queries, candidates, generator=g, dtype=torch.float32)
    labels = torch.randint(0, 4, (queries, candidates), generator=g).float() * valid
    order = torch.randperm(candidates, generator=g)  # padding anywhere
    return scores[:, order], labels[:, order], valid[:, order]


def naive(name, scores, labels, valid, temperature):
    """The published formulas, one document at a time."""
    total, queries = 0.0, 0
    for s_row, y_row, v_row in zip(scores.tolist(), labels.tolist(), valid.tolist(), strict=True):
        docs = [(s, y) for s, y, v in zip(s_row, y_row, v_row, strict=True) if v]
        if not any(y > 0 for _, y in docs):
            continue
        queries += 1
        total += NAIVE[name](docs, temperature)
    return total / max(queries, 1)


def naive_listnet(docs, t):
    z_y = sum(math.exp(y / t) for _, y in docs)
    z_s = sum(math.exp(s) for s, _ in docs)
    return -sum(math.exp(y / t) / z_y * math.log(math.exp(s) / z_s) for s, y in docs)


def naive_ranknet(docs, t):
    terms = [math.log(1 + math.exp(-(si - sj) / t)) for si, yi in docs for sj, yj in docs if yi > yj]
    return sum(terms) / max(len(terms), 1)


def ideal(docs):
    return sum((2**y - 1) / math.log2(i + 2) for i, y in enumerate(sorted((y for _, y in docs), reverse=True)))


def naive_lambdarank(docs, t):
    ranks = [1 + sum(other > s for other, _ in docs) for s, _ in docs]
    total = 0.0
    for (si, yi), ri in zip(docs, ranks, strict=True):
        for (sj, yj), rj in zip(docs, ranks, strict=True):
            if yi > yj:
                delta = abs((2**yi - 2**yj) * (1 / math.log2(1 + ri) - 1 / math.log2(1 + rj))) / ideal(docs)
                total += delta * math.log(1 + math.exp(-(si - sj) / t))
    return total


def naive_approx_ndcg(docs, t):
    dcg = 0.0
    for i, (si, yi) in enumerate(docs):
        rank = 1 + sum(1 / (1 + math.exp((si - sj) / t)) for j, (sj, _) in enumerate(docs) if j != i)
        dcg += (2**yi - 1) / math.log2(1 + rank)
    return 1 - dcg / ideal(docs)


def naive_neural_ndcg(docs, t):
    n = len(docs)
    rows = []
    for i in range(1, n + 1):
        logits = [((n + 1 - 2 * i) * s - sum(abs(s - o) for o, _ in docs)) / t for s, _ in docs]
        top = max(logits)
        weights = [math.exp(x - top) for x in logits]
        rows.append([w / sum(weights) for w in weights])
    for _ in range(20):
        columns = [sum(row[k] for row in rows) for k in range(n)]
        rows = [[row[k] / columns[k] if columns[k] > 1e-10 else row[k] for k in range(n)] for row in rows]
        rows = [[x / sum(row) for x in row] for row in rows]
    gains = [sum(p * (2**y - 1) for p, (_, y) in zip(row, docs, strict=True)) for row in rows]
    return 1 - sum(gain / math.log2(i + 2) for i, gain in enumerate(gains)) / ideal(docs)


NAIVE = {
    "listnet": naive_listnet,
    "ranknet": naive_ranknet,
    "lambdarank": naive_lambdarank,
    "approx_ndcg": naive_approx_ndcg,
    "neural_ndcg": naive_neural_ndcg,
}


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("temperature", [0.4, 1.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_its_naive_loop(name, temperature, seed):
    scores, labels, valid = lists(seed)
    ours = RANKING_LOSSES[name](scores, labels, valid, temperature=temperature)
    assert ours.item() == pytest.approx(naive(name, scores, labels, valid, temperature), abs=2e-5)


@pytest.mark.parametrize("name", SMOOTH)
def test_gradient_by_finite_differences(name):
    scores, labels, valid = lists(3, queries=2, candidates=5)
    x = scores.clone().requires_grad_(True)
    RANKING_LOSSES[name](x, labels, valid, temperature=0.8).backward()
    step = 1e-4
    for index in valid.nonzero().tolist():
        up, down = scores.double().clone(), scores.double().clone()
        up[tuple(index)] += step
        down[tuple(index)] -= step
        slope = (naive(name, up, labels, valid, 0.8) - naive(name, down, labels, valid, 0.8)) / (2 * step)
        assert x.grad[tuple(index)].item() == pytest.approx(slope, abs=2e-4)
    assert (x.grad[~valid] == 0).all()


def test_lambdas_of_lambdarank():
    """Burges 2010: lambda_i = Σ_j ∓ |ΔnDCG_ij| / (1 + exp(s_i - s_j)), the gradient of the loss."""
    scores, labels, valid = lists(5, queries=1)
    x = scores.clone().requires_grad_(True)
    RANKING_LOSSES["lambdarank"](x, labels, valid, temperature=1.0).backward()
    docs = [(float(scores[0, k]), float(labels[0, k]), k) for k in range(7) if valid[0, k]]
    lambdas = dict.fromkeys((k for *_, k in docs), 0.0)
    rank = {k: 1 + sum(o > s for o, *_ in docs) for s, _, k in docs}
    for si, yi, i in docs:
        for sj, yj, j in docs:
            if yi > yj:
                discount = abs(1 / math.log2(1 + rank[i]) - 1 / math.log2(1 + rank[j]))
                force = (2**yi - 2**yj) * discount / ideal([(s, y) for s, y, _ in docs]) / (1 + math.exp(si - sj))
                lambdas[i] -= force
                lambdas[j] += force
    for k, value in lambdas.items():
        assert x.grad[0, k].item() == pytest.approx(value, abs=1e-5)


def test_listnet_of_perfect_scores_is_the_entropy_of_the_labels():
    labels = torch.tensor([[2.0, 0.0, 1.0]])
    valid = torch.ones(1, 3, dtype=torch.bool)
    p = torch.softmax(labels, -1)
    entropy = -(p * p.log()).sum().item()
    assert listnet(labels, labels, valid, temperature=1.0).item() == pytest.approx(entropy, abs=1e-6)


def test_ranknet_of_a_tied_pair_is_log_two():
    loss = RANKING_LOSSES["ranknet"](torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.ones(1, 2, dtype=torch.bool))
    assert loss.item() == pytest.approx(math.log(2))


def test_smooth_ndcg_losses_approach_ndcg():
    scores = torch.tensor([[0.1, 3.0, 2.0, -1.0]])
    labels = torch.tensor([[2.0, 0.0, 1.0, 0.0]])
    valid = torch.ones(1, 4, dtype=torch.bool)
    dcg = 1 / math.log2(3) + 3 / math.log2(4)
    expected = 1 - dcg / (3 + 1 / math.log2(3))
    for name in ("approx_ndcg", "neural_ndcg"):
        assert RANKING_LOSSES[name](scores, labels, valid, temperature=0.01).item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("name", SMOOTH)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), grid=st.booleans())
def test_permutation_and_padding_change_nothing(name, seed, grid):
    scores, labels, valid = lists(seed)
    if grid:  # ties
        scores = scores.round()
    plain = RANKING_LOSSES[name](scores, labels, valid, temperature=0.7)
    g = torch.Generator().manual_seed(seed + 1)
    order = torch.randperm(10, generator=g)
    garbage = torch.randn(len(scores), 3, generator=g) * 100
    padded = [
        torch.cat([x, extra], dim=1)[:, order]
        for x, extra in (
            (scores, garbage),
            (labels, garbage.abs()),
            (valid, torch.zeros_like(garbage, dtype=torch.bool)),
        )
    ]
    padded[0] = torch.where(padded[2], padded[0], 1e4)
    torch.testing.assert_close(RANKING_LOSSES[name](*padded, temperature=0.7), plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", SMOOTH)
def test_queries_without_a_relevant_document_do_not_count(name):
    scores, labels, valid = lists(1)
    judged = ((labels > 0) & valid).any(1)
    more = [torch.cat([x, x[:1]]) for x in (scores, labels, valid)]
    more[1][-1] = 0.0
    loss = RANKING_LOSSES[name](*more)
    expected = RANKING_LOSSES[name](scores[judged], labels[judged], valid[judged])
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("name", SMOOTH)
def test_nothing_to_rank_is_zero_with_a_finite_gradient(name):
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    for valid in (torch.zeros(2, 3, dtype=torch.bool), torch.tensor([[True, False, False], [True, True, True]])):
        loss = RANKING_LOSSES[name](x, torch.zeros(2, 3), valid)
        (gradient,) = torch.autograd.grad(loss, x)
        assert loss.item() == 0.0
        assert (gradient == 0).all()


def test_large_scores_stay_finite():
    scores = (torch.tensor([[1e4, -1e4, 0.0]])).requires_grad_(True)
    for loss in RANKING_LOSSES.values():
        value = loss(scores, torch.tensor([[0.0, 1.0, 2.0]]), torch.ones(1, 3, dtype=torch.bool), temperature=0.1)
        (gradient,) = torch.autograd.grad(value, scores)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


def test_neural_ndcg_of_the_ideal_order_is_near_zero():
    labels = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    assert neural_ndcg(10 * labels, labels, torch.ones(1, 4, dtype=torch.bool), temperature=0.1).item() < 1e-3


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("scale", [443.0, 1e6, 1e40, 1e90])
def test_labels_of_any_size_give_a_finite_loss_and_gradient(name, scale):
    scores, labels, valid = lists(candidates=9)
    scores.requires_grad_(True)
    loss = RANKING_LOSSES[name](scores, labels.double() * scale, valid)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert loss.dtype == torch.float32
    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(gradient).all())
    assert float(gradient.abs().max()) > 0


@pytest.mark.parametrize("name", SMOOTH)
def test_labels_in_float64_give_the_loss_that_float32_ones_give(name):
    scores, labels, valid = lists(candidates=9)
    one, other = (RANKING_LOSSES[name](scores, y, valid, temperature=0.7) for y in (labels, labels.double()))
    assert float(one) == pytest.approx(float(other), rel=1e-6)


def test_labels_that_float32_does_not_tell_apart_are_still_ordered():
    scores = torch.tensor([[1.0, 0.0]])
    labels = torch.tensor([[16777216.0, 16777217.0]], dtype=torch.float64)
    valid = torch.ones(1, 2, dtype=torch.bool)
    assert float(RANKING_LOSSES["ranknet"](scores, labels, valid)) == pytest.approx(math.log(1 + math.e))


PAIRS = ["lambdarank", "approx_ndcg", "neural_ndcg", "ranknet"]


@pytest.mark.parametrize("name", PAIRS)
def test_a_list_of_few_documents_beside_a_long_one_has_its_exact_loss(name):
    scores, labels, valid = lists(queries=1, candidates=40)
    padded = [torch.nn.functional.pad(x, (0, 3 * LONGEST)) for x in (scores, labels, valid)]
    order = torch.randperm(padded[0].shape[-1], generator=torch.Generator().manual_seed(1))
    expected = RANKING_LOSSES[name](scores, labels, valid)
    assert torch.allclose(RANKING_LOSSES[name](*(x[:, order] for x in padded)), expected, atol=1e-5)


def test_a_long_list_keeps_its_relevant_documents_and_those_that_stand_highest():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 5_000, generator=g)
    labels = (torch.rand(2, 5_000, generator=g) < 0.02).float() * torch.randint(1, 4, (2, 5_000), generator=g)
    valid = torch.ones(2, 5_000, dtype=torch.bool)
    valid[1, 4_000:] = False
    kept, grades, there = shortened(scores, labels, valid)
    assert kept.shape == (2, LONGEST)
    assert there.all()
    for row in range(2):
        relevant = labels[row][valid[row]] > 0
        assert (grades[row] > 0).sum() == relevant.sum()
        others = scores[row][valid[row]][~relevant].sort(descending=True).values[: LONGEST - int(relevant.sum())]
        assert torch.equal(kept[row][grades[row] == 0].sort(descending=True).values, others)
    many = torch.ones_like(labels)
    many[:, ::2] = 0.0
    grades = shortened(scores, many, valid)[1]
    assert (grades == 0).sum() > 0  # where half of a list is relevant, others are compared with it as well


@pytest.mark.parametrize("name", PAIRS)
def test_one_query_of_ten_thousand_candidates_takes_little_memory(name):
    """Of eight queries padded to it: every pair would take 3.2 GB a tensor."""
    g = torch.Generator().manual_seed(0)
    shape = (8, 10_011)
    scores = torch.randn(shape, generator=g, requires_grad=True)
    valid = torch.arange(shape[1]) < torch.tensor([shape[1], *[10] * 7])[:, None]
    labels = torch.randint(0, 3, shape, generator=g).float() * valid
    sizes = []

    def kept(tensor):
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor):
        loss = RANKING_LOSSES[name](scores, labels, valid)
    loss.backward()
    assert max(sizes) <= 8 * LONGEST**2 * 4
    assert torch.isfinite(loss)
    assert scores.grad[0].abs().sum() > 0
    assert (scores.grad[~valid] == 0).all()


@pytest.mark.parametrize("name", PAIRS)
def test_a_stack_of_trainings_shortens_each_its_own_way(name):
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 2, LONGEST + 90, generator=g)
    labels = torch.randint(0, 3, scores.shape, generator=g).float()
    valid = torch.ones(scores.shape, dtype=torch.bool)
    alone = [RANKING_LOSSES[name](*one) for one in zip(scores, labels, valid, strict=True)]
    assert torch.allclose(torch.vmap(RANKING_LOSSES[name])(scores, labels, valid), torch.stack(alone), rtol=1e-4)
