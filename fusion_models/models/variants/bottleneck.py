"""Attention bottleneck: modalities exchange through a few shared tokens alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from fusion_models.config import ModelConfig
from fusion_models.models.attention import FeedForward, attend, dropout, head_membership
from fusion_models.models.fusion import Fused, Fusion, ShareKind

Read = tuple[Tensor, Tensor]


class StreamLayer(nn.Module):
    """A transformer layer over one modality's tokens and the bottleneck's."""

    membership_DH: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.query = nn.Linear(config.width, config.width)
        self.keys_values = nn.Linear(config.width, 2 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width)
        self.dropout = dropout(config.dropout)
        self.feed_forward = FeedForward(config.width, config.dropout)
        self.register_buffer("membership_DH", head_membership(config.width, config.heads), persistent=False)

    def forward(self, x: Tensor, readers: int) -> tuple[Tensor, list[Read]]:
        """`x` `[N, S, D]`: the first `readers` tokens attend to all S and are returned, `[N, readers, D]`.

        Also what each of them read: its weighted values `[N, S, D]` and weights `[N, S, H]`. One reader at a time
        keeps the products in the processor's cache (at 14 tokens four times faster than all at once).
        """
        normed = self.norm(x)
        keys, values = self.keys_values(normed).chunk(2, dim=-1)
        queries = self.query(normed[:, :readers]).unbind(1)
        reads = [attend(query, keys, values, self.membership_DH) for query in queries]
        attended = torch.stack([moved.sum(dim=1) for moved, _ in reads], dim=1)
        return self.feed_forward(x[:, :readers] + self.dropout(self.out(attended))), reads


class AttentionBottleneck(Fusion):
    """MBT (Nagrani et al. 2021): each layer, every modality attends to itself and to `bottleneck_tokens` shared
    tokens; the bottleneck's next state is the mean of what each modality made of it.

    The bottleneck starts as learned tokens plus the query and ends, averaged, as the fused vector. A modality's share
    in a layer is what bottleneck tokens put on its tokens in its own stream, against the other modalities.
    """

    share_kind: ClassVar[ShareKind] = "attention"

    def __init__(self, config: ModelConfig, owner: tuple[int, ...]) -> None:
        super().__init__(config, owner)
        self.bottleneck = nn.Parameter(torch.randn(config.bottleneck_tokens, config.width))
        self.layers = nn.ModuleList(
            nn.ModuleList(StreamLayer(config) for _ in self.token_counts) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width, bias=False)

    def forward(self, tokens: Tensor, query: Tensor) -> Fused:
        """See `Fusion.forward`; one share a layer."""
        width = self.config.bottleneck_tokens
        bottleneck = self.bottleneck + query.unsqueeze(1)
        streams = list(tokens.split_with_sizes(self.token_counts, dim=1))
        shares, value_shares = [], []
        for depth, layer in enumerate(self.layers):
            last = depth == len(self.layers) - 1  # then only the bottleneck is read
            made, mass, norms = [], [], []
            assert isinstance(layer, nn.ModuleList)
            for index, stream in enumerate(layer):
                assert isinstance(stream, StreamLayer)
                joined = torch.cat([bottleneck, streams[index]], dim=1)
                x, reads = stream(joined, width if last else joined.shape[1])
                made.append(x[:, :width])
                streams[index] = x[:, width:]
                mass.append(_sum(weights[:, width:].mean(dim=-1).sum(dim=1) for _, weights in reads[:width]))
                if self.weighs_values:
                    to_output = stream.out.weight.detach().T
                    norms.append(
                        _sum(
                            (moved[:, width:].detach() @ to_output).norm(dim=-1).sum(dim=1)
                            for moved, _ in reads[:width]
                        )
                    )
            bottleneck = torch.stack(made).mean(dim=0)
            shares.append(_normalised(mass))
            value_shares += [_normalised(norms)] if norms else []
        found = torch.stack(value_shares, dim=1) if value_shares else None
        return Fused(self.norm(bottleneck.mean(dim=1)), torch.stack(shares, dim=1), found)


def _sum(parts: Iterable[Tensor]) -> Tensor:
    """The sum of tensors of one shape."""
    return torch.stack(list(parts)).sum(dim=0)


def _normalised(mass: list[Tensor]) -> Tensor:
    """M masses `[N]` to shares `[N, M]`."""
    stacked = torch.stack(mass, dim=-1)
    return stacked / stacked.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(stacked.dtype).tiny)
