"""What training queries confirm of a modality's features: the columns that tell of the label, and products of two.

A wide modality has columns of noise, and a dense projection learns them by heart from a few hundred queries, where
trees choose. So a ranker may be told which columns to read (`model.columns`): sure independence screening (Fan and Lv
2008), within queries. And of random products of a wide modality none points at the two columns that a sign code needs,
nor does a gradient lead there (docs/log.md): they start at those that the probes' screening finds (`model.products`).
Both read training queries alone, and are kept on the node.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fusion_models.data import RankingDataset
from fusion_models.data.arrays.cache import build_once
from fusion_models.evaluation import EVALUATION_QUERIES
from fusion_models.models import TrainableRanker
from fusion_models.probes.columns import Rows, centred, fit_columns
from fusion_models.probes.second_order import SETTINGS, Products, screen_products

SURE = 3.0
"""Standard errors: of 512 columns of noise one or two are kept."""
FORMAT = 3
"""Of the cached folder; part of its name."""


def start_screened(model: TrainableRanker, data: RankingDataset) -> None:
    """Tell a fresh ranker what the training queries confirm, where it asks for that."""
    keep_columns(model, data)
    start_products(model, data)


def keep_columns(model: TrainableRanker, data: RankingDataset) -> None:
    """Have the encoders that are screened read the confirmed columns alone: the same for every training on `data`."""
    for modality, encoder in model.screened_encoders().items():
        encoder.keep(confirmed(data, modality)["columns"].to(model.device))


def start_products(model: TrainableRanker, data: RankingDataset) -> None:
    """Start a fresh ranker's products, where it has any; those of a modality where nothing is confirmed are 0.

    Where more are confirmed than there are units, torch's generator draws: members of an ensemble then differ.
    """
    for modality, units in model.product_units().items():
        found = confirmed(data, modality)
        order = torch.randperm(len(found["signed"]))
        units.start_from(found["left"][:, order], found["right"][:, order], found["signed"][order])


def confirmed(data: RankingDataset, modality: str) -> dict[str, Tensor]:
    """What is confirmed of one modality's features.

    `columns` `[D]` bool: those whose covariance with the label, both taken around their query's mean, is `SURE`
    standard errors from 0. `left` and `right` `[D, K]`, `signed` `[K]`: products (see `ProductUnits`), the surest
    first; K is 0 where none tells anything. Decided by the training split and the modality's features: no seed.
    """
    said = json.dumps([FORMAT, data.identity, modality, SURE, *SETTINGS]).encode()
    folder = data.folder.with_name(f"{data.folder.name}-screened-{hashlib.sha256(said).hexdigest()[:16]}")
    return _opened(build_once(folder, functools.partial(_build, data, modality)))


@functools.lru_cache(maxsize=64)
def _opened(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = load_file(folder / "screened.safetensors")
    return found


def _build(data: RankingDataset, modality: str, out: Path) -> None:
    rows = np.sort(data.rows("train"))
    found = screen_products(data, rows, fit_columns(data, rows, modalities=(modality,), with_context=False))
    order = np.argsort(-np.abs(found.strength), kind="stable")
    left, right, signed = found.left[:, order], found.right[:, order], found.signed[order]
    if found.count:
        right = right / _deviation(found, data, rows)[order].clamp(min=1e-6)
    kept = {
        "columns": _columns(data, modality, rows),
        "left": left.contiguous(),
        "right": right.contiguous(),
        "signed": signed.contiguous(),
    }
    save_file(kept, out / "screened.safetensors")


def _columns(data: RankingDataset, modality: str, rows: Rows) -> Tensor:
    """`[D]` bool; sums in float64, so that machines agree."""
    count, total, square = 0, torch.zeros(()), torch.zeros(())
    for batch in data.batches(rows, EVALUATION_QUERIES):
        query = batch.valid.nonzero()[:, 0]
        features, labels = batch.features[modality][batch.valid].double(), batch.labels[batch.valid].double()
        each = centred(features, query) * centred(labels, query)[:, None]
        count, total, square = count + len(each), total + each.sum(0), square + (each**2).sum(0)
    mean = total / count
    error = ((square / count - mean**2).clamp(min=0) / count).sqrt()
    return mean.abs() > SURE * error


def _deviation(found: Products, data: RankingDataset, rows: Rows) -> Tensor:
    """`[K]` over the training documents."""
    count, total, square = 0, torch.zeros(()), torch.zeros(())
    for batch in data.batches(rows, EVALUATION_QUERIES):
        values = found(batch)[batch.valid].double()
        count, total, square = count + len(values), total + values.sum(0), square + (values**2).sum(0)
    return (square / count - (total / count) ** 2).clamp(min=0).sqrt().float()
