"""Rankers that any fusion must beat: LambdaMART, and a tuned weighted sum of single-modality scores.

V1 itself is in every evaluation; the single-modality rankers are ordinary recipes with one modality.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import lightgbm
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models.config import MODALITIES
from fusion_models.data import RankingDataset
from fusion_models.data.batch import Batch
from fusion_models.evaluation import EVALUATION_QUERIES, Scored
from fusion_models.metrics import (
    WeightedSum,
    centred_correlation,
    centred_moments,
    correlation_of,
    ndcg,
    tune_weighted_sum,
)

LAMBDAMART_MAX_DOCUMENTS = 400_000
"""Training rows at the most: LightGBM holds them in memory. Whole queries are left out beyond it, and counted."""

LAMBDAMART_MAX_CANDIDATES = 10_000
"""Of a training query: LightGBM's own limit. Longer ones are left out of its training, and counted; it scores them."""
LAMBDAMART_GAIN_BITS = 30
"""Largest gain, as a power of two, that LightGBM is handed: it knows none beyond float64."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A reference ranker on one split."""

    name: str
    ndcg: npt.NDArray[np.float64]
    """`[Q]`, queries in ascending row order; NaN without a relevant item."""
    detail: str = ""
    v1_correlation: float = math.nan
    """Centred correlation of its scores with V1's. That of a tuned V1, which reads what V1 reads, is the ceiling by
    which to read a fusion's: two rankers that are alike by design."""

    @property
    def measured(self) -> bool:
        """Whether it ranked anything: one that could not be trained costs itself, never the run."""
        return bool(np.isfinite(self.ndcg).any())


def tuned_weights(tuning: Mapping[str, Scored]) -> WeightedSum:
    """The best convex combination of the rankers' scores on the split where they are `tuning`."""
    first = next(iter(tuning.values()))
    return tune_weighted_sum({name: s.scores for name, s in tuning.items()}, first.labels, first.valid)


def weighted_sum(tuned: WeightedSum, scored: Mapping[str, Scored], *, name: str = "weighted sum") -> Baseline:
    """A tuned combination of rankers applied to `scored`.

    Where that is the split it was tuned on the baseline is favoured, never the fusion.
    """
    target = next(iter(scored.values()))
    combined = tuned({name: s.scores for name, s in scored.items()}, target.valid)
    weights = ", ".join(f"{column} {weight:.2f}" for column, weight in tuned.weights.items())
    return Baseline(
        name=name,
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
    seed: int = 0,
    threads: int = 1,
) -> Baseline:
    """LightGBM's LambdaMART (Burges 2010) on raw features, context and query-feature products, trained on `train`.

    Query and item features meet as one cosine a modality of the same width, since trees cannot multiply vectors.
    Early stopping reads a tenth of the training queries, so that the scored split stays unread.
    """
    trained = data.rows("train")
    rows = trained[data.candidates[trained] <= LAMBDAMART_MAX_CANDIDATES]
    too_long = len(trained) - len(rows)
    if len(rows) < 2:
        longer = f"have more than {LAMBDAMART_MAX_CANDIDATES:,} candidates"
        return _not_measured(name, data, split, f"{too_long} of {len(trained)} training queries {longer}")
    order = np.random.default_rng(seed).permutation(rows)
    documents = np.cumsum(data.candidates[order])
    order = order[: max(2, int(np.searchsorted(documents, LAMBDAMART_MAX_DOCUMENTS, side="right")))]
    held_out = max(1, len(order) // 10)
    fit, stop = order[held_out:], order[:held_out]
    levels = _grades(data, order)
    train_set = _lightgbm_set(data, fit, levels, modalities, with_v1)
    stop_set = _lightgbm_set(data, stop, levels, modalities, with_v1, reference=train_set)
    parameters = {
        "objective": "lambdarank",
        "metric": "ndcg",
        "eval_at": [10],
        "learning_rate": 0.1,
        "num_leaves": 15,
        "min_data_in_leaf": 20,
        "feature_fraction": 0.5,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambdarank_truncation_level": 15,
        "label_gain": _label_gain(levels),
        "max_bin": 63,
        "num_threads": threads,
        "seed": seed,
        "deterministic": True,
        "verbosity": -1,
    }
    try:
        booster = lightgbm.train(
            parameters,
            train_set,
            num_boost_round=200,
            valid_sets=[stop_set],
            callbacks=[lightgbm.early_stopping(20, verbose=False)],
        )
    except lightgbm.basic.LightGBMError as error:
        return _not_measured(name, data, split, f"LightGBM refused the data ({error})")
    values: dict[int, float] = {}
    moments = torch.zeros(3, dtype=torch.float64)
    for batch in data.batches(split, EVALUATION_QUERIES):
        scores = torch.zeros_like(batch.labels, dtype=torch.float64)
        scores[batch.valid] = torch.from_numpy(booster.predict(_matrix(batch, modalities, with_v1)))
        found = ndcg(scores, batch.labels, batch.valid)
        values |= dict(zip(batch.query.tolist(), found.tolist(), strict=True))
        moments += centred_moments(scores, batch.v1, batch.valid).sum(0)
    return Baseline(
        name=name,
        ndcg=np.array([values[row] for row in sorted(values)]),
        detail=f"{booster.best_iteration} trees, {len(order)} of {len(trained)} training queries"
        + (f"; {too_long} with more than {LAMBDAMART_MAX_CANDIDATES:,} candidates left out" if too_long else ""),
        v1_correlation=correlation_of(moments),
    )


def _not_measured(name: str, data: RankingDataset, split: str, reason: str) -> Baseline:
    return Baseline(name=name, ndcg=np.full(len(data.rows(split)), np.nan), detail=f"not measured: {reason}")


def _grades(data: RankingDataset, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The distinct labels of `rows`, ascending: LightGBM wants whole-numbered grades, we hand it their ranks."""
    found = [batch.labels[batch.valid].double().numpy() for batch in data.batches(rows, EVALUATION_QUERIES)]
    return np.unique(np.concatenate(found))


def _label_gain(levels: npt.NDArray[np.float64]) -> list[float]:
    """2^label - 1 of each grade; over a power of two where the largest would be beyond LAMBDAMART_GAIN_BITS."""
    shift = max(0.0, math.ceil(levels[-1]) - LAMBDAMART_GAIN_BITS)
    return (2.0 ** (levels - shift) - 2.0**-shift).tolist()  # type: ignore[no-any-return]


def _lightgbm_set(
    data: RankingDataset,
    rows: npt.NDArray[np.int64],
    levels: npt.NDArray[np.float64],
    modalities: Sequence[str],
    with_v1: bool,
    reference: lightgbm.Dataset | None = None,
) -> lightgbm.Dataset:
    features, labels, sizes = [], [], []
    for start in range(0, len(rows), EVALUATION_QUERIES):
        batch = data.gather(rows[start : start + EVALUATION_QUERIES])
        features.append(_matrix(batch, modalities, with_v1))
        labels.append(batch.labels[batch.valid].numpy())
        sizes.append(batch.valid.sum(dim=1).numpy())
    grades = np.searchsorted(levels, np.concatenate(labels))
    return lightgbm.Dataset(
        np.concatenate(features), label=grades, group=np.concatenate(sizes), reference=reference, free_raw_data=True
    )


def _matrix(batch: Batch, modalities: Sequence[str], with_v1: bool) -> npt.NDArray[np.float32]:
    """`[documents, D]`: one row a real document."""
    columns: list[Tensor] = [batch.features[m] for m in modalities]
    columns.append(batch.context)
    columns += [
        torch.cosine_similarity(batch.features[m], batch.context[..., : batch.features[m].shape[-1]], dim=-1)[..., None]
        for m in modalities
        if 0 < batch.features[m].shape[-1] <= batch.context.shape[-1]
    ]
    if with_v1:
        columns.append(batch.v1_seen[..., None])  # float64, and so is the matrix then
    return torch.cat(columns, dim=-1)[batch.valid].numpy()
