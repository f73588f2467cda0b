"""The simplest fusion, a tuned weighted sum of single-modality scores, and what a ranker gains over simpler ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fusion_models.metrics.ranking import check_lists
from fusion_models.metrics.ranking_metric import NDCG_10, RankingMetric

MOST_COLUMNS = 4


@dataclass(frozen=True)
class WeightedSum:
    """Weights of single-modality scores, each standardised within its query."""

    weights: dict[str, float]
    """Not negative, summing to 1."""
    tuned_ndcg: float
    """Mean of the metric on the split that the weights were tuned on: optimistic."""

    def __call__(self, columns: Mapping[str, Tensor], valid: Tensor) -> Tensor:
        """Scores `[B, L]` float64 from columns `[B, L]` of the same names; 0 where padded."""
        if set(columns) != set(self.weights):
            raise ValueError(f"weights were tuned for {sorted(self.weights)}, the columns are {sorted(columns)}")
        return torch.stack([w * standardise(columns[name], valid) for name, w in self.weights.items()]).sum(0)


@dataclass(frozen=True)
class FusionGain:
    """What a ranker gains over the best of its rivals."""

    rival: str
    differences: Tensor
    """`[Q]`: the ranker's nDCG less the rival's, a query; for `statistics.paired_bootstrap` or `seed_interval`."""
    mean: float


def standardise(scores: Tensor, valid: Tensor) -> Tensor:
    """Mean 0 and (population) deviation 1 within each query: `[B, L]` float64; 0 in constant lists and padding.

    Raises ValueError for NaN scores of real documents.
    """
    check_lists(scores, valid)
    counts = valid.sum(1, keepdim=True).clamp(min=1)
    real = scores.double().masked_fill(~valid, 0.0)
    low, high = scores.masked_fill(~valid, torch.inf).amin(1), scores.masked_fill(~valid, -torch.inf).amax(1)
    centred = (real - real.sum(1, keepdim=True) / counts).masked_fill(~valid, 0.0)
    deviation = (centred.square().sum(1, keepdim=True) / counts).sqrt()
    return torch.where((low < high).unsqueeze(1), centred / deviation, 0.0)


def tune_weighted_sum(
    columns: Mapping[str, Tensor],
    labels: Tensor,
    valid: Tensor,
    *,
    metric: RankingMetric = NDCG_10,
    query_weights: Tensor | None = None,
    steps: int = 20,
) -> WeightedSum:
    """Weights on the simplex, in steps of 1 / `steps`, with the highest mean of a metric on a tuning split.

    Every grid point is tried: 231 for three columns, 1,771 for four (steps of 0.05). Of equal ones the most even
    weights win, then the first in the columns' order.

    Args:
        columns: name -> scores `[B, L]`, 1 to 4 of them.
        labels, valid: `[B, L]`.
        query_weights: `[B]`, what each query counts; None: all alike.

    Raises:
        ValueError: no or more than 4 columns, or no query has a relevant document, or as `ndcg`.
    """
    if not 1 <= len(columns) <= MOST_COLUMNS:
        raise ValueError(f"expected 1 to {MOST_COLUMNS} columns of scores, got {len(columns)}")
    stacked = torch.stack([standardise(scores, valid) for scores in columns.values()])
    judged = (labels > 0).logical_and(valid).any(1)
    if query_weights is not None:
        judged &= query_weights > 0
        query_weights = query_weights[judged]
    if not bool(judged.any()):
        raise ValueError("no query of the tuning split has a relevant document")
    stacked, labels, valid = stacked[:, judged], labels[judged], valid[judged]

    def merit(point: tuple[int, ...]) -> tuple[float, int]:
        weights = torch.tensor(point, dtype=torch.float64, device=stacked.device) / steps
        found = metric(torch.einsum("j,jbl->bl", weights, stacked), labels, valid)
        value = float(found.mean() if query_weights is None else (found @ query_weights) / query_weights.sum())
        return round(value, 12), -sum(w * w for w in point)

    merits = {point: merit(point) for point in _simplex(len(columns), steps)}
    best = max(merits, key=merits.__getitem__)
    return WeightedSum({name: w / steps for name, w in zip(columns, best, strict=True)}, merits[best][0])


def fusion_gain(fused: Tensor, rivals: Mapping[str, Tensor]) -> FusionGain:
    """nDCG of a fusion ranker less that of the rival with the highest mean (best single, best pair, tuned sum, ...).

    Args:
        fused: `[Q]` nDCG a query; queries that are NaN (without a relevant document) are left out on all sides.
        rivals: name -> `[Q]`, the same queries. The best is chosen on them, which favours the rivals.

    Raises:
        ValueError: no rival, or another number of queries.
    """
    if not rivals or any(values.shape != fused.shape for values in rivals.values()):
        raise ValueError(
            f"expected rivals over {tuple(fused.shape)} queries, got { {r: tuple(v.shape) for r, v in rivals.items()} }"
        )
    judged = ~fused.isnan()
    rival = max(rivals, key=lambda name: float(rivals[name][judged].mean()))
    differences = (fused - rivals[rival])[judged]
    return FusionGain(rival, differences, float(differences.mean()))


def _simplex(parts: int, steps: int) -> Iterator[tuple[int, ...]]:
    """All ways to write `steps` as an ordered sum of `parts` integers >= 0."""
    if parts == 1:
        yield (steps,)
        return
    for first in range(steps, -1, -1):
        for rest in _simplex(parts - 1, steps - first):
            yield (first, *rest)
