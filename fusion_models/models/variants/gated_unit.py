"""Gated multimodal unit."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from fusion_models.config import ModelConfig
from fusion_models.models.attention import FeedForward
from fusion_models.models.fusion import Fused, Fusion, ShareKind


class GatedUnit(Fusion):
    """h = Σ_m z_m ⊙ tanh(W_m x_m), with sigmoid gates z that see every modality (Arevalo et al. 2017).

    The query joins what the gates see and what follows the unit: `layers` feed-forward blocks. The share of a
    modality is its part of the gates' sum, averaged over channels.
    """

    share_kind: ClassVar[ShareKind] = "gate"

    def __init__(self, config: ModelConfig, owner: tuple[int, ...]) -> None:
        super().__init__(config, owner)
        width, modalities = config.width, len(config.modalities)
        self.values = nn.ModuleList(nn.Linear(count * width, width) for count in self.token_counts)
        self.gates = nn.Linear((len(owner) + 1) * width, modalities * width)
        self.query = nn.Linear(width, width)
        self.blocks = nn.Sequential(*(FeedForward(width, config.dropout) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(width, bias=False)

    def forward(self, tokens: Tensor, query: Tensor) -> Fused:
        """See `Fusion.forward`; one layer of shares."""
        parts = tokens.split_with_sizes(self.token_counts, dim=1)
        values = torch.stack(
            [torch.tanh(value(part.flatten(1))) for value, part in zip(self.values, parts, strict=True)], dim=1
        )
        gates = torch.sigmoid(self.gates(torch.cat([tokens.flatten(1), query], dim=-1))).reshape(values.shape)
        gated = gates * values
        fused = self.norm(self.blocks(gated.sum(dim=1) + self.query(query)))
        if self.training:
            return Fused(fused, _normalised(gates.mean(dim=-1)))
        return Fused(fused, _normalised(gates.mean(dim=-1)), _normalised(gated.detach().norm(dim=-1)))


def _normalised(mass: Tensor) -> Tensor:
    """`[N, M]` to shares `[N, 1, M]`."""
    return (mass / mass.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(mass.dtype).tiny)).unsqueeze(1)
