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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy import special
from torch import Tensor

from fusion_models.data import RankingDataset
from fusion_models.data.arrays.cache import build_once
from fusion_models.evaluation import EVALUATION_QUERIES
from fusion_models.models import TrainableRanker
from fusion_models.probes.columns import centred, fit_columns
from fusion_models.probes.grouped_sums import GroupedSums
from fusion_models.probes.second_order import SETTINGS, screen_products

SURE = 3.0
"""Standard errors from which a column counts, once one column passes what chance gives in `CHANCE` of datasets."""
CHANCE = 0.05
ITEM_PARTS = 256
"""Into which items are dealt for the standard error: documents of one item are no independent witnesses."""
SCALED_BY = 2_000
"""Training queries whose documents say a product's deviation, which its unit starts with as 1."""
FORMAT = 7
"""Of the cached folder; part of its name."""


def start_screened(model: TrainableRanker, data: RankingDataset) -> None:
    """Tell a fresh ranker what the training queries confirm, where it asks for that."""
    keep_columns(model, data)
    start_products(model, data)


def keep_columns(model: TrainableRanker, data: RankingDataset) -> None:
    """Have the encoders that are screened read the confirmed columns alone: the same for every training on `data`."""
    for modality, encoder in model.screened_encoders().items():
        encoder.keep(confirmed_columns(data, modality).to(model.device))


def start_products(model: TrainableRanker, data: RankingDataset) -> None:
    """Start a fresh ranker's products, where it has any; those of a modality where nothing is confirmed are 0.

    Where more are confirmed than there are units, torch's generator draws: members of an ensemble then differ.
    """
    for modality, units in model.product_units().items():
        found = confirmed_products(data, modality)
        order = torch.randperm(len(found["signed"]))
        units.start_from(found["left"][:, order], found["right"][:, order], found["signed"][order])


def confirmed_columns(data: RankingDataset, modality: str) -> Tensor:
    """`[D]` bool: the features whose covariance with the label, both taken around their query's mean, is `SURE`
    standard errors from 0 over the training queries; none where even the largest may be chance.

    Standard errors are the largest of three: documents, queries, or items as what is independent.
    """
    said = [modality, SURE, CHANCE, ITEM_PARTS]
    return _kept(data, "columns", said, functools.partial(_columns, data, modality))["columns"]


def confirmed_products(data: RankingDataset, modality: str) -> dict[str, Tensor]:
    """`left` and `right` `[D, K]`, `signed` `[K]` (see `ProductUnits`), the surest first: of one modality's features.

    Decided by the training split and the modality's features: no seed. K is 0 where no product tells anything.
    """
    return _kept(data, "products", [modality, *SETTINGS], functools.partial(_products, data, modality))


def _kept(
    data: RankingDataset, name: str, said: list[Any], make: Callable[[], Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """What `make` makes, once a node; `said` is what decides it beside the training split."""
    key = hashlib.sha256(json.dumps([FORMAT, data.identity, *said]).encode()).hexdigest()[:16]

    def build(out: Path) -> None:
        save_file({part: tensor.contiguous() for part, tensor in make().items()}, out / f"{name}.safetensors")

    return _opened(build_once(data.folder.with_name(f"{data.folder.name}-{name}-{key}"), build) / f"{name}.safetensors")


@functools.lru_cache(maxsize=64)
def _opened(file: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = load_file(file)
    return found


def _products(data: RankingDataset, modality: str) -> dict[str, Tensor]:
    rows = np.sort(data.rows("train"))
    found = screen_products(data, rows, fit_columns(data, rows, modalities=(modality,), with_context=False))
    order = np.argsort(-np.abs(found.strength), kind="stable")
    left, right, signed = found.left[:, order], found.right[:, order], found.signed[order]
    deviation = found.deviation(data, rows[:SCALED_BY])[order]
    return {"left": left, "right": right / deviation.clamp(min=1e-6), "signed": signed}


def _columns(data: RankingDataset, modality: str) -> dict[str, Tensor]:
    rows = np.sort(data.rows("train"))
    columns = fit_columns(data, rows, modalities=(modality,), with_context=False)
    documents, queries, items = GroupedSums(), GroupedSums(), GroupedSums()
    of_items = torch.zeros(ITEM_PARTS, columns.width, dtype=torch.float64)
    in_items = torch.zeros(ITEM_PARTS, dtype=torch.float64)
    for batch in data.batches(rows, EVALUATION_QUERIES):
        query, item = batch.valid.nonzero()[:, 0], batch.item[batch.valid] % ITEM_PARTS
        features, labels = columns(batch)[batch.valid].double(), batch.labels[batch.valid].double()
        each = centred(features, query) * centred(labels, query)[:, None]
        documents.add(each, each.new_ones(len(each)))
        of_queries = each.new_zeros(len(batch.valid), columns.width).index_add_(0, query, each)
        queries.add(of_queries, batch.valid.sum(dim=1).double())
        of_items.index_add_(0, item, each)
        in_items += torch.bincount(item, minlength=ITEM_PARTS)
    items.add(of_items[in_items > 0], in_items[in_items > 0])
    error = torch.stack([sums.error() for sums in (documents, queries, items)]).amax(dim=0)
    found = documents.total.abs()
    told = (found > SURE * error) & (error > 0)
    chance = -float(special.ndtri(CHANCE / (2 * max(columns.width, 1))))
    return {"columns": told & (told & (found > chance * error)).any()}
