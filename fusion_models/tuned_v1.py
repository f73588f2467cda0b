"""A tuned V1 as context: LambdaMART on what V1 reads, out of fold, one array of scores that all trainings share.

What V1's team could do alone. A fusion ranker that has its score at hand is asked the question itself: what does V2
add? Training queries are scored by trees that never saw them, nor queries that stand together with them (as in stacked
generalisation; Wolpert 1992), all others by trees of the whole training split, which travel with the ranker. Which
queries stand together says `data.folds`.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

from fusion_models.config import Recipe
from fusion_models.data import DataError, RankingDataset
from fusion_models.data.arrays.cache import build_once
from fusion_models.data.folds import QUERY_FOLDS, SIDE_FOLDS, training_folds
from fusion_models.models import Ranker, TrainableRanker
from fusion_models.models.trees import DEPTH, LEAVES, TREES, TreeEnsemble, arrays_of, document_matrix

MOST_DOCUMENTS = 400_000
"""Of one fit: LightGBM holds them in memory. Whole queries are left out beyond it, by a fixed draw."""
QUERIES_AT_ONCE = 64
FORMAT = 3
"""Of the cached folder; part of its name."""
PARAMETERS: dict[str, Any] = {
    "objective": "lambdarank",
    "learning_rate": 0.1,
    "num_leaves": LEAVES,
    "max_depth": DEPTH,
    "min_data_in_leaf": 20,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambdarank_truncation_level": 15,
    "max_bin": 63,
    "num_threads": 1,
    "seed": 0,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}

Rows = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class TunedV1:
    """One tuned V1 of one dataset."""

    key: str
    """Digest of `trees`."""
    trees: TreeEnsemble
    """Of the whole training split; scores are standardised by the training judgements' out-of-fold ones."""
    scores: Scores
    """`[judgements]`, read-only and mapped: out of fold on the training split, by `trees` elsewhere."""


def tuned_v1(data: RankingDataset, reads: Sequence[str]) -> TunedV1:
    """The tuned V1 that reads `reads` (see `ModelConfig.context_reads`), fitted once a node and kept beside the arrays.

    Decided by the training split, `reads` and the version of LightGBM: no seed. Raises DataError with fewer than two
    training queries.
    """
    said = [FORMAT, data.identity, tuple(reads), PARAMETERS, TREES, QUERY_FOLDS, SIDE_FOLDS, MOST_DOCUMENTS]
    version = importlib.metadata.version("lightgbm")
    name = hashlib.sha256(json.dumps([*said, version]).encode()).hexdigest()[:16]
    folder = data.folder.with_name(f"{data.folder.name}-tuned-{name}")
    return _opened(build_once(folder, functools.partial(_build, data, tuple(reads))), tuple(reads), data.schema.context)


def equip(model: TrainableRanker, data: RankingDataset) -> None:
    """Give a fresh ranker the trees that its context needs."""
    if model.trees is not None:
        model.trees.load_state_dict(tuned_v1(data, model.trees.reads).trees.state_dict())


def prepare(data: RankingDataset, recipes: Sequence[Recipe]) -> None:
    """Fit now what trainings of `recipes` will read, so that none of them waits for it."""
    for reads in dict.fromkeys(r.model.context_reads for r in recipes if r.model.context == "tuned_v1"):
        tuned_v1(data, reads)


def seen_by(model: Ranker, data: RankingDataset) -> RankingDataset:
    """`data` with what `model` reads beside it: where its context holds a tuned V1, batches carry that one's score.

    Where the ranker's trees are those of `data`, training queries have their out-of-fold scores; trees that were fitted
    elsewhere (another dataset, another version of LightGBM) score every query.
    """
    trees = model.trees
    if trees is None:
        return data
    key = trees.digest
    if data.tuned_v1 is not None and data.tuned_v1[0] == key:
        return data
    own = tuned_v1(data, trees.reads)
    return data.with_tuned_v1(key, own.scores if own.key == key else _scores_by(data, copy.deepcopy(trees).cpu(), key))


def _scores_by(data: RankingDataset, trees: TreeEnsemble, key: str) -> Scores:
    def build(out: Path) -> None:
        scores = np.zeros(len(data.judged_item), dtype=np.float32)
        _score(data, np.flatnonzero(data.candidates > 0), trees, scores)
        np.save(out / "scores.npy", scores)

    # A view of the same folder, such as one without cold items, has other judgements.
    view = hashlib.sha256(json.dumps([data.identity, len(data.judged_item)]).encode()).hexdigest()[:8]
    folder = build_once(data.folder.with_name(f"{data.folder.name}-scored-{key}-{view}"), build)
    scores: Scores = np.load(folder / "scores.npy", mmap_mode="r")
    return scores


@functools.lru_cache(maxsize=64)
def _opened(folder: Path, reads: tuple[str, ...], context: int) -> TunedV1:
    trees = TreeEnsemble(reads, context)
    trees.load_state_dict(load_file(folder / "trees.safetensors"))
    return TunedV1(key=trees.digest, trees=trees, scores=np.load(folder / "scores.npy", mmap_mode="r"))


def _build(data: RankingDataset, reads: tuple[str, ...], out: Path) -> None:
    rows = np.sort(data.rows("train"))
    if len(rows) < 2:
        raise DataError(
            f"{data.source} has {len(rows)} training query: a tuned V1 is fitted on other queries than it scores.",
            "Give it more, or train with model.context=v1.",
            file="queries.parquet",
            column="split",
        )
    whole = _fit(data, rows, reads)
    scores = np.zeros(len(data.judged_item), dtype=np.float32)
    _score(data, np.setdiff1d(np.flatnonzero(data.candidates > 0), rows), whole, scores)
    for queries, items in training_folds(data):
        trees = _fit(data, rows[~queries], reads, None if items is None else ~items)
        _score(data, rows[queries], trees, scores, items)
    known = scores[data.documents(rows)].astype(np.float64)
    mean, std = float(known.mean()), float(known.std()) or 1.0
    whole.mean.fill_(mean)
    whole.std.fill_(std)
    np.save(out / "scores.npy", (scores - np.float32(mean)) / np.float32(std))
    save_file({name: tensor.contiguous() for name, tensor in whole.state_dict().items()}, out / "trees.safetensors")


def _fit(data: RankingDataset, rows: Rows, reads: tuple[str, ...], items: Mask | None = None) -> TreeEnsemble:
    """Trees of some training queries, and of those documents whose `items` `[items]` hold; scores not standardised."""
    import lightgbm  # takes a third of a second, and most processes find the trees ready

    from fusion_models.lambdamart import MAX_CANDIDATES, label_gain

    order = np.random.default_rng(0).permutation(rows[data.candidates[rows] <= MAX_CANDIDATES])
    if len(order) == 0:
        return TreeEnsemble(reads, data.schema.context)
    documents = np.cumsum(data.candidates[order])
    used = np.sort(order[: max(1, int(np.searchsorted(documents, MOST_DOCUMENTS, side="right")))])
    matrix, labels, counts = [], [], []
    for start in range(0, len(used), QUERIES_AT_ONCE):
        batch = data.gather(used[start : start + QUERIES_AT_ONCE])
        kept = batch.valid if items is None else batch.valid & torch.from_numpy(items)[batch.item]
        matrix.append(document_matrix(batch, reads, data.schema.context)[kept].numpy())
        labels.append(batch.labels[kept].double().numpy())
        counts.append(kept.sum(dim=1).numpy())
    sizes = np.concatenate(counts)
    found = TreeEnsemble(reads, data.schema.context)
    if not sizes.any():  # every document is of an item that is held out: nothing to learn from
        return found
    levels, grades = np.unique(np.concatenate(labels), return_inverse=True)
    booster = lightgbm.train(
        PARAMETERS | {"label_gain": label_gain(levels)},
        lightgbm.Dataset(np.concatenate(matrix), label=grades, group=sizes[sizes > 0]),
        num_boost_round=TREES,
    )
    found.load_state_dict(arrays_of(booster.dump_model()["tree_info"]), strict=False)
    return found


@torch.no_grad()
def _score(data: RankingDataset, rows: Rows, trees: TreeEnsemble, into: Scores, items: Mask | None = None) -> None:
    """Write the scores of some queries' judgements; of those whose `items` hold, where they are given."""
    for start in range(0, len(rows), QUERIES_AT_ONCE):
        some = rows[start : start + QUERIES_AT_ONCE]
        for row, values, count in zip(some, trees(data.gather(some)), data.candidates[some], strict=True):
            judged = np.arange(data.offset[row], data.offset[row + 1])
            mine = np.ones(count, dtype=np.bool_) if items is None else items[data.judged_item[judged]]
            into[judged[mine]] = values[:count].numpy()[mine]
