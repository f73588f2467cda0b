from dataclasses import dataclass

import torch
from torch import nn

from fusion_models.own import FeatureStatistics, Inputs, Ranked, Standardise, Widths
from spaces import Choice, Float


@dataclass(frozen=True)
class Settings:
    width: int = 16
    dropout: float = 0.0


SPACE = {"width": Choice(values=(8, 16, 32)), "dropout": Float(low=0.0, high=0.3)}


class TwoTowers(nn.Module):
    """A tower for each modality and one for the query; their products, mixed, are the score."""

    gives = ("projected", "fused")

    def __init__(self, settings: Settings, widths: Widths, statistics: FeatureStatistics, modalities: tuple[str, ...]):
        super().__init__()
        width = settings.width
        self.scales = nn.ModuleDict({m: Standardise(statistics.mean[m], statistics.std[m]) for m in modalities})
        self.towers = nn.ModuleDict({m: nn.Linear(widths.features[m], width) for m in modalities})
        self.query = nn.Linear(widths.context + 2, width)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Dropout(settings.dropout))
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, inputs: Inputs) -> Ranked:
        v1 = torch.stack([inputs.v1, inputs.tuned_v1], dim=-1)
        query = self.query(torch.cat([inputs.context, v1], dim=-1))
        parts = zip(self.scales.values(), self.towers.values(), inputs.features.values(), strict=True)
        projected = torch.stack([tower(scale(x)) for scale, tower, x in parts], dim=2)
        fused = self.mix((projected * query.tanh().unsqueeze(2)).sum(dim=2) + query)
        return Ranked(self.score(fused).squeeze(-1), projected, fused)

    def encoder_parameters(self, modality: str):
        return self.towers[modality].parameters()
