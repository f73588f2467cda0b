"""The columns that a probe sees of a document: modalities, context, their cosines, V1's score if asked for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models.data import RankingDataset
from fusion_models.data.batch import Batch
from fusion_models.evaluation import EVALUATION_QUERIES

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Standardised columns of a batch, cut at `clip` deviations: one far value must not rule a product. Pickles."""

    modalities: tuple[str, ...]
    with_v1: bool = False
    with_context: bool = True
    mean: Tensor
    """`[D]`, of the training documents."""
    scale: Tensor
    """`[D]`, 1 over the deviation; 0 for a column that never varies."""
    blocks: tuple[int, ...]
    """`[D]`: which modality a column is of; the context, the cosines and V1's score are one more."""
    clip: float = 4.0

    def __call__(self, batch: Batch) -> Tensor:
        """`[B, L, D]`, zeros where padded."""
        values = (_raw(batch, self.modalities, self.with_v1, self.with_context) - self.mean) * self.scale
        return values.clamp(-self.clip, self.clip) * batch.valid[..., None]

    @property
    def width(self) -> int:
        """D."""
        return len(self.mean)


def fit_columns(
    data: RankingDataset,
    rows: Rows,
    *,
    modalities: tuple[str, ...] | None = None,
    with_v1: bool = False,
    with_context: bool = True,
) -> Columns:
    """Columns of these modalities (default: all), standardised by the documents of the query rows `rows`.

    `with_context`: the context's columns and the cosines too.
    """
    modalities = data.schema.modalities if modalities is None else modalities
    count, total, square = 0, torch.zeros(()), torch.zeros(())
    for batch in data.batches(rows, EVALUATION_QUERIES):
        values = _raw(batch, modalities, with_v1, with_context)[batch.valid].double()
        count, total, square = count + len(values), total + values.sum(0), square + (values**2).sum(0)
    mean = total / count
    deviation = (square / count - mean**2).clamp(min=0).sqrt()
    varies = deviation > 1e-6 * mean.abs() + 1e-20  # relative: features may be on any scale
    scale = torch.where(varies, 1 / torch.where(varies, deviation, 1.0), 0.0)
    widths = [data.schema.width(m) for m in modalities]
    widths.append(len(mean) - sum(widths))  # cosines are of no modality alone
    return Columns(
        modalities=tuple(modalities),
        with_v1=with_v1,
        with_context=with_context,
        mean=mean.float(),
        scale=scale.float(),
        blocks=tuple(int(block) for block in np.repeat(np.arange(len(widths)), widths)),
    )


def cosines(batch: Batch, modalities: Sequence[str]) -> Tensor:
    """`[B, L, K]` cosine of each modality with the context's first columns, and of any two modalities of one width."""
    context = batch.context
    pairs = [
        (batch.features[m], context[..., : batch.features[m].shape[-1]])
        for m in modalities
        if 0 < batch.features[m].shape[-1] <= context.shape[-1]
    ]
    pairs += [
        (batch.features[a], batch.features[b])
        for a, b in itertools.combinations(modalities, 2)
        if batch.features[a].shape[-1] == batch.features[b].shape[-1]
    ]
    found = [torch.cosine_similarity(a, b, dim=-1) for a, b in pairs]
    return torch.stack(found, dim=-1) if found else context.new_zeros(*context.shape[:2], 0)


def centred(values: Tensor, query: Tensor) -> Tensor:
    """`[N, ...]` documents less the mean of their query; `query` `[N]` numbers from 0."""
    count = torch.bincount(query).clamp(min=1).to(values.dtype)
    sums = values.new_zeros(len(count), *values.shape[1:]).index_add_(0, query, values)
    return values - (sums / count.view(-1, *[1] * (values.dim() - 1)))[query]


def _raw(batch: Batch, modalities: tuple[str, ...], with_v1: bool, with_context: bool) -> Tensor:
    parts = [batch.features[m] for m in modalities]
    parts += [batch.context, cosines(batch, modalities)] if with_context else []
    return torch.cat([*parts, _v1(batch)] if with_v1 else parts, dim=-1)


def _v1(batch: Batch) -> Tensor:
    """`[B, L, 1]`: V1's score less its mean in the query, before it is narrowed: 1e9 + 0.1 is no float32."""
    score = batch.v1_seen.double().masked_fill(~batch.valid, 0.0)
    mean = score.sum(dim=1, keepdim=True) / batch.valid.sum(dim=1, keepdim=True).clamp(min=1)
    return (score - mean).masked_fill(~batch.valid, 0.0).float()[..., None]
