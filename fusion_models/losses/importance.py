"""Terms against an ignored modality: reliance on the suspect, feature variance, attention entropy, unimodal heads.

Shapes: B queries, L candidates, K layers, M modalities, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fusion_models.data.batch import Batch
from fusion_models.losses.draws import Source, uniform
from fusion_models.models.output import RankerOutput
from fusion_models.process_group import WHOLE, Shard

LITERAL_CEILING = 3.0
"""Where the roadmap's unbounded term stops paying: mean |v| of a standard normal is 0.8."""


def mean_over_documents(values: Tensor, valid: Tensor, shard: Shard = WHOLE) -> Tensor:
    """Mean of `values` `[B, L]` over real documents, everybody's included."""
    return shard.mean(torch.where(valid, values, 0.0).sum(), valid.sum())


def shuffled_within_lists(x: Tensor, valid: Tensor, generator: Source, shard: Shard = WHOLE) -> Tensor:
    """`x` `[B, L, D]` with the rows of each list's real documents in random order; padded rows stay where they are."""
    places = torch.arange(valid.shape[-1], device=valid.device).expand_as(valid)
    chance = shard.own(uniform(generator, shard.queries(len(valid)), valid.shape[-1])).to(valid.device)
    drawn = chance.masked_fill(~valid, 2.0).argsort(dim=-1)
    slots = torch.where(valid, places, places + valid.shape[-1]).argsort(dim=-1)
    filled = torch.arange(valid.shape[-1], device=valid.device) < valid.sum(dim=-1, keepdim=True)
    order = torch.empty_like(places).scatter(1, slots, torch.where(filled, drawn, slots))
    return x.gather(1, order.unsqueeze(-1).expand_as(x))


def suspect_shuffled(batch: Batch, suspect: str, generator: Source, shard: Shard = WHOLE) -> Batch:
    """The batch with the suspect's features shuffled within each list."""
    shuffled = shuffled_within_lists(batch.features[suspect], batch.valid, generator, shard)
    return batch._replace(features={**batch.features, suspect: shuffled})


def reliance(
    forward: Callable[[Batch], RankerOutput],
    shuffled: Batch,
    loss: Tensor,
    ranking: Callable[[Tensor, Tensor, Tensor], Tensor],
    *,
    margin: float,
) -> Tensor:
    """max(0, margin - (ranking loss of `shuffled` - `loss`)); see `suspect_shuffled`.

    The shuffled pass has no gradient, so the term can only be met by ranking better with the right features, never by
    breaking on wrong ones.
    """
    with torch.no_grad():
        worse = ranking(forward(shuffled).scores, shuffled.labels, shuffled.valid)
    return torch.relu(margin - (worse - loss))


def masking_gap(
    forward: Callable[[Batch], RankerOutput],
    batch: Batch,
    loss: Tensor,
    ranking: Callable[[Tensor, Tensor, Tensor], Tensor],
    *,
    suspect: str,
    margin: float,
) -> Tensor:
    """max(0, margin - (ranking loss with the suspect blanked to zero - `loss`)), the blanked pass with its gradient.

    The masking drop as a target: it can be met by breaking where the suspect is blank, though it tells nothing.
    No phase searches it; it shows what a drop alone is worth (`benchmarks/forced_masking.py`).
    """
    blank = torch.zeros_like(batch.features[suspect])
    scores = forward(batch._replace(features={**batch.features, suspect: blank})).scores
    return torch.relu(margin - (ranking(scores, batch.labels, batch.valid) - loss))


def literal_importance(projected: Tensor, valid: Tensor, shard: Shard = WHOLE) -> Tensor:
    """The roadmap's -mean |v_proj| over documents and channels, clipped; `projected` `[B, L, D]`, the suspect's.

    A bias satisfies it: kept so that the ablation can show what it does.
    """
    magnitude = mean_over_documents(projected.float().abs().mean(dim=-1), valid, shard)
    return -magnitude.clamp(max=LITERAL_CEILING)


def variance(projected: Tensor, valid: Tensor, shard: Shard = WHOLE) -> Tensor:
    """Mean over modalities and channels of max(0, 1 - std over real documents) (Bardes et al. 2022, VICReg).

    The centre needs no gradient: a sum of squares does not change with it to first order.
    """
    weights = valid[..., None, None].float()
    count = shard.sum(weights.sum()).clamp(min=2.0)
    centre = shard.sum((projected.detach().float() * weights).sum(dim=(0, 1))) / count
    spread = shard.sum(((projected.float() - centre).square() * weights).sum(dim=(0, 1))) / (count - 1.0)
    return torch.relu(1.0 - torch.sqrt(spread + 1e-4)).mean()


def share_entropy(shares: Tensor) -> Tensor:
    """Entropy over modalities as a fraction of ln M: `[..., M]` to `[...]` in [0, 1]."""
    shares = shares.float().clamp(min=1e-9)
    return -(shares * shares.log()).sum(dim=-1) / math.log(shares.shape[-1])


def attention_entropy(shares: Tensor, valid: Tensor, *, target: float, shard: Shard = WHOLE) -> Tensor:
    """max(0, target - H / ln M) of every document and layer, averaged; `shares` `[B, L, K, M]`."""
    return mean_over_documents(torch.relu(target - share_entropy(shares)).mean(dim=-1), valid, shard)


def literal_attention_entropy(shares: Tensor, valid: Tensor, shard: Shard = WHOLE) -> Tensor:
    """The roadmap's -H, in nats, of every document and layer, averaged; `shares` `[B, L, K, M]`."""
    return -mean_over_documents(share_entropy(shares).mean(dim=-1), valid, shard) * math.log(shares.shape[-1])


def unimodal(scores: Tensor, batch: Batch, ranking: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """Σ over modalities of the ranking loss of that modality's own head; `scores` `[B, L, M]`."""
    return torch.stack([ranking(s, batch.labels, batch.valid) for s in scores.unbind(dim=-1)]).sum()
