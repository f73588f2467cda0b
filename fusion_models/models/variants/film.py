"""Feature-wise linear modulation of the query by the modalities."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from fusion_models.config import ModelConfig
from fusion_models.models.attention import dropout
from fusion_models.models.fusion import Fused, Fusion


class FiLM(Fusion):
    """Residual blocks of the query, each modulated by what all modalities say (Perez et al. 2018).

    h ← h + W₂ GELU((1 + γ) ⊙ W₁ LayerNorm(h) + β), where γ and β of every block are linear in the tokens.
    """

    def __init__(self, config: ModelConfig, owner: tuple[int, ...]) -> None:
        super().__init__(config, owner)
        width, layers = config.width, config.layers
        self.modulation = nn.Linear(len(owner) * width, 2 * layers * width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.before = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.after = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.dropout = dropout(config.dropout)
        self.norm = nn.LayerNorm(width, bias=False)

    def forward(self, tokens: Tensor, query: Tensor) -> Fused:
        """See `Fusion.forward`."""
        state = query
        modulation = self.modulation(tokens.flatten(1)).chunk(2 * self.config.layers, dim=-1)
        blocks = zip(self.norms, self.before, self.after, modulation[::2], modulation[1::2], strict=True)
        for norm, before, after, scale, shift in blocks:
            hidden = F.gelu((1.0 + scale) * before(norm(state)) + shift)
            state = state + self.dropout(after(hidden))
        return Fused(self.norm(state))
