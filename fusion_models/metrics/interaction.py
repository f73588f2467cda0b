"""Whether a ranker combines modalities or only adds them up: empirical multimodally-additive projection (EMAP)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product

import torch
from torch import Tensor

from fusion_models.data.batch import Batch
from fusion_models.metrics.ranking import permutation_within

ScoreFunction = Callable[[Batch], Tensor]
"""A batch in, scores `[B, L]` out; each document scored by itself."""


def additive_projection(
    score: ScoreFunction,
    batch: Batch,
    *,
    modalities: Sequence[str] | None = None,
    references: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The scores' best additive approximation over the modalities, within each query's list.

    With x_m document i's features of modality m, and the mean taken over cross-combinations of the other modalities'
    features, drawn from the documents of the same query:

        additive(i) = sum_m mean[score(x_m of i, others drawn)] - (M - 1) * mean[score(all drawn)]

    which is the least-squares additive fit over the full grid of combinations (EMAP for M = 2). Every term keeps
    document i's own context and V1 score, so the projection is additive given those. `references=None` takes the full
    grid, L^M + M L^(M-1) forward passes: short lists only. With R references each modality's are R documents drawn
    without replacement (starting over when the list is used up), independently for each modality, and all documents
    of a query share them: R (M + 1) forward passes. Sharing them means that sampling moves all documents of a query
    alike: an additive scorer is reproduced exactly, up to a constant a query, for any R.

    Args:
        score: the ranker, without dropout; gradients are not recorded.
        batch: B queries, padded to L.
        modalities: those to take apart; default all of the batch. M >= 1.
        references: R >= 1, or None for the full grid.
        generator: needed with `references`.

    Returns:
        `[B, L]` float64, 0 where padded.

    Raises:
        ValueError: an unknown modality, `references` below 1 or without a generator.

    References:
        Hessel and Lee 2020, "Does my multimodal model learn cross-modal interactions? It's harder to tell than you
        might think!"
    """
    names = tuple(batch.features) if modalities is None else tuple(modalities)
    if not names or not set(names) <= set(batch.features):
        raise ValueError(f"expected modalities of {sorted(batch.features)}, got {names}")
    if references is not None and (references < 1 or generator is None):
        raise ValueError(f"references must be >= 1 and come with a generator, got {references}, {generator}")
    total = torch.zeros(batch.valid.shape, dtype=torch.float64, device=batch.valid.device)
    shared = list(_sample(batch.valid, names, references, generator)) if references and generator else None
    with torch.no_grad():
        for kept, weight in [*(((m,), 1.0) for m in names), ((), 1.0 - len(names))]:
            drawn = [m for m in names if m not in kept]
            places = _grid(batch.valid, drawn) if shared is None else shared
            total += weight * _mean_score(score, batch, drawn, places)
    return total.masked_fill(~batch.valid, 0.0)


def interaction_gain(full: Tensor, additive: Tensor) -> Tensor:
    """What interactions are worth, a query: nDCG of the scores less that of their additive projection.

    `[Q]`, `[Q]` -> `[Q]`; near 0 on average: the ranker only adds modalities up.
    """
    if full.shape != additive.shape:
        raise ValueError(f"the same queries are needed on both sides, got {tuple(full.shape)}, {tuple(additive.shape)}")
    return full - additive


def _mean_score(
    score: ScoreFunction, batch: Batch, drawn: Sequence[str], places: Iterable[tuple[dict[str, Tensor], Tensor]]
) -> Tensor:
    """Mean score with the `drawn` modalities taken from reference documents: `[B, L]` float64."""
    total = torch.zeros(batch.valid.shape, dtype=torch.float64, device=batch.valid.device)
    weights = torch.zeros(len(batch.valid), 1, dtype=torch.float64, device=batch.valid.device)
    rows = torch.arange(len(batch.valid), device=batch.valid.device)
    for place, counts in places:
        features = dict(batch.features)
        for modality in drawn:
            reference = batch.features[modality][rows, place[modality]]
            features[modality] = reference.unsqueeze(1) * batch.valid.unsqueeze(-1)
        weight = counts.double().unsqueeze(1)
        total += weight * score(batch._replace(features=features)).double().masked_fill(~batch.valid, 0.0)
        weights += weight
    return total / weights.clamp(min=1)


def _grid(valid: Tensor, drawn: Sequence[str]) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Every combination of places; those that fall on a query's padding count 0."""
    for combination in product(range(valid.shape[1]), repeat=len(drawn)):
        place = {m: torch.full_like(valid[:, 0], p, dtype=torch.long) for m, p in zip(drawn, combination, strict=True)}
        yield place, valid[:, list(combination)].all(1)


def _sample(
    valid: Tensor, names: Sequence[str], references: int, generator: torch.Generator
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """R combinations of real places; each modality goes through its own random order of the list."""
    positions = torch.argsort((~valid).to(torch.uint8), dim=1, stable=True)
    orders = {m: permutation_within(valid, generator).gather(1, positions) for m in names}
    lengths = valid.sum(1).clamp(min=1)
    for r in range(references):
        turn = (r % lengths).unsqueeze(1)
        yield {m: order.gather(1, turn).squeeze(1) for m, order in orders.items()}, valid.any(1)
