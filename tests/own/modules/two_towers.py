"""A team's own ranker, in a folder of its own: one tower a modality, their products with the query, a sum."""

from dataclasses import dataclass

import torch
from torch import nn

from fusion_models.own import Inputs, Ranked, Standardise, Widths
from spaces import Choice, Float


@dataclass(frozen=True)
class Settings:
    width: int = 16
    dropout: float = 0.0


SPACE = {"width": Choice(values=(8, 16, 32)), "dropout": Float(low=0.0, high=0.3)}


class TwoTowers(nn.Module):
    gives = ("projected", "fused")

    def __init__(self, settings: Settings, widths: Widths, statistics, modalities: tuple[str, ...]):
        super().__init__()
        self.scales = nn.ModuleDict({m: Standardise(statistics.mean[m], statistics.std[m]) for m in modalities})
        self.towers = nn.ModuleDict({m: nn.Linear(widths.features[m], settings.width) for m in modalities})
        self.query = nn.Linear(widths.context + 2, settings.width)
        self.mix = nn.Sequential(nn.Linear(settings.width, settings.width), nn.GELU(), nn.Dropout(settings.dropout))
        self.score = nn.Linear(settings.width, 1, bias=False)

    def forward(self, inputs: Inputs) -> Ranked:
        v1 = torch.stack([inputs.v1, inputs.tuned_v1], dim=-1)
        query = self.query(torch.cat([inputs.context, v1], dim=-1))
        projected = torch.stack([tower(self.scales[m](inputs.features[m])) for m, tower in self.towers.items()], dim=2)
        fused = self.mix((projected * torch.tanh(query).unsqueeze(2)).sum(dim=2) + query)
        return Ranked(self.score(fused).squeeze(-1), projected=projected, fused=fused)

    def encoder_parameters(self, modality: str):
        return self.towers[modality].parameters()
