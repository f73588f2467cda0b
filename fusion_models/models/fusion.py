"""What every fusion variant is: tokens and a query in, one vector a document out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from fusion_models.config import ModelConfig

ShareKind = Literal["attention", "gate", "gradient_times_input"]


class Fused(NamedTuple):
    """What a fusion returns for N documents."""

    vector: Tensor
    """`[N, D]`."""
    shares: Tensor | None = None
    """`[N, K, M]`, summing to 1 over M; None where `share_kind` is gradient_times_input."""
    value_shares: Tensor | None = None
    """`[N, K, M]`, the same weighted by the norm of the values (Kobayashi et al. 2020).

    Never differentiated; left out (None) in training mode and where only scores are wanted.
    """


class Fusion(nn.Module, ABC):
    """Joins T modality tokens and a query embedding of width D into one vector a document.

    `owner[t]` is the index of the modality that token t belongs to; tokens of one modality are neighbours.
    """

    share_kind: ClassVar[ShareKind] = "gradient_times_input"
    owner_TM: Tensor

    def __init__(self, config: ModelConfig, owner: tuple[int, ...]) -> None:
        super().__init__()
        self.config = config
        self.scores_only = False
        self.trains_shares = False
        self.token_counts = tuple(owner.count(m) for m in range(len(config.modalities)))
        one_hot = torch.nn.functional.one_hot(torch.tensor(owner), len(config.modalities)).float()
        self.register_buffer("owner_TM", one_hot, persistent=False)

    @property
    def gives_shares(self) -> bool:
        """Whether shares are worked out: to be measured, or because a loss term reads them (`trains_shares`)."""
        return self.trains_shares if self.training else True

    @property
    def weighs_values(self) -> bool:
        """Whether value shares, which only a measurement reads, are worked out."""
        return not self.training and not self.scores_only

    @abstractmethod
    def forward(self, tokens: Tensor, query: Tensor) -> Fused:
        """`tokens` `[N, T, D]`, `query` `[N, D]`."""

    def per_modality(self, mass: Tensor) -> Tensor:
        """Mass on tokens `[..., T]` as shares of the modalities `[..., M]` that sum to 1."""
        summed = mass @ self.owner_TM
        return summed / summed.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(summed.dtype).tiny)
