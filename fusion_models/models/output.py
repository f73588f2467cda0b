"""What a ranker returns for a batch."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class RankerOutput(NamedTuple):
    """Scores and what the losses and measurements read. M counts the ranker's own modalities, in its order."""

    scores: Tensor
    """`[B, L]`; unspecified (but finite) where padded."""
    fused: Tensor
    """`[B, L, D]`: the representation that the score head reads."""
    projected: Tensor
    """`[B, L, M, D]`: each modality before fusion, averaged over its tokens."""
    shares: Tensor | None
    """`[B, L, K, M]`: attention (or gate) mass a layer and modality, summing to 1 over M; None: no such mechanism."""
    value_shares: Tensor | None
    """`[B, L, K, M]`: the same mass weighted by the norm of what it moved (Kobayashi et al. 2020); None likewise."""
    auxiliary: dict[str, Tensor]
    """Outputs of heads that were built: see `fusion_models.models.heads`. Empty where no gradient is recorded."""
