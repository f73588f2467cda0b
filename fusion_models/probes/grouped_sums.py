"""Sums over documents whose standard error knows which documents stand together."""

from __future__ import annotations

import torch
from torch import Tensor


class GroupedSums:
    """Sums `[D]` over groups of documents, none of which is held; in float64, so that machines agree."""

    total: Tensor
    """`[D]`."""

    def __init__(self) -> None:
        self.total = self._square = self._weighted = torch.zeros((), dtype=torch.float64)
        self._groups, self._size, self._square_size = 0, 0.0, 0.0

    def add(self, sums: Tensor, sizes: Tensor) -> None:
        """`sums` `[G, D]` of G groups of `sizes` `[G]` documents."""
        self.total, self._square = self.total + sums.sum(0), self._square + (sums**2).sum(0)
        self._weighted = self._weighted + (sums * sizes[:, None]).sum(0)
        self._groups += len(sums)
        self._size += float(sizes.sum())
        self._square_size += float((sizes**2).sum())

    def error(self) -> Tensor:
        """Standard error `[D]` of `total`, were the groups independent: of what each differs from its share by."""
        mean = self.total / max(self._size, 1.0)
        spread = self._square - 2 * mean * self._weighted + mean**2 * self._square_size
        found: Tensor = (spread.clamp(min=0.0) * self._groups / max(self._groups - 1, 1)).sqrt()
        return found
