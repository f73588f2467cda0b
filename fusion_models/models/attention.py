"""Multi-head attention over few keys, written out so that its weights come for nothing.

Documents have 3 to 14 tokens: batched matrix products of that size are slow, so heads are summed and spread by one
product with a 0/1 matrix (four times faster on a CPU than a batched product for each head).
Shapes: N documents, T tokens, D width, H heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def head_membership(width: int, heads: int) -> Tensor:
    """`[D, H]`: 1 where a channel belongs to a head."""
    return torch.eye(heads).repeat_interleave(width // heads, dim=0)


def attend(query: Tensor, keys: Tensor, values: Tensor, membership: Tensor, *, dim: int = -2) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention (Vaswani et al. 2017) of one query over T keys.

    `query` `[..., D]`, `keys` and `values` `[..., T, D]` with T at `dim`, `membership` `[D, H]` (other sizes
    broadcast). Returns the weighted values of each token, shaped as `values`, whose sum over T is the attention's
    output, and the weights `[..., T, H]`, which sum to 1 over T.
    """
    width, heads = membership.shape
    logits = (query.unsqueeze(dim) * keys) @ (membership * (heads / width) ** 0.5)
    weights = torch.softmax(logits, dim=dim)
    return (weights @ membership.T) * values, weights


def dropout(probability: float) -> nn.Module:
    """Dropout, or nothing at all at probability 0 (so that a stacked model needs no randomness)."""
    return nn.Dropout(probability) if probability > 0.0 else nn.Identity()


class FeedForward(nn.Module):
    """Pre-norm feed-forward block with its residual: x + W₂ GELU(W₁ LayerNorm(x))."""

    def __init__(self, width: int, dropout_probability: float, *, expansion: int = 2) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, expansion * width)
        self.contract = nn.Linear(expansion * width, width)
        self.dropout = dropout(dropout_probability)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., D]` to the same."""
        hidden = torch.nn.functional.gelu(self.expand(self.norm(x)))
        return x + self.dropout(self.contract(hidden))  # type: ignore[no-any-return]
