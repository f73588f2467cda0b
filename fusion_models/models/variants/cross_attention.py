"""The roadmap's V2: a query token that reads the modality tokens, layer after layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from fusion_models.config import ModelConfig
from fusion_models.models.attention import FeedForward, attend, dropout, head_membership, read_tokens
from fusion_models.models.fusion import Fused, Fusion, ShareKind

MANY_TOKENS = 8
"""From so many on a query asks the tokens themselves; below, keys and values are made of them. On a CPU the former was
slower for 3 and 6 tokens and quicker for 14; the bound between is a guess."""

Attention = Callable[[Tensor], tuple[Tensor, Tensor]]
"""A query `[N, D]` -> what its heads found `[N, D]`, and their weights `[T, N, H]`."""


class CrossAttentionLayer(nn.Module):
    """One transformer layer of the query token: attention over the modality tokens, then feed-forward."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.query = nn.Linear(config.width, config.width)
        self.out = nn.Linear(config.width, config.width)
        self.dropout = dropout(config.dropout)
        self.feed_forward = FeedForward(config.width, config.dropout)

    def forward(self, state: Tensor, attention: Attention) -> tuple[Tensor, Tensor]:
        """The new state `[N, D]` and the weights `[T, N, H]`."""
        found, weights = attention(self.query(self.norm(state)))
        state = state + self.dropout(self.out(found))
        return self.feed_forward(state), weights


class CrossAttention(Fusion):
    """`layers` pre-norm transformer layers; each has its own keys and values of the same modality tokens.

    Only the query token has a state: it is the one output that the score reads. What modalities say to each other
    passes through it (a later layer attends with what earlier ones found), so a layer costs one query a document
    whatever the number of tokens. The query token is no key, so shares sum to 1 over the modalities with nothing left
    out.
    """

    share_kind: ClassVar[ShareKind] = "attention"
    membership_DH: Tensor

    def __init__(self, config: ModelConfig, owner: tuple[int, ...]) -> None:
        super().__init__(config, owner)
        # No bias: a key's is cancelled by the softmax, a value's is part of the output's.
        self.keys_values = nn.Linear(config.width, 2 * config.layers * config.width, bias=False)
        self.layers = nn.ModuleList(CrossAttentionLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, bias=False)
        self.register_buffer("membership_DH", head_membership(config.width, config.heads), persistent=False)

    def forward(self, tokens: Tensor, query: Tensor) -> Fused:
        """See `Fusion.forward`; one share a layer."""
        state = query
        masses, norms = [], []
        heads, width = self.config.heads, self.config.width
        maps = self.keys_values.weight.reshape(-1, heads, width // heads, width).unbind(0)
        attentions = self._attentions(tokens, maps)
        for layer, attention, value in zip(self.layers, attentions, maps[1::2], strict=True):
            assert isinstance(layer, CrossAttentionLayer)
            state, weights = layer(state, attention)
            if self.gives_shares:
                masses.append(weights.mean(dim=-1).T)
            if self.weighs_values:
                norms.append(self._value_norms(tokens, value, weights, layer.out.weight))
        shares = self.per_modality(torch.stack(masses, dim=1)) if masses else None
        value_shares = self.per_modality(torch.stack(norms, dim=1)) if norms else None
        return Fused(self.norm(state), shares, value_shares)

    def _attentions(self, tokens: Tensor, maps: tuple[Tensor, ...]) -> list[Attention]:
        """Each layer's attention over the tokens; `maps` `[H, D / H, D]`: key and value of the layers in turn."""
        pairs = list(zip(maps[::2], maps[1::2], strict=True))
        if tokens.shape[1] >= MANY_TOKENS:
            return [partial(read_tokens, tokens, key=key, value=value) for key, value in pairs]
        # Tokens come first, `[T, N, D]`: a softmax and sums over a handful of them then run along memory.
        first = tokens.transpose(0, 1).contiguous()
        made = [[nn.functional.linear(first, each.flatten(0, 1)) for each in pair] for pair in pairs]
        return [partial(self._attend, keys=keys, values=values) for keys, values in made]

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        moved, weights = attend(query, keys, values, self.membership_DH, dim=0)
        return moved.sum(dim=0), weights

    @torch.no_grad()
    def _value_norms(self, tokens: Tensor, value: Tensor, weights: Tensor, out: Tensor) -> Tensor:
        """`[N, T]`: the norm of what each token adds to a layer's output."""
        values = nn.functional.linear(tokens, value.flatten(0, 1))
        moved = (weights.transpose(0, 1).to(values.dtype) @ self.membership_DH.T) * values
        return torch.linalg.vector_norm(nn.functional.linear(moved, out), dim=-1)  # type: ignore[no-any-return]
