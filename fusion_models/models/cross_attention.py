"""The roadmap's V2: a query token that reads the modality tokens, layer after layer."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from fusion_models.config import ModelConfig
from fusion_models.models.attention import FeedForward, attend, dropout, head_membership
from fusion_models.models.fusion import Fused, Fusion, ShareKind


class CrossAttentionLayer(nn.Module):
    """One transformer layer of the query token: attention over the modality tokens, then feed-forward."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.query = nn.Linear(config.width, config.width)
        self.out = nn.Linear(config.width, config.width)
        self.dropout = dropout(config.dropout)
        self.feed_forward = FeedForward(config.width, config.dropout)

    def forward(self, state: Tensor, keys: Tensor, values: Tensor, membership: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The new state `[N, D]`, the weighted values `[T, N, D]` and the weights `[T, N, H]`."""
        moved, weights = attend(self.query(self.norm(state)), keys, values, membership, dim=0)
        state = state + self.dropout(self.out(moved.sum(dim=0)))
        return self.feed_forward(state), moved, weights


class CrossAttention(Fusion):
    """`layers` pre-norm transformer layers; each has its own keys and values of the same modality tokens.

    Only the query token has a state: it is the one output that the score reads. What modalities say to each other
    passes through it (a later layer attends with what earlier ones found), so a layer costs one query a document
    whatever the number of tokens. The query token is no key, so shares sum to 1 over the modalities with nothing left
    out. Inside, tokens come first (`[T, N, D]`): a softmax and sums over a handful of tokens then run along memory.
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
        tokens = tokens.transpose(0, 1).contiguous()
        maps = self.keys_values.weight.chunk(2 * self.config.layers)
        projected = [nn.functional.linear(tokens, weight) for weight in maps]  # each whole in memory
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, CrossAttentionLayer)
            state, moved, weights = layer(state, projected[2 * index], projected[2 * index + 1], self.membership_DH)
            masses.append(weights.mean(dim=-1).T)
            if self.weighs_values:
                norms.append((moved.detach() @ layer.out.weight.detach().T).norm(dim=-1).T)
        shares = self.per_modality(torch.stack(masses, dim=1))
        value_shares = self.per_modality(torch.stack(norms, dim=1)) if norms else None
        return Fused(self.norm(state), shares, value_shares)
