"""Rankers that any fusion must beat: LambdaMART, and a tuned weighted sum of single-modality scores.

V1 itself is in every evaluation; the single-modality rankers are ordinary recipes with one modality.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fusion_models.config import MODALITIES
from fusion_models.data import RankingDataset
from fusion_models.evaluation import Scored
from fusion_models.lambdamart import train_lambdamart, tree_scores
from fusion_models.metrics import WeightedSum, centred_correlation, ndcg, tune_weighted_sum

BaselineKind = Literal["V1", "alone", "weighted sum", "LambdaMART", "tuned V1"]
"""`alone`: one fusion ranker with one modality. `tuned V1`: whatever reads V1's score and V1's own modalities alone."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A reference ranker on one split."""

    name: str
    kind: BaselineKind
    ndcg: npt.NDArray[np.float64]
    """`[Q]`, queries in ascending row order; NaN without a relevant item."""
    detail: str = ""
    v1_correlation: float = math.nan
    """Centred correlation of its scores with V1's. That of a tuned V1, which reads what V1 reads, is the ceiling by
    which to read a fusion's: two rankers that are alike by design."""


def tuned_weights(tuning: Mapping[str, Scored]) -> WeightedSum:
    """The best convex combination of the rankers' scores on the split where they are `tuning`."""
    first = next(iter(tuning.values()))
    return tune_weighted_sum({name: s.scores for name, s in tuning.items()}, first.labels, first.valid)


def weighted_sum(
    tuned: WeightedSum, scored: Mapping[str, Scored], *, name: str = "weighted sum", kind: BaselineKind = "weighted sum"
) -> Baseline:
    """A tuned combination of rankers applied to `scored`.

    Where that is the split it was tuned on the baseline is favoured, never the fusion.
    """
    target = next(iter(scored.values()))
    combined = tuned({name: s.scores for name, s in scored.items()}, target.valid)
    weights = ", ".join(f"{column} {weight:.2f}" for column, weight in tuned.weights.items())
    return Baseline(
        name=name,
        kind=kind,
        ndcg=ndcg(combined, target.labels, target.valid).numpy(),
        detail=f"weights: {weights}",
        v1_correlation=centred_correlation(combined, target.v1, target.valid),
    )


def lambdamart(
    data: RankingDataset,
    split: str,
    *,
    modalities: Sequence[str] = MODALITIES,
    with_v1: bool = False,
    name: str = "LambdaMART",
    kind: BaselineKind = "LambdaMART",
    seed: int = 0,
    threads: int = 1,
) -> Baseline:
    """LambdaMART (`fusion_models.lambdamart`) trained on `train` and measured on `split`."""
    rows = data.rows("train")
    trees = train_lambdamart(data, rows, modalities=modalities, with_v1=with_v1, seed=seed, threads=threads)
    scored = tree_scores(trees, data, split)
    return Baseline(
        name=name,
        ndcg=scored.ndcg(),
        detail=f"{trees.booster.best_iteration} trees, {trees.queries} of {len(rows)} training queries",
        v1_correlation=centred_correlation(scored.scores, scored.v1, scored.valid),
    )
