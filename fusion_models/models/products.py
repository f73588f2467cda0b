"""Products of two projections of a modality's features: what tells nothing by any one of them alone.

A factorisation machine's second-order part (Rendle 2010) inside one modality: p = (z'U) * (z'V), of standardised
features z cut at `CLIP` deviations. A linear projection finds nothing in a sign code, where one column holds a random
sign and another the signal times that sign; an attention or a gate behind it has nothing left to find.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

CLIP = 4.0
"""Deviations at which a feature is cut: one far value must not rule a product."""


class ProductUnits(nn.Module):
    """K products `[N, K]` of a modality's raw features `[B, L, D]`; N = B * L.

    Of the last K // 2 only the sign of the left projection counts. Its gradient is 0, so those left sides stay where
    they start. Which units are signed is decided by their place alone: all trainings of one structure agree on it.
    """

    mean: Tensor
    scale: Tensor
    signed: Tensor

    def __init__(self, mean: np.ndarray, std: np.ndarray, count: int) -> None:
        super().__init__()
        width = len(mean)
        varies = std > 1e-6 * np.abs(mean) + 1e-20  # relative: features may be on any scale
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer(
            "scale", torch.tensor(np.where(varies, 1 / np.where(varies, std, 1.0), 0.0), dtype=torch.float32)
        )
        self.register_buffer("signed", torch.arange(count) >= count - count // 2)
        self.left = nn.Parameter(torch.zeros(width, count))
        self.right = nn.Parameter(torch.zeros(width, count))

    def standardised(self, x: Tensor) -> Tensor:
        """`[N, D]` of raw features `[B, L, D]`."""
        return ((x.float() - self.mean) * self.scale).clamp(-CLIP, CLIP).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, K]`."""
        z = self.standardised(x)
        left = z @ self.left
        return torch.where(self.signed, left.sign(), left) * (z @ self.right)

    @torch.no_grad()
    def start_from(self, left: Tensor, right: Tensor, signed: Tensor) -> None:
        """Start each unit at a product of its kind: `left` and `right` `[D, k]`, `signed` `[k]`, the surest first.

        Units beyond them are 0, and stay so: a product of noise costs more than it finds.
        """
        self.left.zero_()
        self.right.zero_()
        for kind in (False, True):
            places, given = (torch.nonzero(mine == kind)[:, 0] for mine in (self.signed, signed))
            count = min(len(places), len(given))
            self.left[:, places[:count]] = left[:, given[:count]]
            self.right[:, places[:count]] = right[:, given[:count]]
