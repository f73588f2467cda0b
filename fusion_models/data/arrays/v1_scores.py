"""V1's scores as a model reads them: a float32 number a candidate that keeps V1's order within every query.

Measurements read the scores themselves, in float64. A model reads them in float32 after standardising, which would
lose the order where the scores of different queries lie far apart, or where some candidates are boosted far above
the others. How a dataset's scores are read is decided once, when its arrays are built, by what keeps the order.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models.data.arrays.moments import RunningMoments

V1Input = Literal["score", "centred", "rank"]
"""`score`: as it is. `centred`: less the query's mean. `rank`: 1 for the best of the query's candidates, 0 for the
worst, ties at their mean rank."""
V1_INPUTS: tuple[V1Input, ...] = ("score", "centred", "rank")

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def v1_input_kind(v1: Floats, query: Ints) -> V1Input:
    """The first of V1_INPUTS that, standardised and in float32, keeps apart what V1 tells apart in each query.

    `v1`, `query` `[judgements]`, grouped by query.
    """
    offset = np.concatenate([[0], np.flatnonzero(np.diff(query)) + 1, [len(query)]]).astype(np.int64)
    order = np.lexsort((v1, query))
    told_apart = (np.diff(v1[order]) > 0) & (np.diff(query[order]) == 0)
    for kind in V1_INPUTS[:-1]:
        values = v1_input(v1, offset, kind)
        moments = RunningMoments(1)
        moments.update(values[:, None], np.ones(len(values)))
        seen = ((values - moments.mean[0]) / moments.std[0]).astype(np.float32)
        if (np.diff(seen[order])[told_apart] > 0).all():
            return kind
    return "rank"


def v1_input(v1: Floats, offset: Ints, kind: V1Input) -> Floats:
    """`[judgements]` V1's scores as a model reads them; `offset` `[queries + 1]` as in a dataset."""
    if kind == "score":
        return v1
    lengths = np.diff(offset)
    lengths, first = lengths[lengths > 0], offset[:-1][lengths > 0]
    row = np.repeat(np.arange(len(lengths)), lengths)
    if kind == "centred":
        anchored = v1 - v1[first][row]  # first, so that a large offset is gone before anything is summed
        return np.asarray(anchored - (np.add.reduceat(anchored, first) / lengths)[row] if len(row) else anchored)
    order = np.lexsort((v1, row))
    starts = np.concatenate([[True], (np.diff(v1[order]) != 0) | (np.diff(row[order]) != 0)])[: len(row)]
    block = np.cumsum(starts) - 1
    place = np.arange(len(row)) - first[row[order]]
    mean_place = np.bincount(block, weights=place) / np.bincount(block)
    ranks = np.empty(len(row))
    ranks[order] = mean_place[block] / np.maximum(lengths - 1, 1)[row[order]]
    return ranks


def v1_input_of_lists(v1: Tensor, valid: Tensor, kind: V1Input) -> Tensor:
    """The same of padded lists, `[B, L]` float64 and `valid` to `[B, L]`, 0 where padded: tensors, so that it exports.

    Ranks are sorted and counted, so that memory grows with L, not with its square.
    """
    if kind == "score":
        return v1
    counts = valid.sum(dim=1, keepdim=True)
    if kind == "centred":
        first = valid & (valid.cumsum(dim=1) == 1)
        anchored = v1 - v1.masked_fill(~first, 0.0).sum(dim=1, keepdim=True)
        mean = anchored.masked_fill(~valid, 0.0).sum(dim=1, keepdim=True) / counts.clamp(min=1)
        return (anchored - mean).masked_fill(~valid, 0.0)
    ordered, order = v1.masked_fill(~valid, torch.inf).sort(dim=1)
    before = torch.cat([ordered[:, :1], ordered[:, :-1]], dim=1)
    block = (ordered != before).long().cumsum(dim=1)  # of the tied
    tied = torch.zeros_like(v1).scatter_add(1, block, torch.ones_like(v1))
    place = (tied.cumsum(dim=1) - (tied + 1.0) / 2.0).gather(1, block)
    place = torch.zeros_like(v1).scatter(1, order, place)
    return (place / (counts - 1).clamp(min=1)).masked_fill(~valid, 0.0)
