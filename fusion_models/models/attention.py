"""Multi-head attention over few keys, written out here so that its weights are at hand at no further cost.

Documents have 3 to 14 tokens. With few tokens, one product with a 0/1 matrix sums over each head's features and spreads
the result back, which is four times faster on a CPU than a batched product a head. With many, see `read_tokens`.
Shapes: N documents, T tokens, D width, H heads.
"""

from __future__ import annotations

from typing import Any

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


class _Read(torch.autograd.Function):
    """See `read_tokens`. The way back is written out: autograd's own products would run along strides that make them
    up to eight times slower than these."""

    generate_vmap_rule = True

    @staticmethod
    def forward(tokens: Tensor, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        asked = _asked(query, key)
        logits = _tokens_first(tokens @ asked.transpose(-1, -2))
        weights = torch.softmax(logits, dim=0, dtype=_softmax_type(logits))
        read = _heads_first(weights, tokens) @ tokens
        found = read.transpose(0, 1) @ value.transpose(-1, -2)
        return found.transpose(0, 1).flatten(1), weights, read

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        _, weights, read = output
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, weights, read)

    @staticmethod
    def backward(
        ctx: Any, found_grad: Tensor | None, weights_grad: Tensor | None, from_read: Tensor | None
    ) -> tuple[Tensor, ...]:
        tokens, query, key, value, weights, read = ctx.saved_tensors
        by_head = _by_head(torch.zeros_like(query) if found_grad is None else found_grad, value)
        read_grad = (by_head @ value).transpose(0, 1)
        if from_read is not None:  # only a second derivative asks
            read_grad = read_grad + from_read
        value_grad = by_head.transpose(-1, -2) @ read.transpose(0, 1)
        through = _tokens_first(tokens @ read_grad.transpose(-1, -2)).to(weights.dtype)
        scaled = weights * (through if weights_grad is None else through + weights_grad)
        logits_grad = _heads_first(scaled - weights * scaled.sum(dim=0), tokens)
        asked_grad = (logits_grad @ tokens).transpose(0, 1)
        tokens_grad = _heads_first(weights, tokens).transpose(-1, -2) @ read_grad
        tokens_grad = tokens_grad + logits_grad.transpose(-1, -2) @ _asked(query, key)
        scale = key.shape[1] ** -0.5
        key_grad = (_by_head(query, key) * scale).transpose(-1, -2) @ asked_grad
        query_grad = (asked_grad @ key.transpose(-1, -2)) * scale
        return tokens_grad, query_grad.transpose(0, 1).flatten(1), key_grad, value_grad


def _softmax_type(logits: Tensor) -> torch.dtype:
    """Half precision is too coarse for weights that sum to 1."""
    return torch.promote_types(logits.dtype, torch.float32)


def _by_head(x: Tensor, maps: Tensor) -> Tensor:
    """`[N, D]` to `[H, N, D / H]`."""
    return x.reshape(*x.shape[:-1], *maps.shape[:2]).transpose(0, 1)


def _asked(query: Tensor, key: Tensor) -> Tensor:
    """Each head's query as a question to the tokens themselves: `[N, H, D]`."""
    return ((_by_head(query, key) * key.shape[1] ** -0.5) @ key).transpose(0, 1)  # type: ignore[no-any-return]


def _tokens_first(x: Tensor) -> Tensor:
    """`[N, T, H]` to `[T, N, H]`: a softmax over a handful is twenty times faster along the first dimension."""
    return x.transpose(0, 1).contiguous()


def _heads_first(weights: Tensor, like: Tensor) -> Tensor:
    """`[T, N, H]` to `[N, H, T]`."""
    return weights.permute(1, 2, 0).to(like.dtype, memory_format=torch.contiguous_format)


def read_tokens(tokens: Tensor, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Multi-head attention of one query a document over its tokens, without their keys and values.

    `tokens` `[N, T, D]`, `query` `[N, D]`, `key` and `value` `[H, D / H, D]`: head h's maps of a token. Since
    q · (K x) = (Kᵀ q) · x and Σ w V x = V Σ w x, each head asks the tokens themselves and maps what it read: the same
    function as with T keys and values a document, at a fraction of the products and of the memory.

    Returns the heads' findings `[N, D]` and the weights `[T, N, H]`, which sum to 1 over T.
    """
    device = tokens.device.type
    if torch.is_autocast_enabled(device):
        half = torch.get_autocast_dtype(device)
        tokens, query, key, value = (x.to(half) for x in (tokens, query, key, value))
    found, weights, _ = _Read.apply(tokens, query, key, value)  # type: ignore[no-untyped-call]
    return found, weights


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
