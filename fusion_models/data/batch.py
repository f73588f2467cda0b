"""What a step reads: a padded list of candidates a query."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Shape suffixes used across the packages:
# B queries of a batch, L candidates (padded), M modalities, K layers, T tokens, D width, N = B * L documents.


class Batch(NamedTuple):
    """B queries with L candidates each, shorter lists padded; raw (not standardised) float32 features."""

    features: dict[str, Tensor]
    """Each modality's features, `[B, L, D_m]`; zeros where padded."""
    context: Tensor
    """Query and pair features, `[B, L, D_c]`; D_c may be 0. Kept under every blank.

    One more column behind them is a tuned V1's score, for a ranker that reads it (`fusion_models.tuned_v1`).
    """
    labels: Tensor
    """Graded relevance, `[B, L]`, >= 0; 0 where padded."""
    v1: Tensor
    """The production ranker's scores, `[B, L]`; 0 where padded."""
    valid: Tensor
    """`[B, L]` bool: a real document."""
    query: Tensor
    """`[B]` int64: the query's row in the dataset."""
    item: Tensor
    """`[B, L]` int64: the item's row in the dataset; -1 where padded."""

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`."""
        return Batch(
            {m: x.to(device, non_blocking=True) for m, x in self.features.items()},
            *(x.to(device, non_blocking=True) for x in self[1:]),
        )
