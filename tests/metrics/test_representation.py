from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fusion_models.metrics import effective_rank, linear_cka


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive_hsic(x: np.ndarray, y: np.ndarray) -> float:
    """The U-statistic itself: mean over ordered quadruples of distinct documents (Song et al. 2012, eq. 4)."""
    k, l, n = x @ x.T, y @ y.T, len(x)
    total, count = 0.0, 0
    for i in range(n):
        for j in range(n):
            for q in range(n):
                for r in range(n):
                    if len({i, j, q, r}) == 4:
                        total += k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q])
                        count += 1
    return total / count


def test_cka_equals_the_u_statistic() -> None:
    x, y = draw(0, 8, 3) + 2, draw(1, 8, 5) - 1
    y[:, :2] += x[:, :2]
    a, b = x.numpy(), y.numpy()
    expected = naive_hsic(a, b) / (naive_hsic(a, a) * naive_hsic(b, b)) ** 0.5
    assert linear_cka(x, y) == pytest.approx(expected, abs=1e-10)


def kernel_cka(x: Tensor, y: Tensor) -> float:
    """The published debiased form: U-centred N x N Gram matrices (Székely and Rizzo 2014)."""

    def centred(features: Tensor) -> Tensor:
        gram = features @ features.T
        gram.fill_diagonal_(0)
        n = len(gram)
        means = gram.sum(0) / (n - 2)
        means -= means.sum() / (2 * (n - 1))
        gram = gram - means[None] - means[:, None]
        return gram.fill_diagonal_(0)

    a, b = centred(x), centred(y)
    return float((a * b).sum() / ((a * a).sum() * (b * b).sum()).sqrt())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(4, 40), width=st.integers(1, 50))
def test_cka_equals_the_kernel_form_and_is_symmetric(seed: int, n: int, width: int) -> None:
    x, y = draw(seed, n, 6) * 3 + 5, draw(seed + 1, n, width)
    y = y + x[:, :1]
    assert linear_cka(x, y) == pytest.approx(kernel_cka(x, y), rel=1e-6, abs=1e-8, nan_ok=True)
    assert linear_cka(y, x) == pytest.approx(linear_cka(x, y), abs=1e-9, nan_ok=True)


def test_cka_ignores_rotation_scale_and_order_and_is_unbiased() -> None:
    x = draw(2, 50, 20)
    rotation, _ = torch.linalg.qr(draw(3, 20, 20))
    assert linear_cka(x, 7 * x @ rotation + 3) == pytest.approx(1.0)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    y = draw(4, 50, 30)
    assert linear_cka(x[order], y[order]) == pytest.approx(linear_cka(x, y))
    # Wider than there are documents: the plain estimator says 0.6 and more for unrelated features.
    unrelated = [linear_cka(draw(2 * s, 40, 100), draw(2 * s + 1, 40, 100)) for s in range(200)]
    assert np.mean(unrelated) == pytest.approx(0.0, abs=4 * np.std(unrelated) / 200**0.5)
    assert np.abs(unrelated).max() < 0.2


def test_cka_of_what_cannot_be_compared() -> None:
    assert math.isnan(linear_cka(torch.full((9, 3), 0.1), draw(0, 9, 3)))
    with pytest.raises(ValueError, match="at least 4"):
        linear_cka(draw(0, 3, 2), draw(1, 3, 2))
    with pytest.raises(ValueError, match="expected"):
        linear_cka(draw(0, 5, 2), draw(1, 6, 2))


def test_effective_rank_in_closed_form() -> None:
    basis, _ = torch.linalg.qr(draw(0, 40, 6) - draw(0, 40, 6).mean(0))
    basis = basis[:, :4]
    other, _ = torch.linalg.qr(draw(1, 9, 9))
    values = torch.tensor([4.0, 2.0, 1.0, 1.0], dtype=torch.float64)
    shares = (values / values.sum()).numpy()
    expected = math.exp(-(shares * np.log(shares)).sum())
    assert effective_rank(basis @ torch.diag(values) @ other[:4] + 5) == pytest.approx(expected)
    assert effective_rank(basis @ other[:4]) == pytest.approx(4.0)


def test_effective_rank_bounds() -> None:
    line = draw(2, 30, 1) * draw(3, 1, 8)
    assert effective_rank(line) == pytest.approx(1.0)
    assert effective_rank(torch.full((30, 8), 0.3)) == 0.0
    assert 1.0 <= effective_rank(draw(4, 30, 8)) <= 8.0
    with pytest.raises(ValueError, match="at least one"):
        effective_rank(torch.zeros(0, 3))
