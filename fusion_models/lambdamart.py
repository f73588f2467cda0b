"""LightGBM's LambdaMART (Burges 2010) on what a ranker sees, trained on any query rows and scored on any others."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models.data import RankingDataset
from fusion_models.data.arrays.cache import build_once
from fusion_models.data.batch import Batch
from fusion_models.evaluation import EVALUATION_QUERIES, Scored, score_with

if TYPE_CHECKING:
    import lightgbm  # half a second, with all of scikit-learn: every worker loads this module, and few train trees

MAX_DOCUMENTS = 400_000
"""Training rows at the most: LightGBM holds them in memory. Whole queries are left out beyond it, and counted."""
MAX_CANDIDATES = 10_000
"""Of a training query: LightGBM's own limit. Longer ones are left out of its training, and counted; it scores them."""
GAIN_BITS = 30
"""Largest gain, as a power of two, that LightGBM is handed: it knows none beyond float64."""
ROUNDS, PATIENCE = 200, 20
FORMAT = 2
"""Of a kept folder; part of its name."""

Rows = npt.NDArray[np.int64]
Derived = Callable[[Batch], Tensor]
"""Columns that a tree cannot form of those it sees: batch -> `[B, L, K]`."""


class TreesError(ValueError):
    """Trees that cannot be trained on these data: the reason. They cost themselves, never a run."""


@dataclass(frozen=True, kw_only=True)
class TreeInputs:
    """What the trees see of a document."""

    modalities: tuple[str, ...]
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
            columns.append(batch.v1_seen[..., None])  # float64, and so is the matrix then
        if self.derived is not None:
            columns.append(self.derived(batch))
        return torch.cat(columns, dim=-1)[batch.valid].numpy()


@dataclass(frozen=True, kw_only=True)
class Trees:
    """A trained LambdaMART. Pickles."""

    booster: lightgbm.Booster
    inputs: TreeInputs
    queries: int
    """Training queries that were read, those of early stopping included."""
    too_long: int = 0
    """Training queries with more than `MAX_CANDIDATES` candidates, which were left out."""


def train_lambdamart(data: RankingDataset, rows: Rows, inputs: TreeInputs | None = None, *, seed: int = 0) -> Trees:
    """LambdaMART on these inputs (default: every modality), one thread, and the query rows `rows`.

    A tenth of the rows only stops it early, so whatever else is scored stays unread.

    Raises TreesError for fewer than two rows that LightGBM takes, or where it refuses the data.
    """
    import lightgbm

    short = rows[data.candidates[rows] <= MAX_CANDIDATES]
    too_long = len(rows) - len(short)
    if len(short) < 2:
        raise TreesError(
            f"LambdaMART needs at least two training queries, got {len(rows)}, {too_long} of them with more than "
            f"{MAX_CANDIDATES:,} candidates"
        )
    rows = short
    order = np.random.default_rng(seed).permutation(rows)
    documents = np.cumsum(data.candidates[order])
    order = order[: max(2, int(np.searchsorted(documents, MAX_DOCUMENTS, side="right")))]
    held_out = max(1, len(order) // 10)
    inputs = inputs or TreeInputs(modalities=data.schema.modalities)
    levels = _grades(data, order)
    train_set = _lightgbm_set(data, order[held_out:], levels, inputs)
    stop_set = _lightgbm_set(data, order[:held_out], levels, inputs, reference=train_set)
    parameters = {
        "objective": "lambdarank",
        "metric": "ndcg",
        "eval_at": [data.metric.cutoff],
        "learning_rate": 0.1,
        "num_leaves": 15,
        "min_data_in_leaf": 20,
        "feature_fraction": 0.5,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambdarank_truncation_level": 15,
        "label_gain": label_gain(levels),
        "max_bin": 63,
        "num_threads": 1,
        "seed": seed,
        "deterministic": True,
        "verbosity": -1,
    }
    stopping = lightgbm.early_stopping(PATIENCE, verbose=False)
    try:
        booster = lightgbm.train(
            parameters, train_set, num_boost_round=ROUNDS, valid_sets=[stop_set], callbacks=[stopping]
        )
    except lightgbm.basic.LightGBMError as error:
        raise TreesError(f"LightGBM refused the data ({error})") from error
    return Trees(booster=booster, inputs=inputs, queries=len(order), too_long=too_long)


def kept_lambdamart(data: RankingDataset, inputs: TreeInputs, *, seed: int) -> Trees:
    """`train_lambdamart` on the whole training split, done once a node and kept beside the arrays.

    A run asks the same trees for validation and then for the test split; a further verdict asks again. Raises
    TreesError as it does, and ValueError for inputs with `derived` columns, which no name tells apart.
    """
    if inputs.derived is not None:
        raise ValueError("trees with derived columns cannot be kept under a name")
    import lightgbm

    said = [FORMAT, lightgbm.__version__, data.identity, data.metric.name, inputs.modalities, inputs.with_v1, seed]
    name = hashlib.sha256(json.dumps([*said, ROUNDS, PATIENCE, MAX_DOCUMENTS]).encode()).hexdigest()[:16]

    def build(out: Path) -> None:
        trees = train_lambdamart(data, data.rows("train"), inputs, seed=seed)
        trees.booster.save_model(out / "trees.txt", num_iteration=trees.booster.best_iteration)
        counts = {"queries": trees.queries, "too_long": trees.too_long, "best": trees.booster.best_iteration}
        (out / "trees.json").write_text(json.dumps(counts))

    folder = build_once(data.folder.with_name(f"{data.folder.name}-lambdamart-{name}"), build)
    counts, booster = json.loads((folder / "trees.json").read_text()), lightgbm.Booster(model_file=folder / "trees.txt")
    booster.best_iteration = counts["best"]
    return Trees(booster=booster, inputs=inputs, queries=counts["queries"], too_long=counts["too_long"])


def label_gain(levels: npt.NDArray[np.float64]) -> list[float]:
    """2^label - 1 of each grade; over a power of two where the largest would be beyond `GAIN_BITS`."""
    shift = max(0.0, math.ceil(levels[-1]) - GAIN_BITS)
    return (2.0 ** (levels - shift) - 2.0**-shift).tolist()  # type: ignore[no-any-return]


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
    inputs: TreeInputs,
    reference: lightgbm.Dataset | None = None,
) -> lightgbm.Dataset:
    import lightgbm

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
