"""Concatenate every token and the query, then residual feed-forward blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusion_models.config import ModelConfig
from fusion_models.models.attention import FeedForward
from fusion_models.models.fusion import Fused, Fusion


class ConcatMLP(Fusion):
    """Early fusion by concatenation: a linear map of `[tokens, query]`, then `layers` feed-forward blocks."""

    def __init__(self, config: ModelConfig, owner: tuple[int, ...]) -> None:
        super().__init__(config, owner)
        self.join = nn.Linear((len(owner) + 1) * config.width, config.width)
        self.blocks = nn.Sequential(*(FeedForward(config.width, config.dropout) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(config.width, bias=False)

    def forward(self, tokens: Tensor, query: Tensor) -> Fused:
        """See `Fusion.forward`."""
        joined = self.join(torch.cat([tokens.flatten(1), query], dim=-1))
        return Fused(self.norm(self.blocks(joined)))
