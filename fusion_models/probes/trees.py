"""The tree probe: LambdaMART on everything, with a modality and without it.

Trees read raw columns one at a time, so no scale, projection or normalisation can hide a column from them; products
of columns, which they form only by luck, are handed to them (`second_order`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fusion_models.data import RankingDataset
from fusion_models.data.batch import Batch
from fusion_models.lambdamart import TreeInputs, train_lambdamart, tree_scores
from fusion_models.modalities import SUSPECT, require_suspect
from fusion_models.probes.columns import cosines, fit_columns
from fusion_models.probes.scores import ProbePair, ProbeScores, stacked
from fusion_models.probes.second_order import Products, screen_products

NAME = "LambdaMART"


def tree_probe(
    data: RankingDataset,
    split: str,
    *,
    modalities: Sequence[str] | None = None,
    with_v1: bool = False,
    products: bool = True,
    seeds: Sequence[int] = (0, 1, 2),
) -> ProbeScores:
    """LambdaMART on these modalities (default: all), trained once a seed on the split `train`.

    A seed decides which tenth of the queries stops the training early, what is bagged, and which half proposes
    products. With `products=False` the trees see what the baseline sees.
    """
    train = data.rows("train")
    seen = data.schema.modalities if modalities is None else tuple(modalities)
    columns = fit_columns(data, train, modalities=seen, with_v1=with_v1) if products else None
    scored, detail = [], []
    for seed in seeds:
        derived = None if columns is None else _Derived(screen_products(data, train, columns, seed=seed))
        inputs = TreeInputs(modalities=seen, with_v1=with_v1, derived=derived)
        trees = train_lambdamart(data, train, inputs, seed=seed)
        scored.append(tree_scores(trees, data, split))
        detail.append(f"{trees.booster.best_iteration} trees, {derived.products.count if derived else 0} products")
    return stacked(scored, "; ".join(detail))


@dataclass(frozen=True)
class _Derived:
    """Products and cosines: what trees see beyond the baseline's columns."""

    products: Products

    def __call__(self, batch: Batch) -> Tensor:
        return torch.cat([self.products(batch), cosines(batch, self.products.columns.modalities)], dim=-1)


def tree_pair(
    data: RankingDataset,
    split: str,
    *,
    suspect: str = SUSPECT,
    with_v1: bool = False,
    products: bool = True,
    seeds: Sequence[int] = (0, 1, 2),
) -> ProbePair:
    """`tree_probe` on every modality, and on every modality but `suspect`. Raises ValueError for an unknown one."""
    require_suspect(suspect, data.schema.modalities)
    others = [m for m in data.schema.modalities if m != suspect]
    found = [
        tree_probe(data, split, modalities=seen, with_v1=with_v1, products=products, seeds=seeds)
        for seen in (data.schema.modalities, others)
    ]
    return ProbePair(name=NAME, suspect=suspect, with_it=found[0], without=found[1])
