"""Shares of the modalities: where attention (or a gate, or gradient times input) goes. Attention is not contribution.

Shares are `[B, L, K, M]`: layer K, modality M, summing to 1 over M (see `RankerOutput.shares`).
"""

from __future__ import annotations

from math import log

import torch
from torch import Tensor


def query_shares(shares: Tensor, valid: Tensor) -> Tensor:
    """Mean over each query's real documents: `[B, L, K, M]`, `[B, L]` -> `[B, K, M]` float64; NaN for an empty list."""
    _check(shares, valid)
    weights = valid.to(torch.float64)[..., None, None]
    clean = shares.double().masked_fill(~valid[..., None, None], 0.0)
    return clean.sum(1) / weights.sum(1)


def layer_shares(shares: Tensor, valid: Tensor) -> Tensor:
    """Mean over real documents, a layer: `[B, L, K, M]`, `[B, L]` -> `[K, M]` float64; NaN without documents."""
    _check(shares, valid)
    return shares[valid].double().mean(0)


def mean_shares(shares: Tensor, valid: Tensor) -> Tensor:
    """Mean over real documents and layers: `[B, L, K, M]`, `[B, L]` -> `[M]` float64, summing to 1."""
    return layer_shares(shares, valid).mean(0)


def max_share(means: Tensor) -> Tensor:
    """The largest modality's share, in [1/M, 1]: `[..., M]` -> `[...]`."""
    return means.amax(-1)


def balance(means: Tensor) -> Tensor:
    """Entropy over modalities / ln M, 1 where all have the same share: `[..., M]` -> `[...]`; NaN where M is 1."""
    modalities = means.shape[-1]
    if modalities == 1:
        return torch.full_like(means[..., 0], torch.nan)
    entropy: Tensor = torch.special.entr(means).sum(-1)
    return entropy / log(modalities)


def gradient_times_input_shares(tokens: Tensor, grads: Tensor, owner: Tensor) -> Tensor:
    """Shares for variants without attention: |sum of token * gradient| of each modality, normalised a document.

    Args:
        tokens: `[N, T, D]`, what the fusion reads.
        grads: `[N, T, D]`, gradient of the document's score with respect to them.
        owner: `[T]` int64, the modality (0..M-1) of each token, every one of them present.

    Returns:
        `[N, M]`, summing to 1; equal shares where nothing moves the score.

    References:
        Shrikumar et al. 2016, "Not just a black box" (gradient times input).
    """
    if tokens.shape != grads.shape or owner.shape != tokens.shape[1:2]:
        raise ValueError(
            f"expected tokens and gradients [N, T, D] and owner [T], got {tuple(tokens.shape)}, {tuple(grads.shape)}, "
            f"{tuple(owner.shape)}"
        )
    moved = (tokens * grads).sum(-1)
    modalities = int(owner.max()) + 1
    mass = torch.zeros(len(moved), modalities, dtype=moved.dtype, device=moved.device).index_add(1, owner, moved).abs()
    total = mass.sum(1, keepdim=True)
    return torch.where(total > 0, mass / total.clamp(min=torch.finfo(mass.dtype).tiny), 1.0 / modalities)


def _check(shares: Tensor, valid: Tensor) -> None:
    if shares.ndim != 4 or shares.shape[:2] != valid.shape:
        raise ValueError(
            f"expected shares [B, L, K, M] and valid [B, L], got {tuple(shares.shape)}, {tuple(valid.shape)}"
        )
