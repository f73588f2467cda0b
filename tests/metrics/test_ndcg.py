from __future__ import annotations

from itertools import permutations

import ir_measures
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from padded_lists import Lists, random_lists
from sklearn.metrics import ndcg_score

from fusion_models.metrics import chance_ndcg, mean_ndcg, ndcg
from fusion_models.metrics.ndcg import scaled_gains


def naive(scores: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Mean over the orders that sort the scores, by listing all permutations."""
    gains = 2.0**labels - 1
    discounts = [1 / np.log2(i + 2) if i < k else 0.0 for i in range(len(scores))]
    ideal = float(np.sort(gains)[::-1] @ discounts)
    values = [
        float(gains[list(order)] @ discounts)
        for order in permutations(range(len(scores)))
        if all(scores[order[i]] >= scores[order[i + 1]] for i in range(len(order) - 1))
    ]
    return float(np.mean(values)) / ideal if ideal else float("nan")


@pytest.mark.parametrize("k", [1, 3, 10, 50])
def test_equals_scikit_learn_with_ties(lists: Lists, k: int) -> None:
    measured = ndcg(lists.a, lists.labels, lists.valid, k)
    compared = 0
    for row, valid in enumerate(lists.valid):
        labels, scores = lists.labels[row, valid].numpy(), lists.a[row, valid].numpy()
        if len(labels) < 2 or labels.max() == 0:
            continue
        assert float(measured[row]) == pytest.approx(ndcg_score([2.0**labels - 1], [scores], k=k), abs=1e-9)
        compared += 1
    assert compared > 20


def test_equals_ir_measures_without_ties() -> None:
    lists = random_lists(7)
    scores = torch.rand(lists.a.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    measured = ndcg(scores, lists.labels, lists.valid, 10)
    # trec_eval gains are the labels themselves: hand it 2^label - 1.
    qrels, run = [], []
    for row, column in lists.valid.nonzero().tolist():
        qrels.append(ir_measures.Qrel(str(row), str(column), int(2 ** lists.labels[row, column] - 1)))
        run.append(ir_measures.ScoredDoc(str(row), str(column), float(scores[row, column])))
    theirs = {int(m.query_id): m.value for m in ir_measures.iter_calc([ir_measures.nDCG @ 10], qrels, run)}
    judged = [row for row in theirs if not measured[row].isnan()]
    assert len(judged) > 40
    assert measured[judged].tolist() == pytest.approx([theirs[row] for row in judged], abs=1e-6)
    assert all(theirs[row] == 0 for row in theirs if measured[row].isnan())


@pytest.mark.parametrize("seed", range(12))
def test_ties_earn_the_mean_over_all_orders(seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores, labels = generator.integers(0, 3, 6).astype(float), generator.integers(0, 4, 6).astype(float)
    measured = ndcg(
        torch.from_numpy(scores)[None], torch.from_numpy(labels)[None], torch.ones(1, 6, dtype=torch.bool), 4
    )
    assert float(measured) == pytest.approx(naive(scores, labels, 4), nan_ok=True)


@pytest.mark.parametrize("k", [1, 2, 3, 5, 9])
def test_ties_infinities_padding_and_empty_lists_at_any_cut(k: int) -> None:
    g = torch.Generator().manual_seed(k)
    scores = torch.randint(0, 4, (60, 6), generator=g).float()
    scores[scores == 0], scores[scores == 3] = -torch.inf, torch.inf
    labels = torch.randint(0, 3, (60, 6), generator=g) * (torch.rand(60, 1, generator=g) > 0.2)
    valid = torch.rand(60, 6, generator=g) > 0.3
    valid[0] = False
    found = ndcg(scores.where(valid, torch.nan), labels.where(valid, -7), valid, k)
    expected = [naive(scores[i, v].numpy(), labels[i, v].numpy(), k) for i, v in enumerate(valid)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), equal_nan=True)
    assert found.isnan().any()
    assert (found < 1).any()


def test_constant_scores_earn_chance() -> None:
    labels, valid = torch.tensor([[3.0, 0, 1, 0, 2, 9]]), torch.tensor([[True] * 5 + [False]])
    constant = ndcg(torch.full((1, 6), 0.3), labels, valid, 3)
    generator = torch.Generator().manual_seed(0)
    random = ndcg(torch.rand(20_000, 6, generator=generator), labels.expand(20_000, 6), valid.expand(20_000, 6), 3)
    assert torch.equal(constant, chance_ndcg(labels, valid, 3))
    assert float(constant) == pytest.approx(float(random.mean()), abs=4 * float(random.std()) / 20_000**0.5)


def test_queries_without_a_relevant_document_leave_the_mean_and_are_counted() -> None:
    valid = torch.tensor([[True, True], [True, True], [False, False], [True, False]])
    values = ndcg(
        torch.tensor([[1.0, 0], [1, 0], [1, 0], [1, 0]]), torch.tensor([[1.0, 0], [0, 0], [1, 1], [2, 0]]), valid
    )
    assert values.isnan().tolist() == [False, True, True, False]
    assert mean_ndcg(values) == (1.0, 2, 2)
    assert np.isnan(mean_ndcg(values[1:3]).mean)


def test_infinite_scores_are_ranked_before_padding() -> None:
    scores = torch.tensor([[-torch.inf, torch.inf, 5.0, torch.inf]])
    valid = torch.tensor([[True, True, False, False]])
    assert float(ndcg(scores, torch.tensor([[0.0, 1, 3, 3]]), valid, 1)) == 1.0


def test_nan_scores_and_bad_labels_are_errors() -> None:
    scores, labels, valid = torch.zeros(2, 3), torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool)
    broken = scores.clone()
    broken[1, 2] = torch.nan
    with pytest.raises(ValueError, match="query 1, candidate 2"):
        ndcg(broken, labels, valid)
    with pytest.raises(ValueError, match="finite and >= 0"):
        ndcg(scores, -labels, valid)
    with pytest.raises(ValueError, match="k must be"):
        ndcg(scores, labels, valid, 0)
    with pytest.raises(ValueError, match="one shape"):
        ndcg(scores, labels[:1], valid)
    valid[1, 2] = False
    assert torch.isfinite(ndcg(broken, labels, valid)).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 20), padding=st.integers(0, 5))
def test_order_of_candidates_padding_and_monotone_transforms_change_nothing(seed: int, k: int, padding: int) -> None:
    lists = random_lists(seed, queries=5, length=9)
    values = ndcg(lists.a, lists.labels, lists.valid, k)
    assert bool(((values >= 0) & (values <= 1 + 1e-12) | values.isnan()).all())
    order = torch.randperm(9, generator=torch.Generator().manual_seed(seed))
    permuted = ndcg(lists.a[:, order], lists.labels[:, order], lists.valid[:, order], k)
    torch.testing.assert_close(permuted, values, equal_nan=True)
    widened = [
        torch.nn.functional.pad(x, (padding, padding), value=v) for x, v in zip(lists, (3, 3, 9, 0), strict=True)
    ]
    torch.testing.assert_close(ndcg(widened[0], widened[2], widened[3].bool(), k), values, equal_nan=True)
    torch.testing.assert_close(ndcg(lists.a.exp() * 3, lists.labels, lists.valid, k), values, equal_nan=True)
    perfect = ndcg(lists.labels, lists.labels, lists.valid, k)
    assert bool((perfect.isclose(torch.ones_like(perfect)) | perfect.isnan()).all())


@pytest.mark.parametrize("scale", [1.0, 100.0, 443.0, 1e6, 1e90])
def test_labels_of_any_size_have_an_ndcg(scale: float) -> None:
    g = torch.Generator().manual_seed(0)
    grades = torch.randint(0, 4, (50, 12), generator=g).double()
    scores, valid = torch.rand(50, 12, generator=g), torch.rand(50, 12, generator=g) < 0.9
    found = ndcg(scores, grades * scale, valid)
    relevant = ((grades > 0) & valid).any(1)
    assert torch.equal(~found.isnan(), relevant)
    assert bool(((found[relevant] >= 0) & (found[relevant] <= 1 + 1e-12)).all())
    if scale >= 100:  # the best grade decides alone: of those that have it, where they stand
        best = (grades == grades.masked_fill(~valid, 0.0).amax(1, keepdim=True)) & valid
        assert torch.allclose(found[relevant], ndcg(scores, best.double(), valid)[relevant], atol=1e-9)


@pytest.mark.parametrize("label", [1e-300, 1e-20, 1e-9, 0.4999, 0.5])
def test_a_label_above_zero_is_a_relevant_item_however_small(label: float) -> None:
    labels = torch.tensor([[0.0, label, 0.0]], dtype=torch.float64)
    valid = torch.ones(1, 3, dtype=torch.bool)
    assert ndcg(torch.tensor([[1.0, 2.0, 0.0]]), labels, valid).item() == 1.0
    assert ndcg(torch.tensor([[2.0, 1.0, 0.0]]), labels, valid).item() == pytest.approx(1 / np.log2(3))


def test_usual_labels_have_the_gain_itself() -> None:
    labels = torch.arange(65.0, dtype=torch.float64)[None]
    assert torch.equal(scaled_gains(labels, torch.ones(1, 65, dtype=torch.bool)), torch.exp2(labels) - 1.0)
