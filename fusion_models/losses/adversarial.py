"""Shared parts that no discriminator can place, and private parts that are something else.

Shapes: B queries, L candidates, M modalities, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fusion_models.losses.importance import mean_over_documents

LITERAL_CEILING = 4.0
"""Cross-entropy beyond which the roadmap's unbounded term stops paying (ln M at an even guess)."""


def adversarial(logits: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy of the discriminator, told which modality each shared part comes from; `[B, L, M, M]`.

    The discriminator lowers it; the encoders, behind the gradient reversal, raise it (Ganin et al. 2016). Its value
    at ln M means that the discriminator knows nothing.
    """
    own = torch.log_softmax(logits.float(), dim=-1).diagonal(dim1=-2, dim2=-1)
    return -mean_over_documents(own.mean(dim=-1), valid)


def literal_adversarial(logits: Tensor, valid: Tensor) -> Tensor:
    """The roadmap's -CE(disc(fused), uniform), clipped; `logits` `[B, L, M]`.

    As written it pays for a discriminator that is *sure*, and the fused vector has no modality to be sure of: kept
    so that the ablation can show what it does.
    """
    cross_entropy = -torch.log_softmax(logits.float(), dim=-1).mean(dim=-1)
    return -mean_over_documents(cross_entropy.clamp(max=LITERAL_CEILING), valid)


def orthogonality(shared: Tensor, private: Tensor, valid: Tensor) -> Tensor:
    """Mean squared correlation over documents between shared and private channels of a modality, `[B, L, M, D/2]`.

    Zero where the parts say nothing of each other linearly (after Bousmalis et al. 2016, whose Frobenius norm this
    is, with channels standardised so that shrinking them is no way out).
    """
    s, p = _standardised(shared, valid), _standardised(private, valid)
    correlation = torch.einsum("nmi,nmj->mij", s, p)
    return correlation.square().mean()


def _standardised(x: Tensor, valid: Tensor) -> Tensor:
    """Channels with mean 0 and norm 1 over the real documents, the others 0: `[B, L, M, D]` to `[N, M, D]`."""
    real = valid.flatten()[:, None, None]
    x = torch.where(real, x.flatten(0, 1).float(), 0.0)
    centred = torch.where(real, x - x.sum(dim=0) / real.sum().clamp(min=1), 0.0)
    return F.normalize(centred, dim=0, eps=1e-6)
