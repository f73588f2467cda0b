"""Low-rank tensor fusion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusion_models.config import ModelConfig
from fusion_models.models.attention import FeedForward
from fusion_models.models.fusion import Fused, Fusion


class LowRankTensorFusion(Fusion):
    """The outer product of every [x_m; 1] and [query; 1], contracted by a weight of rank R (Liu et al. 2018, LMF).

    h = Σ_r w_r ⊙ Π_m (W_m^r [x_m; 1]) + b. Factors start near 1, so that the product starts as a sum of the
    modalities with small interactions, whatever their number. `layers` feed-forward blocks follow.
    """

    FACTOR_STD = 0.5

    def __init__(self, config: ModelConfig, owner: tuple[int, ...]) -> None:
        super().__init__(config, owner)
        width = config.width
        self.factors = nn.ModuleList(self._factor(count * width) for count in (*self.token_counts, 1))
        self.rank_weights = nn.Parameter(torch.randn(config.rank, width) * config.rank**-0.5)
        self.bias = nn.Parameter(torch.zeros(width))
        self.blocks = nn.Sequential(*(FeedForward(width, config.dropout) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(width, bias=False)

    def _factor(self, inputs: int) -> nn.Linear:
        factor = nn.Linear(inputs, self.config.rank * self.config.width)
        nn.init.normal_(factor.weight, std=self.FACTOR_STD * inputs**-0.5)
        nn.init.ones_(factor.bias)
        return factor

    def forward(self, tokens: Tensor, query: Tensor) -> Fused:
        """See `Fusion.forward`."""
        inputs = [part.flatten(1) for part in tokens.split_with_sizes(self.token_counts, dim=1)]
        product = torch.ones((), dtype=tokens.dtype, device=tokens.device)
        for factor, x in zip(self.factors, [*inputs, query], strict=True):
            product = product * factor(x)
        ranks = product.reshape(tokens.shape[0], self.config.rank, self.config.width)
        return Fused(self.norm(self.blocks((ranks * self.rank_weights).sum(dim=1) + self.bias)))
