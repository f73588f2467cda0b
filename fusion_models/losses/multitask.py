"""Terms that ask the fused or projected features for more than a rank: reconstruction, contrast, distance from V1."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from fusion_models.data.batch import Batch
from fusion_models.losses.draws import Source, uniform
from fusion_models.losses.importance import mean_over_documents
from fusion_models.metrics import blank_pictures, ssim
from fusion_models.metrics.ranking import ranks_of
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
    """Mean squared error a feature of the suspect's standardised features, `[B, L, D_s]` (the roadmap's form)."""
    return mean_over_documents((decoded.float() - target).square().mean(dim=-1), valid, shard)


def reconstruction_cosine(decoded: Tensor, target: Tensor, valid: Tensor, shard: Shard = WHOLE) -> Tensor:
    """Mean of 1 - cosine of the suspect's standardised features, `[B, L, D_s]`."""
    return mean_over_documents(1.0 - F.cosine_similarity(decoded.float(), target, dim=-1), valid, shard)


def thumbnail_dissimilarity(decoded: Tensor, target: Tensor, valid: Tensor, shard: Shard = WHOLE) -> Tensor:
    """Mean of 1 - SSIM; `decoded` `[n, 3, S, S]` in [0, 1], `target` the same (or bytes), `valid` `[n]` bool.

    Items without a picture do not count; 0 where none has one.
    """
    truth = target.to(decoded.device).float() / 255.0 if target.dtype == torch.uint8 else target
    return mean_over_documents(1.0 - ssim(decoded.float(), truth), valid & ~blank_pictures(truth), shard)


def contrastive(
    suspect: Tensor, partner: Tensor, scale: Tensor, batch: Batch, *, generator: Source, shard: Shard = WHOLE
) -> Tensor:
    """Symmetric InfoNCE between suspect and partner (Radford et al. 2021), on a random part of the batch's documents.

    `suspect`, `partner` `[B, L, D]` of unit length, `scale` `[]`. The same item elsewhere in the batch is no negative.
    The documents are drawn from the whole batch, other processes' queries included.
    """
    whole = shard.valid(batch.valid)
    chosen = sample_documents(whole, CONTRASTIVE_DOCUMENTS, generator)
    valid, item = whole.flatten()[chosen], shard.pick(batch.item, chosen)
    own = torch.eye(len(chosen), dtype=torch.bool, device=item.device)
    negative = (item.unsqueeze(0) != item.unsqueeze(1)) & valid.unsqueeze(0) & valid.unsqueeze(1)
    left, right = shard.pick(torch.stack([suspect, partner], dim=2).float(), chosen).unbind(dim=1)
    logits = (scale * (left @ right.T)).masked_fill(~(negative | own), -1e9)
    forth, back = torch.log_softmax(logits, dim=-1).diagonal(), torch.log_softmax(logits, dim=0).diagonal()
    return -0.5 * mean_over_documents(forth + back, valid)


def rank_correlation(scores: Tensor, v1: Tensor, valid: Tensor, shard: Shard = WHOLE) -> Tensor:
    """Mean over queries of Spearman's rho of scores and V1's, `[B, L]` to a scalar; 0 where no query has one.

    The value is that of the ranks, so no monotone map of a query's scores changes it. Ranks have no gradient: it is
    that of the scores themselves, centred and scaled to unit length within their query, against V1's ranks
    (straight-through: Bengio, Léonard and Courville 2013). Queries in which a side is constant do not count.
    """
    mine, theirs = _unit(-ranks_of(scores.detach(), valid), valid), _unit(-ranks_of(v1, valid), valid)
    smooth = _unit(scores.double(), valid)
    rho = ((mine + smooth - smooth.detach()) * theirs).sum(dim=-1)
    known = (mine != 0).any(dim=-1) & (theirs != 0).any(dim=-1)
    return shard.mean(torch.where(known, rho, 0.0).sum(), known.sum()).float()


def decorrelation(scores: Tensor, v1: Tensor, valid: Tensor, *, target: float, shard: Shard = WHOLE) -> Tensor:
    """max(0, ρ² - target²) of the rank correlation with V1 where it is positive: silent below, as noise lowers it too.

    On scores, exp(2 V1) or a factor a query would lower it without moving one document.
    """
    return torch.relu(rank_correlation(scores, v1, valid, shard).clamp(min=0.0).square() - target**2)


def _unit(x: Tensor, valid: Tensor) -> Tensor:
    """Centred within each query and of unit length; 0 in padding and in constant lists."""
    x = torch.where(valid, x, 0.0)
    mean = x.sum(dim=-1, keepdim=True) / valid.sum(dim=-1, keepdim=True).clamp(min=1)
    centred = torch.where(valid, x - mean, 0.0)
    return centred / centred.square().sum(dim=-1, keepdim=True).clamp(min=1e-12).sqrt()
