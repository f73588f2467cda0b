"""The product probe: a small network on standardised columns and on products of their projections.

A factorisation machine with a hidden layer (Rendle 2010; Guo et al. 2017, DeepFM): score = w'z + a'p + mlp(z'W, p) with
p = (z'U) * (z'V). U and V start from the products that the training queries confirm (`second_order`) and from small
random projections, and are learned with the rest. It has none of the family's parts: no attention, no projection of a
modality on its own, no normalisation over a modality's columns.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from fusion_models.data import RankingDataset
from fusion_models.data.batch import Batch
from fusion_models.evaluation import EVALUATION_QUERIES, score_with
from fusion_models.losses.ranking import RANKING_LOSSES
from fusion_models.modalities import SUSPECT, require_suspect
from fusion_models.probes.columns import Columns, Rows, centred, fit_columns
from fusion_models.probes.scores import ProbePair, ProbeScores, stacked
from fusion_models.probes.second_order import Products, multiplied, screen_products

NAME = "network on products"
RANDOM_PRODUCTS, PROJECTIONS, HIDDEN = 16, 32, 32
DROPOUT, COLUMN_DROPOUT = 0.2, 0.2
LOSS, TEMPERATURE = "listnet", 1.0
BATCH_QUERIES = 32
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 0.05
EPOCHS, PATIENCE = 40, 5
RIDGES = (0.01, 0.1, 1.0)
"""Penalties of the start, per document on standardised columns."""
SCALED_BY = 200
"""Training queries whose documents say a product's deviation."""
STOPPING = 0.15
"""Share of the training queries that only stops the training."""
MAX_DOCUMENTS = 200_000
"""Training documents at the most; whole queries beyond it are left out."""


class ProductNetwork(nn.Module):
    """Scores `[B, L]` from standardised columns `[B, L, D]`."""

    signed: Tensor

    def __init__(self, width: int, products: Products, scale: Tensor, generator: torch.Generator) -> None:
        """`scale`: `[K]`, the deviation of each screened product over the training documents."""
        super().__init__()

        def normal(*shape: int) -> Tensor:
            drawn: Tensor = torch.randn(*shape, generator=generator) / max(shape[0], 1) ** 0.5
            return drawn

        right = products.right / scale.clamp(min=1e-6)  # so that each product starts with a deviation of 1
        self.left = nn.Parameter(torch.cat([products.left, normal(width, RANDOM_PRODUCTS)], dim=1))
        self.right = nn.Parameter(torch.cat([right, normal(width, RANDOM_PRODUCTS)], dim=1))
        unsigned = torch.zeros(RANDOM_PRODUCTS, dtype=torch.bool)
        self.register_buffer("signed", torch.cat([products.signed, unsigned]))
        count = self.left.shape[1]
        self.linear = nn.Parameter(torch.zeros(width))
        self.weight = nn.Parameter(torch.zeros(count))
        self.project = nn.Parameter(normal(width, PROJECTIONS))
        self.hidden = nn.Parameter(normal(PROJECTIONS + count, HIDDEN))
        self.bias = nn.Parameter(torch.zeros(HIDDEN))
        self.out = nn.Parameter(torch.zeros(HIDDEN))

    def products(self, z: Tensor) -> Tensor:
        """`[B, L, K]`."""
        return multiplied(z @ self.left, z @ self.right, self.signed)

    def forward(self, z: Tensor, dropout: Tensor | None = None) -> Tensor:
        """`dropout`: what the hidden units are multiplied by in training."""
        products = self.products(z)
        hidden = torch.relu(torch.cat([z @ self.project, products], dim=-1) @ self.hidden + self.bias)
        if dropout is not None:
            hidden = hidden * dropout
        out: Tensor = z @ self.linear + products @ self.weight + hidden @ self.out
        return out


def train_products(
    data: RankingDataset,
    rows: Rows,
    columns: Columns,
    *,
    seed: int = 0,
) -> tuple[ProductNetwork, str]:
    """The network trained on the query rows `rows`, of which `STOPPING` only stops it; and what there is to say.

    Raises ValueError for fewer than two rows.
    """
    if len(rows) < 2:
        raise ValueError(f"the product probe needs at least two training queries, got {len(rows)}")
    order = np.random.default_rng([seed, 3]).permutation(rows)
    most = int(np.searchsorted(np.cumsum(data.candidates[order]), MAX_DOCUMENTS, side="right"))
    order = order[: max(2, most)]
    held_out = max(1, int(STOPPING * len(order)))
    fit, stop = order[held_out:], order[:held_out]
    products = screen_products(data, fit, columns, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    network = ProductNetwork(columns.width, products, products.deviation(data, fit[:SCALED_BY]), generator)
    _start(network, columns, data, fit, stop)
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    loss = RANKING_LOSSES[LOSS]
    best, best_epoch, weights = _ndcg(network, columns, data, stop), 0, copy.deepcopy(network.state_dict())
    epoch = 0
    for epoch in range(1, EPOCHS + 1):
        for batch in data.batches(fit, BATCH_QUERIES, generator=generator):
            kept = (torch.rand(HIDDEN, generator=generator) >= DROPOUT) / (1 - DROPOUT)
            seen = (torch.rand(columns.width, generator=generator) >= COLUMN_DROPOUT) / (1 - COLUMN_DROPOUT)
            optimiser.zero_grad(set_to_none=True)
            total: Tensor = loss(
                network(columns(batch) * seen, kept), batch.labels, batch.valid, temperature=TEMPERATURE
            )
            torch.autograd.backward(total)
            optimiser.step()
        reached = _ndcg(network, columns, data, stop)
        if reached > best:
            best, best_epoch, weights = reached, epoch, copy.deepcopy(network.state_dict())
        if epoch - best_epoch >= PATIENCE:
            break
    network.load_state_dict(weights)
    return network, f"{best_epoch} of {epoch} epochs, {products.count} products confirmed"


@torch.no_grad()
def _start(network: ProductNetwork, columns: Columns, data: RankingDataset, fit: Rows, stop: Rows) -> None:
    """Linear weights by ridge regression on columns and products; the penalty that is best on the stopping queries.

    A step from the best linear readout, not from nothing, so that columns of noise cost little.
    """
    gram, moment, count, known = torch.zeros(()), torch.zeros(()), 0, len(network.signed) - RANDOM_PRODUCTS
    for batch in data.batches(fit, EVALUATION_QUERIES):
        z = columns(batch)
        x = torch.cat([z, network.products(z)[..., :known]], dim=-1)[batch.valid]
        query = batch.valid.nonzero()[:, 0]
        x, y = centred(x, query), centred(batch.labels[batch.valid].float(), query)
        gram, moment, count = gram + x.T @ x, moment + x.T @ y, count + len(x)
    best, chosen = -np.inf, torch.zeros(len(moment))
    for ridge in RIDGES:
        weights = torch.linalg.solve(gram + ridge * count * torch.eye(len(moment)), moment)
        network.linear.copy_(weights[: columns.width])
        network.weight[:known] = weights[columns.width :]
        reached = _ndcg(network, columns, data, stop)
        if reached > best:
            best, chosen = reached, weights
    network.linear.copy_(chosen[: columns.width])
    network.weight[:known] = chosen[columns.width :]


def product_probe(
    data: RankingDataset,
    split: str,
    *,
    modalities: Sequence[str] | None = None,
    with_v1: bool = False,
    seeds: Sequence[int] = (0, 1, 2),
) -> ProbeScores:
    """The network on these modalities (default: all), trained once a seed on the split `train`."""
    train = data.rows("train")
    columns = fit_columns(
        data, train, modalities=data.schema.modalities if modalities is None else tuple(modalities), with_v1=with_v1
    )
    scored, detail = [], []
    for seed in seeds:
        network, said = train_products(data, train, columns, seed=seed)
        scored.append(score_with(_scorer(network, columns), data, split))
        detail.append(said)
    return stacked(scored, "; ".join(detail))


def product_pair(
    data: RankingDataset,
    split: str,
    *,
    suspect: str = SUSPECT,
    with_v1: bool = False,
    seeds: Sequence[int] = (0, 1, 2),
) -> ProbePair:
    """`product_probe` on every modality, and on every modality but `suspect`. Raises ValueError for an unknown one."""
    require_suspect(suspect, data.schema.modalities)
    others = [m for m in data.schema.modalities if m != suspect]
    found = [
        product_probe(data, split, modalities=seen, with_v1=with_v1, seeds=seeds)
        for seen in (data.schema.modalities, others)
    ]
    return ProbePair(name=NAME, suspect=suspect, with_it=found[0], without=found[1])


class _Scorer(Protocol):
    def __call__(self, batch: Batch) -> Tensor: ...


def _scorer(network: ProductNetwork, columns: Columns) -> _Scorer:
    def scorer(batch: Batch) -> Tensor:
        with torch.no_grad():
            scores: Tensor = network(columns(batch))
        return scores

    return scorer


def _ndcg(network: ProductNetwork, columns: Columns, data: RankingDataset, rows: Rows) -> float:
    scored = score_with(_scorer(network, columns), data, rows)
    reached = scored.mean_ndcg()
    return reached if reached == reached else 0.0
