"""Whether the data let a result be believed: overlap of the splits, permuted labels, features that leak."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

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


def overlap(train: npt.ArrayLike, held_out: npt.ArrayLike) -> Overlap:
    """Share of the distinct ids (queries, items; numbers or texts) of a held-out split that the training split has."""
    distinct = np.unique(held_out)
    return Overlap(int(np.isin(distinct, train).sum()), len(distinct))


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
