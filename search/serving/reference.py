"""What drift is measured against: features and scores of the training split, kept beside the log."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fusion_models.data import RankingDataset
from fusion_models.files import whole, write_whole
from fusion_models.metrics.ranking_metric import NDCG_10, RankingMetric
from fusion_models.models import Ranker
from fusion_models.tuned_v1 import seen_by
from fusion_models.work.foreign import first_line
from search.run_store.artifacts import weights_sha256
from search.run_store.folder import read_json
from search.serving.journal import holds_decisions

QUERIES = 200
"""Training queries sampled."""
FILE = "reference.npz"
DESCRIPTION = "shadow.json"
REMEDY = "put back a whole copy of the log"

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
    write_whole(log / DESCRIPTION, json.dumps(_description(data, checkpoint), indent=1) + "\n")


def require_log_of(log: Path, data: RankingDataset, checkpoint: Path | None) -> None:
    """Raises ValueError where `log` holds decisions of another V2, or over other data: both would be read as one.

    Weights that lie elsewhere now are the same V2.
    """
    if not holds_decisions(log):
        return
    said, now = read_description(log), _description(data, checkpoint)
    by = "weights" if "weights" in said else "checkpoint"  # older logs name the place alone
    if said["fingerprint"] != now["fingerprint"]:
        other = f"over other data ({said['data']})"
    elif said[by] != now[by]:
        other = f"of another V2 ({said['checkpoint'] or 'none'})"
    else:
        return
    raise ValueError(f"{log} holds decisions {other}: name an empty or a new folder with --log")


def _description(data: RankingDataset, checkpoint: Path | None) -> dict[str, Any]:
    return {
        "data": data.source,
        "fingerprint": data.fingerprint,
        "checkpoint": None if checkpoint is None else str(checkpoint.resolve()),
        "weights": None if checkpoint is None else weights_sha256(checkpoint),
        "metric": asdict(data.metric),
    }


def _kept(column: npt.NDArray[np.float64]) -> npt.NDArray[np.floating]:
    """The column in half of the space where that loses nothing: a score moved by its last digits changes its bin."""
    narrow = column.astype(np.float32)
    return narrow if np.array_equal(narrow, column) else column


def read_description(log: Path) -> dict[str, Any]:
    """What the log is of. Raises ValueError where that is not known."""
    path = log / DESCRIPTION
    if not path.exists():
        raise ValueError(f"{log} has no {DESCRIPTION}: it is no log of `python -m search.shadow serve`")
    found = read_json(path, remedy=REMEDY)
    gone = [name for name in ("data", "fingerprint", "checkpoint") if name not in found]
    if gone:
        raise ValueError(f"{path} does not say {', '.join(gone)}: {REMEDY}")
    return found


def metric_of_log(said: Mapping[str, Any]) -> RankingMetric:
    """What the log's description says that rankers are measured by; nDCG@10 in logs that do not say."""
    return RankingMetric(**said["metric"]) if "metric" in said else NDCG_10


def read_reference(log: Path) -> Arrays:
    """The reference that `write_reference` kept. Raises ValueError, naming the file, where it is gone or cut."""
    path = log / FILE
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name].astype(np.float64) for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        remedy = f"start `serve` on {log} again with the same V2"
        raise ValueError(f"{path} cannot be read ({first_line(error)}): {remedy}") from error
