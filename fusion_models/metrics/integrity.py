"""Whether the data let a result be believed: overlap of the splits, permuted labels, features that leak."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models.metrics.intervals.interval import Floats
from fusion_models.metrics.ranking import check_lists, permutation_within

PAIRS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Overlap:
    """How much of a held-out split the training split has already."""

    shared: int
    total: int

    @property
    def share(self) -> float:
        """Fraction of the held-out split; 0 where it is empty."""
        return self.shared / self.total if self.total else 0.0

    @property
    def isolation(self) -> float:
        """1 - overlap."""
        return 1.0 - self.share


@dataclass(frozen=True)
class Suspicion:
    """A feature that orders candidates as V1 or the label does."""

    feature: int
    """Its column."""
    target: str
    """`v1` or `label`."""
    kind: str
    """`equal`, or `monotone`: the same order (or exactly the reverse) in nearly every query."""
    queries: float
    """Fraction of the telling queries in which it holds."""


def overlap(train: Iterable[Hashable], held_out: Iterable[Hashable]) -> Overlap:
    """Share of the distinct ids (queries, items) of a held-out split that also occur in the training split."""
    distinct = set(held_out)
    return Overlap(len(distinct & set(train)), len(distinct))


def near_duplicates(
    train: npt.ArrayLike, held_out: npt.ArrayLike, *, decimals: int = 4, cosine: float = 0.999
) -> npt.NDArray[np.bool_]:
    """Which held-out rows have a near-duplicate among the training rows: `[N, D]`, `[M, D]` -> `[M]`.

    Near: equal after rounding to `decimals`, or at a cosine of at least `cosine` (zero rows have none). Few columns,
    or columns far from 0, make cosines high for rows that are not alike: hand in centred features, many columns wide.
    """
    left, right = np.asarray(train, dtype=np.float64), np.asarray(held_out, dtype=np.float64)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise ValueError(f"expected [N, D] and [M, D], got {left.shape} and {right.shape}")
    # Adding 0.0 makes -0.0 the same bytes as 0.0.
    known = {row.tobytes() for row in np.round(left, decimals) + 0.0}
    found = np.array([row.tobytes() in known for row in np.round(right, decimals) + 0.0], dtype=np.bool_)
    directions, queries = _directions(left), _directions(right)
    step = max(1, PAIRS_AT_ONCE // max(1, len(left)))
    for start in range(0, len(right) if len(left) else 0, step):
        block = slice(start, start + step)
        found[block] |= (queries[block] @ directions.T).max(1) >= cosine
    return found


def permute_labels(labels: Tensor, valid: Tensor, generator: torch.Generator) -> Tensor:
    """Labels changed round at random among the real documents of each query: `[B, L]`, padding kept.

    A ranker retrained on them must fall to chance (`ndcg.chance_ndcg`).
    """
    return labels.gather(1, permutation_within(valid, generator))


def suspicious_features(
    features: Tensor, labels: Tensor, v1: Tensor, valid: Tensor, *, share: float = 0.95
) -> list[Suspicion]:
    """Features that equal V1's score or the label, or order the candidates exactly as it does.

    A query is telling where the target differs between at least two pairs of its documents. `monotone`: in at least
    `share` of the telling queries every pair that the target orders is ordered the same way by the feature (or in
    all of those reversed). Read on many queries: on a few short lists chance does that too.

    Args:
        features: `[B, L, D]`. labels, v1, valid: `[B, L]`.

    Returns:
        One entry a feature and target, by feature; empty where nothing is suspicious.
    """
    check_lists(labels, valid, v1)
    found = []
    for column in range(features.shape[-1]):
        feature = features[..., column]
        for name, target in (("v1", v1), ("label", labels)):
            suspicion = _suspicion(column, name, feature, target, valid, share)
            if suspicion is not None:
                found.append(suspicion)
    return found


def _suspicion(
    column: int, name: str, feature: Tensor, target: Tensor, valid: Tensor, share: float
) -> Suspicion | None:
    step = max(1, PAIRS_AT_ONCE // max(1, valid.shape[1]) ** 2)
    counts = [
        _pair_counts(f, t, v) for f, t, v in zip(*(torch.split(x, step) for x in (feature, target, valid)), strict=True)
    ]
    ordered, agreed, reversed_ = torch.cat(counts, dim=1)
    telling = ordered >= 2
    total = int(telling.sum())
    if total == 0:
        return None
    same = max(int((agreed == ordered)[telling].sum()), int((reversed_ == ordered)[telling].sum())) / total
    if same < share:
        return None
    equal = torch.allclose(feature[valid].double(), target[valid].double(), rtol=1e-5, atol=1e-7)
    return Suspicion(column, name, "equal" if equal else "monotone", same)


def _pair_counts(feature: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Pairs that the target orders; of those the feature orders alike; and in reverse: `[3, B]`."""
    above = (target[:, :, None] > target[:, None, :]) & valid[:, :, None] & valid[:, None, :]
    left, right = feature[:, :, None], feature[:, None, :]
    return torch.stack([above.sum((1, 2)), (above & (left > right)).sum((1, 2)), (above & (left < right)).sum((1, 2))])


def _directions(rows: Floats) -> Floats:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1.0)
