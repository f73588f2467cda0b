"""Random padded lists with ties, empty lists and junk where padded."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fusion_models.data.batch import Batch


class Lists(NamedTuple):
    a: Tensor
    b: Tensor
    labels: Tensor
    valid: Tensor


def random_lists(seed: int, queries: int = 60, length: int = 14) -> Lists:
    """Tied scores (a third of the queries coarse), list lengths from 0, holes in the padding, junk behind it."""
    generator = torch.Generator().manual_seed(seed)
    valid = torch.rand(queries, length, generator=generator) < torch.rand(queries, 1, generator=generator)
    a = torch.randn(queries, length, generator=generator, dtype=torch.float64)
    b = 0.6 * a + torch.randn(queries, length, generator=generator, dtype=torch.float64)
    coarse = torch.arange(queries) % 3 == 0
    a[coarse], b[coarse] = a[coarse].round(), b[coarse].round()
    labels = torch.randint(0, 4, (queries, length), generator=generator).double()
    labels[torch.rand(queries, generator=generator) < 0.1] = 0.0
    a[~valid], b[~valid] = float("nan"), 1e9
    labels[~valid] = -7.0
    return Lists(a, b, labels, valid)


def random_batch(seed: int, queries: int = 6, length: int = 5, widths: tuple[int, ...] = (3, 2, 4)) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, length + 1, (queries,), generator=generator)
    lengths[0] = length
    valid = torch.arange(length) < lengths[:, None]
    features = {
        name: (torch.randn(queries, length, width, generator=generator) + 1.0) * valid.unsqueeze(-1)
        for name, width in zip(("visual", "text", "metadata"), widths, strict=False)
    }
    labels = torch.randint(0, 3, (queries, length), generator=generator).float() * valid
    item = torch.arange(queries * length).view(queries, length).masked_fill(~valid, -1)
    context = torch.randn(queries, length, 2, generator=generator) * valid.unsqueeze(-1)
    v1 = torch.randn(queries, length, generator=generator) * valid
    return Batch(features, context, labels, v1, valid, torch.arange(queries), item)
