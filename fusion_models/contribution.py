"""What each modality gives one trained ranker, beyond a single blank: the measurements that take many passes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models.data import RankingDataset
from fusion_models.evaluation import EVALUATION_QUERIES
from fusion_models.metrics import (
    additive_projection,
    blank_pictures,
    effective_rank,
    interaction_gain,
    keep_only,
    linear_cka,
    mean_image_ssim,
    nearest_neighbour_ssim,
    shapley,
    ssim,
    subsets,
)
from fusion_models.metrics.intervals.weights import uneven, weighted_mean
from fusion_models.models import Ranker
from fusion_models.tuned_v1 import seen_by

INTERACTION_REFERENCES = 6
"""Reference documents a query in the additive projection: 6 x (M + 1) forward passes."""
MOST_DOCUMENTS = 2_000
"""Documents that representations and pictures are compared on."""


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """One ranker on one split."""

    masked_shapley: dict[str, float]
    """Modality -> share of nDCG (absolute) when the others come and go by zero blanks; sums to v(all) - v(none)."""
    masked_values: dict[str, float]
    """nDCG with a subset of the modalities kept, `text+metadata` -> value; `` is none of them."""
    interaction_gain: npt.NDArray[np.float64]
    """`[Q]`, rows ascending: nDCG less that of the best additive projection of the scores."""
    cka: dict[str, float]
    """Debiased linear CKA of two modalities' projections, `visual~text` -> value: 1 is the same geometry."""
    effective_rank: dict[str, float]
    """Of each modality's projection: 1 is collapse to a line, the width is the most."""
    ssim: dict[str, float]
    """Of decoded thumbnails: `decoded`, with `mean image` and `nearest neighbour` as references; empty without a
    decoder or pictures."""


@torch.no_grad()
def contribution(model: Ranker, data: RankingDataset, split: str, *, seed: int = 0) -> Contribution:
    """Measure `model` on `split`, on the CPU."""
    model.eval()
    data = seen_by(model, data)
    generator = torch.Generator().manual_seed(seed)
    kept_ndcg: dict[frozenset[str], list[Tensor]] = {subset: [] for subset in subsets(model.modalities)}
    interactions, rows, projected, fused, items, weights = [], [], [], [], [], []
    metric = data.metric
    with model.scores_only():
        for batch in data.batches(split, EVALUATION_QUERIES):
            out = model(batch)
            full = metric(out.scores, batch.labels, batch.valid)
            weights.append(torch.ones(len(full)).double() if batch.weight is None else batch.weight)
            for subset, parts in kept_ndcg.items():
                scores = model(keep_only(batch, subset, "zero")).scores
                parts.append(metric(scores, batch.labels, batch.valid))
            additive = additive_projection(
                model.fixed_scores(batch),
                batch,
                modalities=model.modalities,
                references=INTERACTION_REFERENCES,
                generator=generator,
            )
            interactions.append(interaction_gain(full, metric(additive, batch.labels, batch.valid)))
            rows.append(batch.query)
            projected.append(out.projected[batch.valid])
            fused.append(out.fused[batch.valid])
            items.append(batch.item[batch.valid])
    uneven_weights = uneven(torch.cat(weights).numpy())
    values = {subset: weighted_mean(torch.cat(parts).numpy(), uneven_weights) for subset, parts in kept_ndcg.items()}
    some = torch.randperm(sum(len(p) for p in projected), generator=generator)[:MOST_DOCUMENTS]
    representations = torch.cat(projected)[some].unbind(1)
    shown = representations[0].shape[-1] > 0  # somebody's own ranker need not show its projections
    return Contribution(
        masked_shapley=shapley(values),
        masked_values={"+".join(m for m in model.modalities if m in subset): v for subset, v in values.items()},
        interaction_gain=torch.cat(interactions)[torch.cat(rows).argsort()].numpy(),
        cka={
            f"{a}~{b}": linear_cka(representations[i], representations[j])
            for i, a in enumerate(model.modalities)
            for j, b in enumerate(model.modalities)
            if i < j and shown
        },
        effective_rank={m: effective_rank(x) for m, x in zip(model.modalities, representations, strict=True) if shown},
        ssim=_ssim(model, data, torch.cat(fused)[some], torch.cat(items)[some]),
    )


def _ssim(model: Ranker, data: RankingDataset, fused: Tensor, items: Tensor) -> dict[str, float]:
    """Mean SSIM of decoded pictures, and of two references that know nothing of the ranker."""
    if model.thumbnail is None or data.schema.thumbnail is None:
        return {}
    train = _training_items(data)
    kept, shown = (~blank_pictures(data.thumbnails(rows)) for rows in (items, train))
    items, fused, train = items[kept], fused[kept], train[shown]
    if not len(items) or not len(train):
        return {}
    truth, gallery = _pictures(data, items), _pictures(data, train)
    keys, gallery_keys = (
        torch.from_numpy(data.item_features[model.members[0].suspect][rows.numpy()]) for rows in (items, train)
    )
    return {
        "decoded": float(ssim(model.decode_thumbnails(fused), truth).mean()),
        "mean image": float(mean_image_ssim(truth, gallery).mean()),
        "nearest neighbour": float(nearest_neighbour_ssim(truth, gallery, keys=keys, gallery_keys=gallery_keys).mean()),
    }


def _pictures(data: RankingDataset, items: Tensor) -> Tensor:
    return data.thumbnails(items).float() / 255.0


def _training_items(data: RankingDataset) -> Tensor:
    """Distinct items of the first training queries, `[n]`, at most MOST_DOCUMENTS."""
    batch = data.gather(data.rows("train")[:EVALUATION_QUERIES])
    return torch.from_numpy(np.unique(batch.item[batch.valid].numpy())[:MOST_DOCUMENTS])
