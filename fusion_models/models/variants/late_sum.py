"""One scorer a modality, summed: the fusion that cannot combine, kept as the yardstick of interaction."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusion_models.config import ModelConfig
from fusion_models.models.attention import FeedForward
from fusion_models.models.fusion import Fused, Fusion


class LateSum(Fusion):
    """Σ over modalities of an MLP of that modality's tokens and the query.

    Given the query, the score is additive over modalities (the score head is linear), so its interaction gain is 0.
    """

    def __init__(self, config: ModelConfig, owner: tuple[int, ...]) -> None:
        super().__init__(config, owner)
        self.branches = nn.ModuleList(_branch(config, count) for count in self.token_counts)

    def forward(self, tokens: Tensor, query: Tensor) -> Fused:
        """See `Fusion.forward`."""
        parts = tokens.split_with_sizes(self.token_counts, dim=1)
        vectors = [
            branch(torch.cat([part.flatten(1), query], dim=-1))
            for branch, part in zip(self.branches, parts, strict=True)
        ]
        return Fused(torch.stack(vectors).sum(dim=0))


def _branch(config: ModelConfig, tokens: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear((tokens + 1) * config.width, config.width),
        *(FeedForward(config.width, config.dropout) for _ in range(config.layers)),
        nn.LayerNorm(config.width, bias=False),
        nn.Linear(config.width, config.width, bias=False),
    )
