"""Where a ranker's products start: at those of a modality's columns that the training queries confirm.

Of random products of a wide modality none points at the two columns that a sign code needs, and a gradient does not
lead there from a few hundred queries (docs/log.md). So they are screened as the probes' are (`probes.second_order`),
from training queries alone, once a node.
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
from fusion_models.probes.columns import Rows, fit_columns
from fusion_models.probes.second_order import SETTINGS, Products, screen_products

FORMAT = 2
"""Of the cached folder; part of its name."""


def start_products(model: TrainableRanker, data: RankingDataset) -> None:
    """Start a fresh ranker's products, where it has any; those of a modality where nothing is confirmed are 0.

    Where more are confirmed than there are units, torch's generator draws: members of an ensemble then differ.
    """
    for modality, units in model.product_units().items():
        found = confirmed_products(data, modality)
        order = torch.randperm(len(found["signed"]))
        units.start_from(found["left"][:, order], found["right"][:, order], found["signed"][order])


def confirmed_products(data: RankingDataset, modality: str) -> dict[str, Tensor]:
    """`left` and `right` `[D, K]`, `signed` `[K]` (see `ProductUnits`), the surest first: of one modality's features.

    Decided by the training split and the modality's features: no seed. K is 0 where no product tells anything.
    """
    said = json.dumps([FORMAT, data.identity, modality, *SETTINGS]).encode()
    folder = data.folder.with_name(f"{data.folder.name}-products-{hashlib.sha256(said).hexdigest()[:16]}")
    return _opened(build_once(folder, functools.partial(_build, data, modality)))


@functools.lru_cache(maxsize=64)
def _opened(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = load_file(folder / "products.safetensors")
    return found


def _build(data: RankingDataset, modality: str, out: Path) -> None:
    rows = np.sort(data.rows("train"))
    found = screen_products(data, rows, fit_columns(data, rows, modalities=(modality,), with_context=False))
    order = np.argsort(-np.abs(found.strength), kind="stable")
    left, right, signed = found.left[:, order], found.right[:, order], found.signed[order]
    if found.count:
        right = right / _deviation(found, data, rows)[order].clamp(min=1e-6)
    kept = {"left": left.contiguous(), "right": right.contiguous(), "signed": signed.contiguous()}
    save_file(kept, out / "products.safetensors")


def _deviation(found: Products, data: RankingDataset, rows: Rows) -> Tensor:
    """`[K]` over the training documents."""
    count, total, square = 0, torch.zeros(()), torch.zeros(())
    for batch in data.batches(rows, EVALUATION_QUERIES):
        values = found(batch)[batch.valid].double()
        count, total, square = count + len(values), total + values.sum(0), square + (values**2).sum(0)
    return (square / count - (total / count) ** 2).clamp(min=0).sqrt().float()
