"""A batch passed through the ranker in slices, where its activations would not fit into memory all at once.

Losses that speak of the whole batch (contrast, variance, correlation) do not split into losses of its slices. So the
slices are joined again before the loss, and only activations are given up: they are computed anew on the way back,
slice by slice (as Gao et al. 2021, GradCache). The gradient is that of the whole batch; the price is one more forward
pass.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fusion_models.data.batch import Batch
from fusion_models.models import RankerOutput, TrainableRanker
from fusion_models.process_group import concatenated


class Slices(nn.Module):
    """The ranker, called on at most `queries` queries at a time; same arguments and outputs."""

    def __init__(self, model: TrainableRanker, queries: int) -> None:
        super().__init__()
        self.model = model
        self.queries = queries

    def forward(
        self, batch: Batch, keep: Tensor | None = None, reversal: float = 0.0, decode: Tensor | None = None
    ) -> RankerOutput:
        """See `TrainableRanker.forward`."""
        count = len(batch.query)
        if count <= self.queries:
            return self.model(batch, keep, reversal, decode)  # type: ignore[no-any-return]
        parts = [self._slice(batch, keep, reversal, begin) for begin in range(0, count, self.queries)]
        out: RankerOutput = concatenated(parts)
        if decode is not None and torch.is_grad_enabled() and self.model.thumbnail is not None:
            pictures = self.model.decode_thumbnails(out.fused.flatten(0, 1)[decode])
            out = out._replace(auxiliary={**out.auxiliary, "thumbnail": pictures})
        return out

    def _slice(self, batch: Batch, keep: Tensor | None, reversal: float, begin: int) -> RankerOutput:
        def part(x: Tensor) -> Tensor:
            return x[begin : begin + self.queries]

        inputs = batch.changed(part)
        kept = None if keep is None else part(keep)
        if not torch.is_grad_enabled():
            return self.model(inputs, kept, reversal)  # type: ignore[no-any-return]
        return checkpoint(self.model, inputs, kept, reversal, use_reentrant=False)  # type: ignore[no-any-return]
