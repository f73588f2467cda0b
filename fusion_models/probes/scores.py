"""What a probe's trainings say of one split, with a modality and without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models.evaluation import Scored
from fusion_models.metrics import Interval, seed_interval
from fusion_models.metrics.intervals.weights import counted, linearised, of_rows, uneven
from fusion_models.metrics.ranking_metric import NDCG_10, RankingMetric

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ProbeScores:
    """n trainings of one probe on one split, Q queries with up to L candidates, rows ascending."""

    rows: npt.NDArray[np.int64]
    """`[Q]`: rows of the dataset's queries."""
    scores: Tensor
    """`[n, Q, L]`."""
    labels: Tensor
    """`[Q, L]`; so are the two below."""
    v1: Tensor
    valid: Tensor
    detail: str = ""
    weight: Tensor | None = None
    """`[Q]`: what each query counts; None: all alike."""
    metric: RankingMetric = NDCG_10

    def ndcg(self) -> Values:
        """`[n, Q]`: the metric of each training; NaN where a query has no relevant item."""
        return np.stack([self.metric(scores, self.labels, self.valid).numpy() for scores in self.scores])

    @property
    def uneven(self) -> Values | None:
        """`[Q]`: `weight`, or None where all queries count alike."""
        return None if self.weight is None else uneven(self.weight.numpy())


@dataclass(frozen=True, kw_only=True)
class ProbePair:
    """One probe with a modality and without it, on the same lists; seeds of the two arms are not paired."""

    name: str
    suspect: str
    with_it: ProbeScores
    without: ProbeScores

    def gain(self, clusters: npt.ArrayLike | None = None, level: float = 0.95) -> Interval:
        """See `pooled_gain`, of this pair alone."""
        return pooled_gain([self], clusters, level)


def pooled_gain(pairs: Sequence[ProbePair], clusters: npt.ArrayLike | None = None, level: float = 0.95) -> Interval:
    """Mean of nDCG with the modality less that without it, over the trainings of all pairs and over queries.

    By the queries' weights, on those that have a relevant item and count; `clusters` `[Q]`: those that stand together.
    The pairs are of one probe on the same lists; their labels may differ, as long as each query has the same grades.
    """
    found = np.concatenate([pair.with_it.ndcg() - pair.without.ndcg() for pair in pairs])
    uneven_weights = pairs[0].with_it.uneven
    known = counted(found.sum(axis=0), uneven_weights)
    groups = None if clusters is None else np.asarray(clusters)[known]
    return seed_interval(linearised(found[:, known], of_rows(uneven_weights, known)), groups, level)


def stacked(trainings: Sequence[Scored], detail: str = "") -> ProbeScores:
    """Trainings scored on the same lists, as one. Raises ValueError for none, or for other lists."""
    if not trainings:
        raise ValueError("a probe needs at least one training")
    first = trainings[0]
    if any(not np.array_equal(first.rows, other.rows) for other in trainings):
        raise ValueError("the trainings of a probe must be scored on the same queries")
    return ProbeScores(
        rows=first.rows,
        scores=torch.stack([t.scores for t in trainings]),
        labels=first.labels,
        v1=first.v1,
        valid=first.valid,
        detail=detail,
        weight=first.weight,
        metric=first.metric,
    )
