"""Order and ties of padded lists: what every rank measurement stands on."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class TieBlocks(NamedTuple):
    """Lists sorted best first, real documents before padding, cut into blocks of equal scores."""

    order: Tensor
    """`[B, L]` int64: the document at each position."""
    block: Tensor
    """`[B, L]` int64: each position's block, counted from 0; padding forms blocks of its own."""


def check_lists(scores: Tensor, valid: Tensor, *others: Tensor) -> None:
    """Raise ValueError unless all are `[B, L]`, `valid` is bool, and no real document's score is NaN."""
    for tensor in (scores, *others):
        if tensor.ndim != 2 or tensor.shape != valid.shape:
            raise ValueError(f"expected lists of one shape [B, L], got {tuple(tensor.shape)} and {tuple(valid.shape)}")
    if valid.dtype != torch.bool:
        raise ValueError(f"`valid` must be bool, got {valid.dtype}")
    broken = torch.isnan(scores) & valid
    if bool(broken.any()):
        row, column = (int(i) for i in broken.nonzero()[0])
        raise ValueError(
            f"{int(broken.sum())} scores of real documents are NaN (first: query {row}, candidate {column}); "
            "a ranking of them means nothing: look for a diverged training"
        )


def tie_blocks(scores: Tensor, valid: Tensor) -> TieBlocks:
    """Sort each list by descending score and find its ties. `scores`, `valid`: `[B, L]`; infinities are allowed."""
    by_score = torch.argsort(scores, dim=1, descending=True, stable=True)
    order = by_score.gather(1, torch.argsort((~valid).gather(1, by_score).to(torch.uint8), dim=1, stable=True))
    ordered, real = scores.gather(1, order), valid.gather(1, order)
    starts = torch.ones_like(real)
    starts[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]) | (real[:, 1:] != real[:, :-1])
    return TieBlocks(order, starts.long().cumsum(1) - 1)


def block_means(values: Tensor, block: Tensor) -> Tensor:
    """Each position's mean over its block. `values`: `[B, L]` float64; `block`: `[B, L]`, as `tie_blocks` gives it."""
    sums = torch.zeros_like(values).scatter_add(1, block, values)
    sizes = torch.zeros_like(values).scatter_add(1, block, torch.ones_like(values))
    return (sums / sizes.clamp(min=1)).gather(1, block)


def average_ranks(scores: Tensor, valid: Tensor) -> Tensor:
    """Rank of each document, 1 = best, ties sharing their mean rank: `[B, L]` float64, 0 where padded.

    Raises ValueError for NaN scores of real documents.
    """
    check_lists(scores, valid)
    return ranks_of(scores, valid)


def ranks_of(scores: Tensor, valid: Tensor) -> Tensor:
    """`average_ranks` of lists that need no check: without a word to the host, as `torch.func.vmap` asks."""
    order, block = tie_blocks(scores, valid)
    positions = torch.arange(1, scores.shape[1] + 1, dtype=torch.float64, device=scores.device).expand(scores.shape)
    ranks = torch.zeros_like(positions).scatter(1, order, block_means(positions.contiguous(), block))
    return ranks * valid


def first_ranks(scores: Tensor, valid: Tensor) -> Tensor:
    """Rank of each document, 1 = best, ties sharing their first rank ("1224"): `[B, L]` int64, 0 where padded.

    Raises ValueError for NaN scores of real documents.
    """
    check_lists(scores, valid)
    order, block = tie_blocks(scores, valid)
    positions = torch.arange(1, scores.shape[1] + 1, device=scores.device).expand(scores.shape)
    firsts = torch.full_like(positions, scores.shape[1] + 1).scatter_reduce(1, block, positions, reduce="amin")
    return torch.zeros_like(positions).scatter(1, order, firsts.gather(1, block)) * valid


def permutation_within(valid: Tensor, generator: torch.Generator) -> Tensor:
    """`[B, L]` int64: for each place the place it takes its value from; real documents of a list change places
    uniformly at random, padding stays padding. `generator` may live on another device than `valid`."""
    keys = torch.rand(valid.shape, generator=generator, device=generator.device).to(valid.device)
    source = torch.argsort(keys.masked_fill(~valid, 2.0), dim=1, stable=True)
    target = torch.argsort((~valid).to(torch.uint8), dim=1, stable=True)
    return torch.empty_like(source).scatter_(1, target, source)
