"""Adversarial terms: each modality's token is half shared, half private.

A discriminator must not tell from a shared half which modality it came from; private halves are orthogonal to shared
ones.

Shapes: B queries, L candidates, M modalities, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fusion_models.losses.importance import mean_over_documents
from fusion_models.process_group import WHOLE, Shard

LITERAL_CEILING = 4.0
"""Cross-entropy beyond which the roadmap's unbounded term stops paying (ln M at an even guess)."""
SMALLEST_SQUARE = 1e-12
"""Sum of squares below which a channel counts as constant."""


def adversarial(logits: Tensor, valid: Tensor, shard: Shard = WHOLE) -> Tensor:
    """Cross-entropy of the discriminator, told which modality each shared part comes from; `[B, L, M, M]`.

    The discriminator lowers it; the encoders, behind the gradient reversal, raise it (Ganin et al. 2016). Its value
    at ln M means that the discriminator knows nothing.
    """
    own = torch.log_softmax(logits.float(), dim=-1).diagonal(dim1=-2, dim2=-1)
    return -mean_over_documents(own.mean(dim=-1), valid, shard)


def literal_adversarial(logits: Tensor, valid: Tensor, shard: Shard = WHOLE) -> Tensor:
    """The roadmap's -CE(disc(fused), uniform), clipped; `logits` `[B, L, M]`.

    As written it pays for a discriminator that is *sure*, and the fused vector has no modality to be sure of: kept
    so that the ablation can show what it does.
    """
    cross_entropy = -torch.log_softmax(logits.float(), dim=-1).mean(dim=-1)
    return -mean_over_documents(cross_entropy.clamp(max=LITERAL_CEILING), valid, shard)


def orthogonality(shared: Tensor, private: Tensor, valid: Tensor, shard: Shard = WHOLE) -> Tensor:
    """Mean squared correlation over documents between shared and private channels of a modality, `[B, L, M, D/2]`.

    Zero where the parts say nothing of each other linearly (after Bousmalis et al. 2016, whose Frobenius norm this
    is, with channels standardised so that shrinking them is no way out).
    """
    s, p = _centred(shared, valid, shard), _centred(private, valid, shard)
    products = shard.sum(torch.einsum("nmi,nmj->mij", s, p))
    squares = shard.sum(torch.stack([s.square().sum(dim=0), p.square().sum(dim=0)]))
    norms = squares.clamp(min=SMALLEST_SQUARE).sqrt()
    return (products / (norms[0].unsqueeze(-1) * norms[1].unsqueeze(-2))).square().mean()


def _centred(x: Tensor, valid: Tensor, shard: Shard) -> Tensor:
    """Channels with mean 0 over everybody's real documents, the others 0: `[B, L, M, D]` to `[N, M, D]`.

    The mean needs no gradient: products of centred channels do not change with it to first order.
    """
    real = valid.flatten()[:, None, None]
    x = torch.where(real, x.flatten(0, 1).float(), 0.0)
    mean = shard.sum(x.detach().sum(dim=0)) / shard.sum(real.sum().float()).clamp(min=1.0)
    return torch.where(real, x - mean, 0.0)
