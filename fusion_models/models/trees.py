"""Boosted trees as tensors: the tuned V1 that a ranker may have in its context, scored where the ranker is scored.

LightGBM fits them (`fusion_models.tuned_v1`); here they are a handful of arrays that lie among a ranker's weights, so
that they travel, export and run wherever it does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from fusion_models.config import V1
from fusion_models.data.batch import Batch

TREES = 70
LEAVES = 15
DEPTH = 8
"""Steps from the root to the farthest leaf."""
NODES = 2 * LEAVES - 1


def document_matrix(batch: Batch, reads: Sequence[str], context: int) -> Tensor:
    """What trees read of every document, `[B, L, F]`: raw features of the modalities in `reads`, the first `context`
    columns of the context, query-item cosines, and V1's score where `reads` names it.

    Query and item features meet as one cosine a modality that is no wider than the context, since trees cannot multiply
    vectors.
    """
    modalities = [m for m in reads if m != V1]
    given = batch.context[..., :context]
    columns: list[Tensor] = [*(batch.features[m] for m in modalities), given]
    for m in modalities:
        width = batch.features[m].shape[-1]
        if 0 < width <= context:
            columns.append(torch.cosine_similarity(batch.features[m], given[..., :width], dim=-1).unsqueeze(-1))
    if V1 in reads:
        columns.append(batch.v1_seen.unsqueeze(-1))  # float64, and so is the matrix then: 1e9 + 0.1 is no float32
    return torch.cat(columns, dim=-1)


class TreeEnsemble(nn.Module):
    """`TREES` regression trees of up to `LEAVES` leaves; the sum of their leaves, standardised.

    Nodes of a tree: inner ones first, then leaves, which lead to themselves. All arrays are buffers: nothing here is
    trained by gradients. Fresh ones score 0.
    """

    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    value: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, reads: Sequence[str], context: int) -> None:
        """`reads`: see `ModelConfig.context_reads`; `context`: width of the dataset's query and pair features."""
        super().__init__()
        self.reads = tuple(reads)
        self.context = context
        own = torch.arange(NODES).repeat(TREES, 1)
        self.register_buffer("feature", torch.zeros(TREES, NODES, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(TREES, NODES, dtype=torch.float64))
        self.register_buffer("left", own)
        self.register_buffer("right", own.clone())
        self.register_buffer("value", torch.zeros(TREES, NODES))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))

    def forward(self, batch: Batch) -> Tensor:
        """Standardised scores `[B, L]` of plain lists, features not blanked; padding counts for nothing."""
        return (self.raw(batch) - self.mean) / self.std

    def raw(self, batch: Batch) -> Tensor:
        """The sums of the leaves, `[B, L]`."""
        x = document_matrix(batch, self.reads, self.context).flatten(0, 1)
        first = torch.arange(TREES, device=x.device) * NODES
        feature, threshold, value = self.feature.flatten(), self.threshold.flatten(), self.value.flatten()
        left, right = self.left.flatten(), self.right.flatten()
        place = first.expand(x.shape[0], -1)  # the roots, [N, trees]
        for _ in range(DEPTH):
            goes_left = x.gather(1, feature[place]) <= threshold[place]
            place = torch.where(goes_left, left[place], right[place]) + first
        return value[place].sum(dim=1).reshape(batch.v1.shape)

    @property
    def digest(self) -> str:
        """What the arrays decide, wherever they lie."""
        parts = b"".join(buffer.detach().cpu().contiguous().numpy().tobytes() for buffer in self.buffers())
        return hashlib.sha256(repr((self.reads, self.context)).encode() + parts).hexdigest()[:16]


def arrays_of(trees: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """LightGBM's dumped trees (`dump_model()["tree_info"]`) as the buffers of a `TreeEnsemble`.

    Raises ValueError for trees that are too many, too large or too deep, or that split by anything but `<=`.
    """
    if len(trees) > TREES:
        raise ValueError(f"{len(trees)} trees do not fit into {TREES}")
    empty = TreeEnsemble((), 0)
    out = {name: getattr(empty, name).numpy().copy() for name in ("feature", "threshold", "left", "right", "value")}
    for index, tree in enumerate(trees):
        _fill({name: array[index] for name, array in out.items()}, tree["tree_structure"])
    return {name: torch.from_numpy(array) for name, array in out.items()}


def _fill(into: dict[str, npt.NDArray[Any]], root: Mapping[str, Any]) -> None:
    """Depth first: a node is given its place when it is met, inner nodes from 0, leaves from LEAVES - 1."""
    inner, leaves = iter(range(LEAVES - 1)), iter(range(LEAVES - 1, NODES))

    def place(node: Mapping[str, Any], depth: int) -> int:
        split = "split_feature" in node
        at = next(inner if split else leaves, None)
        if at is None or depth > DEPTH:
            raise ValueError(f"a tree has more than {LEAVES} leaves, or is deeper than {DEPTH}")
        if not split:
            into["value"][at] = node["leaf_value"]
            return at
        if node["decision_type"] != "<=":
            raise ValueError(f"trees are expected to split by <=, got {node['decision_type']!r}")
        into["feature"][at] = node["split_feature"]
        into["threshold"][at] = node["threshold"]
        into["left"][at] = place(node["left_child"], depth + 1)
        into["right"][at] = place(node["right_child"], depth + 1)
        return at

    found = place(root, 0)
    if found != 0:  # a tree that is one leaf: the root, which is an inner place, stands for it
        into["value"][0] = into["value"][found]
