from __future__ import annotations

from math import log

import pytest
import torch
from padded_lists import Lists
from scipy import stats
from torch import Tensor

from fusion_models.metrics import (
    balance,
    gradient_times_input_shares,
    layer_shares,
    max_share,
    mean_shares,
    query_shares,
)


@pytest.fixture
def shares(lists: Lists) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    found = torch.rand(*lists.valid.shape, 4, 3, generator=generator)
    found = found / found.sum(-1, keepdim=True)
    found[~lists.valid] = torch.nan
    return found


def test_means_against_naive_loops(shares: Tensor, lists: Lists) -> None:
    documents = [shares[i, j] for i, j in lists.valid.nonzero().tolist()]
    naive = torch.stack(documents).double().mean(0)
    torch.testing.assert_close(layer_shares(shares, lists.valid), naive)
    torch.testing.assert_close(mean_shares(shares, lists.valid), naive.mean(0))
    assert float(mean_shares(shares, lists.valid).sum()) == pytest.approx(1, abs=1e-6)
    queries = query_shares(shares, lists.valid)
    for i, valid in enumerate(lists.valid):
        torch.testing.assert_close(queries[i], shares[i, valid].double().mean(0), equal_nan=True)


def test_order_of_candidates_and_padding_change_nothing(shares: Tensor, lists: Lists) -> None:
    order = torch.randperm(lists.valid.shape[1], generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(layer_shares(shares[:, order], lists.valid[:, order]), layer_shares(shares, lists.valid))
    wide, valid = (
        torch.nn.functional.pad(shares, (0, 0, 0, 0, 0, 3), value=9.0),
        torch.nn.functional.pad(lists.valid, (0, 3)),
    )
    torch.testing.assert_close(query_shares(wide, valid), query_shares(shares, lists.valid), equal_nan=True)


def test_largest_share_and_balance() -> None:
    means = torch.tensor([[0.85, 0.10, 0.05], [1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0]], dtype=torch.float64)
    assert max_share(means).tolist() == pytest.approx([0.85, 1 / 3, 1.0])
    assert balance(means).tolist() == pytest.approx([float(stats.entropy(means[0])) / log(3), 1.0, 0.0])
    assert balance(torch.ones(2, 1)).isnan().all()


def test_gradient_times_input_of_a_linear_score() -> None:
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randn(7, 5, 4, generator=generator, requires_grad=True)
    weights = torch.randn(5, 4, generator=generator)
    owner = torch.tensor([2, 0, 1, 0, 2])
    (grads,) = torch.autograd.grad((tokens * weights).sum(), tokens)
    found = gradient_times_input_shares(tokens.detach(), grads, owner)
    for n in range(7):
        mass = torch.stack([(tokens[n] * weights)[owner == m].sum().abs() for m in range(3)])
        torch.testing.assert_close(found[n], (mass / mass.sum()).detach())
    torch.testing.assert_close(
        gradient_times_input_shares(tokens.detach(), torch.zeros_like(grads), owner), torch.full((7, 3), 1 / 3)
    )


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"\[B, L, K, M\]"):
        mean_shares(torch.ones(2, 3, 4), torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="owner"):
        gradient_times_input_shares(torch.ones(2, 3, 4), torch.ones(2, 3, 4), torch.zeros(2, dtype=torch.long))
