"""Feature collapse: how alike two representations are, and how many directions one uses."""

from __future__ import annotations

import torch
from torch import Tensor


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Debiased linear centred kernel alignment of two representations of the same N documents.

    `HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y))` with the unbiased estimator of HSIC: near 0 for unrelated
    representations however wide they are (the plain one is not), 1 for equal ones up to rotation and scale; noise can
    put it slightly outside [0, 1].

    Args:
        x, y: `[N, D1]`, `[N, D2]`, N >= 4. Time and memory are linear in N: no N x N matrix is built.

    Returns:
        NaN where a representation is constant.

    Raises:
        ValueError: shapes do not match, or N < 4.

    References:
        Kornblith et al. 2019 (CKA); Song et al. 2012, eq. 5 (unbiased HSIC); Nguyen, Raghu and Kornblith 2021.
    """
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise ValueError(f"expected [N, D1] and [N, D2], got {tuple(x.shape)} and {tuple(y.shape)}")
    if len(x) < 4:
        raise ValueError(f"the unbiased estimator needs at least 4 documents, got {len(x)}")
    # The estimator does not change when features are shifted; centring keeps digits.
    x, y = _centred(x), _centred(y)
    own = _unbiased_hsic(x, x) * _unbiased_hsic(y, y)
    return _unbiased_hsic(x, y) / own**0.5 if own > 0 else float("nan")


def effective_rank(x: Tensor) -> float:
    """Effective rank of centred features: exp(entropy of the singular values, normalised to sum 1).

    Between 1 (all on a line) and min(N - 1, D); 0 for constant features.

    Args:
        x: `[N, D]`.

    References:
        Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality".
    """
    if x.ndim != 2 or len(x) == 0:
        raise ValueError(f"expected features [N, D] of at least one document, got {tuple(x.shape)}")
    values = torch.linalg.svdvals(_centred(x))
    total = values.sum()
    return float(torch.special.entr(values / total).sum().exp()) if float(total) > 0 else 0.0


def _centred(x: Tensor) -> Tensor:
    """Float64, column means removed; constant columns become exact zeros."""
    shifted = x.double() - x[:1].double()
    return shifted - shifted.mean(0)


def _unbiased_hsic(x: Tensor, y: Tensor) -> float:
    """Song et al. 2012, eq. 5, with linear kernels whose diagonals are 0, from D x D products alone."""
    n = len(x)
    norm_x, norm_y = x.square().sum(1), y.square().sum(1)
    row_x, row_y = x @ x.sum(0) - norm_x, y @ y.sum(0) - norm_y
    trace = (x.T @ y).square().sum() - norm_x @ norm_y
    outer = row_x.sum() * row_y.sum() / ((n - 1) * (n - 2))
    return float((trace + outer - 2.0 / (n - 2) * (row_x @ row_y)) / (n * (n - 3)))
