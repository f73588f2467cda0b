"""The simplest fusion, a tuned weighted sum of single-modality scores, and what a ranker gains over simpler ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from fusion_models.metrics.ranking import check_lists
from fusion_models.metrics.ranking_metric import NDCG_10, RankingMetric

WHOLE_GRID = 4
"""Columns up to which every point of the grid is tried."""

Point = tuple[int, ...]
"""Weights in steps, in the columns' order."""


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
    """`[Q]`: the ranker's nDCG less the rival's, a query; for `paired_bootstrap` or `seed_interval`."""
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

    Every grid point is tried: 231 for three columns, 1,771 for four (steps of 0.05). From five on the grid is climbed
    from even weights and from each column alone: whatever exchange between two columns helps most is made, by a fifth,
    a tenth and at last by one step, until none helps. Of equal points the most even weights win, then the first in the
    columns' order.

    Args:
        columns: name -> scores `[B, L]`, at least one.
        labels, valid: `[B, L]`.
        query_weights: `[B]`, what each query counts; None: all alike.

    Raises:
        ValueError: no columns, or no query has a relevant document, or as `ndcg`.
    """
    if not columns:
        raise ValueError("expected columns of scores, got none")
    stacked = torch.stack([standardise(scores, valid) for scores in columns.values()])
    judged = (labels > 0).logical_and(valid).any(1)
    if query_weights is not None:
        judged &= query_weights > 0
        query_weights = query_weights[judged]
    if not bool(judged.any()):
        raise ValueError("no query of the tuning split has a relevant document")
    stacked, labels, valid = stacked[:, judged], labels[judged], valid[judged]

    @cache
    def merit(point: Point) -> tuple[float, int]:
        weights = torch.tensor(point, dtype=torch.float64, device=stacked.device) / steps
        found = metric(torch.einsum("j,jbl->bl", weights, stacked), labels, valid)
        value = float(found.mean() if query_weights is None else (found @ query_weights) / query_weights.sum())
        return round(value, 12), -sum(w * w for w in point)

    count = len(columns)
    points = _simplex(count, steps) if count <= WHOLE_GRID else (_climbed(s, merit) for s in _starts(count, steps))
    best = max(points, key=merit)
    return WeightedSum({name: w / steps for name, w in zip(columns, best, strict=True)}, merit(best)[0])


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


def _starts(parts: int, steps: int) -> Iterator[Point]:
    """Even weights, and each column alone."""
    yield tuple(steps // parts + (i < steps % parts) for i in range(parts))
    for alone in range(parts):
        yield tuple(steps * (i == alone) for i in range(parts))


def _climbed(point: Point, merit: Callable[[Point], tuple[float, int]]) -> Point:
    """Where exchanges between two columns lead from a point, the largest first."""
    steps = sum(point)
    for size in dict.fromkeys((max(1, steps // 5), max(1, steps // 10), 1)):
        while True:
            moved = [
                tuple(w + size * ((i == to) - (i == away)) for i, w in enumerate(point))
                for away, to in itertools.permutations(range(len(point)), 2)
                if point[away] >= size
            ]
            better = max(moved, key=merit, default=point)  # no weight may be as large as the exchange
            if merit(better) <= merit(point):
                break
            point = better
    return point


def _simplex(parts: int, steps: int) -> Iterator[Point]:
    """All ways to write `steps` as an ordered sum of `parts` integers >= 0."""
    if parts == 1:
        yield (steps,)
        return
    for first in range(steps, -1, -1):
        for rest in _simplex(parts - 1, steps - first):
            yield (first, *rest)
