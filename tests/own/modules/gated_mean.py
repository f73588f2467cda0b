from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fusion_models.own import Fused, Fusion, ModelConfig
from spaces import Choice


@dataclass(frozen=True)
class Settings:
    hidden: int = 16


SPACE = {"hidden": Choice(values=(8, 16, 32))}


class GatedMean(Fusion):
    """The mean of the modality tokens, each weighed by a gate that sees it beside the query."""

    share_kind = "gate"

    def __init__(self, config: ModelConfig, owner: tuple[int, ...], settings: Settings):
        super().__init__(config, owner)
        self.gate = nn.Sequential(
            nn.Linear(2 * config.width, settings.hidden), nn.GELU(), nn.Linear(settings.hidden, 1, bias=False)
        )

    def forward(self, tokens: Tensor, query: Tensor) -> Fused:
        asked = query.unsqueeze(1).expand_as(tokens)
        gates = self.gate(torch.cat([tokens, asked], dim=-1)).softmax(dim=1)
        shares = self.per_modality(gates.squeeze(-1)).unsqueeze(1)
        return Fused((gates * tokens).sum(dim=1) + query, shares)
