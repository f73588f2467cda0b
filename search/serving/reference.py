"""What drift is measured against: features and scores of the training split, kept beside the log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fusion_models.data import RankingDataset
from fusion_models.files import whole
from fusion_models.metrics.ranking_metric import NDCG_10, RankingMetric
from fusion_models.models import Ranker
from fusion_models.tuned_v1 import seen_by

QUERIES = 200
"""Training queries sampled."""
FILE = "reference.npz"
DESCRIPTION = "shadow.json"

Arrays = dict[str, npt.NDArray[np.float64]]


def training_reference(data: RankingDataset, model: Ranker | None, *, seed: int = 0) -> Arrays:
    """Name -> values over documents of sampled training queries: `visual.0` ..., `v1_score`, `v2_score` centred within
    each query (their offset means nothing)."""
    rows = data.rows("train")
    chosen = np.sort(np.random.default_rng(seed).choice(rows, min(QUERIES, len(rows)), replace=False))
    batch = data.gather(chosen)
    found = columns({m: batch.features[m][batch.valid].double().numpy() for m in batch.features})
    lengths = batch.valid.sum(1).tolist()
    found["v1_score"] = centred(batch.v1[batch.valid].double().numpy(), lengths)
    if model is not None:
        with torch.no_grad():
            scores = model(seen_by(model, data).gather(chosen)).scores
        found["v2_score"] = centred(scores[batch.valid].double().numpy(), lengths)
    return found


def columns(features: dict[str, npt.NDArray[np.float64]]) -> Arrays:
    """`[n, D]` of each modality to one array a feature."""
    return {f"{m}.{i}": x[:, i] for m, x in features.items() for i in range(x.shape[1])}


def centred(scores: npt.NDArray[np.float64], lengths: list[int]) -> npt.NDArray[np.float64]:
    """Scores of lists laid end to end, each less its list's mean."""
    counts = np.asarray(lengths)
    owner = np.repeat(np.arange(len(counts)), counts)
    means = np.bincount(owner, weights=scores, minlength=len(counts)) / np.maximum(counts, 1)
    return np.asarray(scores - means[owner])


def write_reference(log: Path, data: RankingDataset, checkpoint: Path | None, reference: Arrays) -> None:
    """Put the reference, and what the log is of, beside the log."""
    log.mkdir(parents=True, exist_ok=True)
    with whole(log / FILE) as staging, staging.open("wb") as sink:
        np.savez_compressed(sink, allow_pickle=False, **{name: _kept(column) for name, column in reference.items()})
    said = {
        "data": data.source,
        "fingerprint": data.fingerprint,
        "checkpoint": None if checkpoint is None else str(checkpoint.resolve()),
        "metric": asdict(data.metric),
    }
    (log / DESCRIPTION).write_text(json.dumps(said, indent=1) + "\n")


def _kept(column: npt.NDArray[np.float64]) -> npt.NDArray[np.floating]:
    """The column in half of the space where that loses nothing: a score moved by its last digits changes its bin."""
    narrow = column.astype(np.float32)
    return narrow if np.array_equal(narrow, column) else column


def read_description(log: Path) -> dict[str, Any]:
    """What the log is of. Raises ValueError where that is not known."""
    if not (log / DESCRIPTION).exists():
        raise ValueError(f"{log} has no {DESCRIPTION}: it is no log of `python -m search.shadow serve`")
    found: dict[str, Any] = json.loads((log / DESCRIPTION).read_text())
    return found


def metric_of_log(said: Mapping[str, Any]) -> RankingMetric:
    """What the log's description says that rankers are measured by; nDCG@10 in logs that do not say."""
    return RankingMetric(**said["metric"]) if "metric" in said else NDCG_10


def read_reference(log: Path) -> Arrays:
    """The reference that `write_reference` kept."""
    with np.load(log / FILE, allow_pickle=False) as arrays:
        return {name: arrays[name].astype(np.float64) for name in arrays.files}
