"""LightGBM's LambdaMART (Burges 2010) on what a ranker sees, trained on any query rows and scored on any others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import lightgbm
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models.config import MODALITIES
from fusion_models.data import RankingDataset
from fusion_models.data.batch import Batch
from fusion_models.evaluation import EVALUATION_QUERIES, Scored, score_with

MAX_DOCUMENTS = 400_000
"""Training rows at the most: LightGBM holds them in memory. Whole queries are left out beyond it, and counted."""
ROUNDS, PATIENCE = 200, 20

Rows = npt.NDArray[np.int64]
Derived = Callable[[Batch], Tensor]
"""Columns that a tree cannot form of those it sees: batch -> `[B, L, K]`."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the trees see of a document."""

    modalities: tuple[str, ...] = MODALITIES
    with_v1: bool = False
    derived: Derived | None = None

    def matrix(self, batch: Batch) -> npt.NDArray[np.float32]:
        """`[documents, D]`: one row a real document.

        Raw features, context, one cosine for each modality that the context is wide enough to meet, since trees cannot
        multiply vectors; then V1's score and what `derived` makes.
        """
        columns: list[Tensor] = [batch.features[m] for m in self.modalities]
        columns.append(batch.context)
        columns += [
            torch.cosine_similarity(batch.features[m], batch.context[..., : batch.features[m].shape[-1]], dim=-1)[
                ..., None
            ]
            for m in self.modalities
            if 0 < batch.features[m].shape[-1] <= batch.context.shape[-1]
        ]
        if self.with_v1:
            columns.append(batch.v1[..., None])
        if self.derived is not None:
            columns.append(self.derived(batch))
        return torch.cat(columns, dim=-1)[batch.valid].numpy()


@dataclass(frozen=True, kw_only=True)
class Trees:
    """A trained LambdaMART. Pickles."""

    booster: lightgbm.Booster
    inputs: Inputs
    queries: int
    """Training queries that were read, those of early stopping included."""


def train_lambdamart(
    data: RankingDataset,
    rows: Rows,
    *,
    modalities: Sequence[str] = MODALITIES,
    with_v1: bool = False,
    derived: Derived | None = None,
    seed: int = 0,
    threads: int = 1,
) -> Trees:
    """LambdaMART trained on the query rows `rows`, of which a tenth only stops it early.

    So whatever else is scored stays unread. Raises ValueError for fewer than two rows.
    """
    if len(rows) < 2:
        raise ValueError(f"LambdaMART needs at least two training queries, got {len(rows)}")
    order = np.random.default_rng(seed).permutation(rows)
    documents = np.cumsum(data.candidates[order])
    order = order[: max(2, int(np.searchsorted(documents, MAX_DOCUMENTS, side="right")))]
    held_out = max(1, len(order) // 10)
    inputs = Inputs(modalities=tuple(modalities), with_v1=with_v1, derived=derived)
    levels = _grades(data, order)
    train_set = _lightgbm_set(data, order[held_out:], levels, inputs)
    stop_set = _lightgbm_set(data, order[:held_out], levels, inputs, reference=train_set)
    booster = lightgbm.train(
        {
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
            "label_gain": (2.0**levels - 1.0).tolist(),
            "max_bin": 63,
            "num_threads": threads,
            "seed": seed,
            "deterministic": True,
            "verbosity": -1,
        },
        train_set,
        num_boost_round=ROUNDS,
        valid_sets=[stop_set],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
    return Trees(booster=booster, inputs=inputs, queries=len(order))


def tree_scores(trees: Trees, data: RankingDataset, split_or_rows: str | npt.ArrayLike) -> Scored:
    """Every list of a split (or of the query rows given) as the trees score it."""

    def scorer(batch: Batch) -> Tensor:
        scores = torch.zeros_like(batch.labels, dtype=torch.float64)
        scores[batch.valid] = torch.from_numpy(trees.booster.predict(trees.inputs.matrix(batch)))
        return scores

    return score_with(scorer, data, split_or_rows)


def _grades(data: RankingDataset, rows: Rows) -> npt.NDArray[np.float64]:
    """The distinct labels of `rows`, ascending: LightGBM wants whole-numbered grades, we hand it their ranks."""
    found = [batch.labels[batch.valid].double().numpy() for batch in data.batches(rows, EVALUATION_QUERIES)]
    return np.unique(np.concatenate(found))


def _lightgbm_set(
    data: RankingDataset,
    rows: Rows,
    levels: npt.NDArray[np.float64],
    inputs: Inputs,
    reference: lightgbm.Dataset | None = None,
) -> lightgbm.Dataset:
    features, labels, sizes = [], [], []
    for start in range(0, len(rows), EVALUATION_QUERIES):
        batch = data.gather(rows[start : start + EVALUATION_QUERIES])
        features.append(inputs.matrix(batch))
        labels.append(batch.labels[batch.valid].numpy())
        sizes.append(batch.valid.sum(dim=1).numpy())
    grades = np.searchsorted(levels, np.concatenate(labels))
    return lightgbm.Dataset(
        np.concatenate(features), label=grades, group=np.concatenate(sizes), reference=reference, free_raw_data=True
    )
