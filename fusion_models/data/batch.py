"""What a step reads: a padded list of candidates a query."""

from __future__ import annotations

from collections.abc import Callable
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
    """Graded relevance, `[B, L]` float64, >= 0; 0 where padded."""
    v1: Tensor
    """The production ranker's scores, `[B, L]` float64; 0 where padded."""
    valid: Tensor
    """`[B, L]` bool: a real document."""
    query: Tensor
    """`[B]` int64: the query's row in the dataset."""
    item: Tensor
    """`[B, L]` int64: the item's row in the dataset; -1 where padded."""

    weight: Tensor | None = None
    """`[B]` float64: what each query counts, >= 0; None: 1 each."""
    v1_input: Tensor | None = None
    """`[B, L]`: V1's scores as a model reads them (`arrays.v1_scores`); None: as they are."""

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`."""
        return self.changed(lambda x: x.to(device, non_blocking=True))

    def changed(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch of what `change` makes of each tensor."""
        return Batch(
            features={m: change(x) for m, x in self.features.items()},
            context=change(self.context),
            labels=change(self.labels),
            v1=change(self.v1),
            valid=change(self.valid),
            query=change(self.query),
            item=change(self.item),
            weight=None if self.weight is None else change(self.weight),
            v1_input=None if self.v1_input is None else change(self.v1_input),
        )

    @property
    def v1_seen(self) -> Tensor:
        """`[B, L]`: V1's scores as a model reads them."""
        return self.v1 if self.v1_input is None else self.v1_input
