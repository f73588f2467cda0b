"""Terms that ask the fused or projected features for more than a rank: reconstruction, contrast, distance from V1."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from fusion_models.data.batch import Batch
from fusion_models.losses.draws import Source, uniform
from fusion_models.losses.importance import mean_over_documents
from fusion_models.metrics import ssim
from fusion_models.process_group import WHOLE, Shard

THUMBNAIL_DOCUMENTS = 16
"""How many documents of a batch a thumbnail is decoded of."""
CONTRASTIVE_DOCUMENTS = 256
"""How many documents of a batch are told apart: the cost grows with the square."""

Reconstruction = Callable[[Tensor, Tensor, Tensor, Shard], Tensor]


def sample_documents(valid: Tensor, count: int, generator: Source) -> Tensor:
    """`[n]` int64 indices into the flattened `valid` `[B, L]`: real documents, uniformly, without repetition.

    n is `count` or all B * L places, if fewer; where a batch has fewer real documents than n, padded places fill up.
    """
    chance = uniform(generator, valid.numel()).to(valid.device)
    return (chance + valid.flatten()).topk(min(count, valid.numel())).indices


def reconstruction_mse(decoded: Tensor, target: Tensor, valid: Tensor, shard: Shard = WHOLE) -> Tensor:
    """Mean squared error a feature of the standardised visual features, `[B, L, D_v]` (the roadmap's form)."""
    return mean_over_documents((decoded.float() - target).square().mean(dim=-1), valid, shard)


def reconstruction_cosine(decoded: Tensor, target: Tensor, valid: Tensor, shard: Shard = WHOLE) -> Tensor:
    """Mean of 1 - cosine of the standardised visual features, `[B, L, D_v]`."""
    return mean_over_documents(1.0 - F.cosine_similarity(decoded.float(), target, dim=-1), valid, shard)


def thumbnail_dissimilarity(decoded: Tensor, target: Tensor, valid: Tensor, shard: Shard = WHOLE) -> Tensor:
    """Mean of 1 - SSIM; `decoded` `[n, 3, S, S]` in [0, 1], `target` the same (or bytes), `valid` `[n]` bool."""
    truth = target.to(decoded.device).float() / 255.0 if target.dtype == torch.uint8 else target
    return mean_over_documents(1.0 - ssim(decoded.float(), truth), valid, shard)


def contrastive(
    visual: Tensor, text: Tensor, scale: Tensor, batch: Batch, *, generator: Source, shard: Shard = WHOLE
) -> Tensor:
    """Symmetric InfoNCE between images and texts (Radford et al. 2021), on a random part of the batch's documents.

    `visual`, `text` `[B, L, D]` of unit length, `scale` `[]`. The same item elsewhere in the batch is no negative.
    The documents are drawn from the whole batch, other processes' queries included.
    """
    whole = shard.valid(batch.valid)
    chosen = sample_documents(whole, CONTRASTIVE_DOCUMENTS, generator)
    valid, item = whole.flatten()[chosen], shard.pick(batch.item, chosen)
    own = torch.eye(len(chosen), dtype=torch.bool, device=item.device)
    negative = (item.unsqueeze(0) != item.unsqueeze(1)) & valid.unsqueeze(0) & valid.unsqueeze(1)
    left, right = shard.pick(torch.stack([visual, text], dim=2).float(), chosen).unbind(dim=1)
    logits = (scale * (left @ right.T)).masked_fill(~(negative | own), -1e9)
    forth, back = torch.log_softmax(logits, dim=-1).diagonal(), torch.log_softmax(logits, dim=0).diagonal()
    return -0.5 * mean_over_documents(forth + back, valid)


def centred_squared_correlation(scores: Tensor, v1: Tensor, valid: Tensor, shard: Shard = WHOLE) -> Tensor:
    """Squared Pearson correlation over all documents of scores centred within their query; `[B, L]` to a scalar.

    0 where either side is constant in every query.
    """
    x, y = _centred(scores.double(), valid), _centred(v1.double(), valid)
    xy, xx, yy = shard.sum(torch.stack([(x * y).sum(), x.square().sum(), y.square().sum()])).unbind()
    return (xy.square() / (xx * yy).clamp(min=1e-12)).float()


def decorrelation(scores: Tensor, v1: Tensor, valid: Tensor, *, target: float, shard: Shard = WHOLE) -> Tensor:
    """max(0, r² - target²) of the within-query correlation with V1: silent below, as noise lowers it too."""
    return torch.relu(centred_squared_correlation(scores, v1, valid, shard) - target**2)


def _centred(x: Tensor, valid: Tensor) -> Tensor:
    x = torch.where(valid, x, 0.0)
    mean = x.sum(dim=-1, keepdim=True) / valid.sum(dim=-1, keepdim=True).clamp(min=1)
    return torch.where(valid, x - mean, 0.0)
