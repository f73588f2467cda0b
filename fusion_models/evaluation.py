"""A model and a split in, one Evaluation out: where measurements meet data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models.config import MODALITIES
from fusion_models.data import RankingDataset
from fusion_models.data.batch import Batch
from fusion_models.distribution import ALONE, Distribution
from fusion_models.metrics import (
    BLANKS,
    Blank,
    agreement,
    balance,
    blank,
    centred_correlation,
    centred_moments,
    gradient_times_input_shares,
    masking_drop,
    ndcg,
    query_shares,
    ssim,
)
from fusion_models.models import FusionRanker, RankerOutput
from fusion_models.models.projections import Projected

Values = npt.NDArray[np.float64]

EVALUATION_QUERIES = 64
"""Queries a batch when nothing is trained: a matter of memory, not of results."""
SHUFFLE_DRAWS = 20
PICTURES_A_QUERY = 4
"""Documents of each query whose decoded thumbnail is compared with the true one: its first ones."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One split, scored: padded to its longest list, rows ascending."""

    rows: npt.NDArray[np.int64]
    """`[Q]`: rows of the dataset's queries."""
    scores: Tensor
    """`[Q, L]`; so are the three below."""
    labels: Tensor
    v1: Tensor
    valid: Tensor

    def ndcg(self) -> Values:
        """`[Q]`: nDCG@10 of the model; NaN without a relevant item."""
        return ndcg(self.scores, self.labels, self.valid).numpy()

    def as_v1(self) -> Scored:
        """The same lists as V1 scores them."""
        return dataclasses.replace(self, scores=self.v1)

    def v1_ndcg(self) -> Values:
        """`[Q]`: nDCG@10 of the production ranker on the same lists."""
        return ndcg(self.v1, self.labels, self.valid).numpy()


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What one model does on one split. Values a query are NaN where it has no relevant item."""

    split: str
    rows: npt.NDArray[np.int64]
    """`[Q]`: rows of the dataset's queries, ascending, so that two evaluations of a split line up."""
    documents: Values
    """`[Q]`: candidates of each query."""
    ndcg: Values
    """`[Q]`: nDCG@10 of the model."""
    v1_ndcg: Values
    """`[Q]`: nDCG@10 of the production ranker on the same lists."""
    masked: dict[tuple[str, str], Values]
    """(modality, blank) -> `[Q]`: nDCG@10 with that modality blanked."""
    modalities: tuple[str, ...]
    shares: Values
    """`[Q, K, M]`: mean share of attention (or what stands for it) over each query's documents, by layer."""
    value_shares: Values | None
    """The same weighted by the norm of the values; None where the variant has none."""
    share_kind: str
    moments: Values
    """`[Q, 3]`: centred moments of the scores with V1's."""
    agreement: dict[str, float]
    ssim: Values | None = None
    """`[Q]`: mean SSIM of decoded thumbnails; None unless asked for, and without a decoder or pictures."""

    @property
    def mean_ndcg(self) -> float:
        """Mean nDCG@10 over queries that have a relevant item."""
        return float(np.nanmean(self.ndcg))

    def masking_drop(self, modality: str, kind: str = "zero") -> float:
        """(nDCG - nDCG with `modality` blanked) / nDCG, a fraction."""
        return masking_drop(torch.from_numpy(self.ndcg), torch.from_numpy(self.masked[modality, kind]))

    def layer_shares(self) -> Values:
        """`[K, M]`: mean share over all documents, layer by layer."""
        return np.average(self.shares, axis=0, weights=self.documents)

    def numbers(self) -> dict[str, float]:
        """The scalars of this evaluation under the names that every table uses; fractions are fractions."""
        out = {"ndcg": self.mean_ndcg, "v1_ndcg": float(np.nanmean(self.v1_ndcg))}
        out["ndcg_gain"] = float(np.nanmean(self.ndcg - self.v1_ndcg))
        for modality, kind in self.masked:
            suffix = "" if kind == "zero" else f"_{kind}"
            out[f"{modality}_masking_drop{suffix}"] = self.masking_drop(modality, kind)
        mean = self.layer_shares().mean(axis=0)
        out |= {f"attention_{m}": float(share) for m, share in zip(self.modalities, mean, strict=True)}
        out["attention_max_share"], out["attention_min_share"] = float(mean.max()), float(mean.min())
        out["attention_balance"] = float(balance(torch.from_numpy(mean)))
        if self.value_shares is not None:
            weighted = np.average(self.value_shares, axis=0, weights=self.documents).mean(axis=0)
            out |= {f"value_attention_{m}": float(share) for m, share in zip(self.modalities, weighted, strict=True)}
        if self.ssim is not None:
            out["reconstruction_ssim"] = float(self.ssim.mean())
        return out | self.agreement


def evaluate(
    model: FusionRanker,
    data: RankingDataset,
    split: str,
    *,
    blanks: Sequence[str] = MODALITIES,
    kinds: Sequence[Blank] = ("zero",),
    ranks: bool = False,
    pictures: bool = False,
    values: bool = True,
    device: torch.device | str = "cpu",
    seed: int = 0,
    distribution: Distribution = ALONE,
) -> Evaluation:
    """Score `split` plainly and again for each blanked modality and kind of blank.

    A shuffle is the mean of 20 draws, from `seed`. `ranks` adds the rank statistics of V1 agreement, which cost a sort
    or a square a list; `pictures` the SSIM of decoded thumbnails, where the ranker decodes them; `values=False` leaves
    out the shares weighted by values, which can cost three quarters of a pass. Every process of `distribution` calls
    this with the same ranker, scores its share of the batches, and gets the whole Evaluation.
    """
    model.eval()
    mine = []
    for _, batch in _batches(data, split, device, distribution):
        with torch.no_grad(), nullcontext() if values else model.scores_only():
            out = model(batch)
        weighted = None if out.value_shares is None else query_shares(out.value_shares, batch.valid).cpu()
        mine.append(
            _Measured(
                lists=_lists(batch, out.scores),
                shares=query_shares(_shares(model, batch, out), batch.valid).cpu(),
                value_shares=weighted,
                ssim=_query_ssim(model, data, batch, out.fused) if pictures and model.thumbnail is not None else None,
            )
        )
    measured = distribution.join(mine)
    lists = [part.lists for part in measured]
    order = torch.cat([queries for queries, *_ in lists]).argsort()
    scored = _scored(lists)
    agreed = v1_agreement(scored, ranks=ranks)
    value_shares = [part.value_shares for part in measured if part.value_shares is not None]
    similarity = [part.ssim for part in measured if part.ssim is not None]
    return Evaluation(
        split=split,
        rows=scored.rows,
        documents=scored.valid.sum(dim=1).double().numpy(),
        ndcg=scored.ndcg(),
        v1_ndcg=scored.v1_ndcg(),
        masked=masked_ndcg(
            model, data, split, blanks=blanks, kinds=kinds, device=device, seed=seed, distribution=distribution
        ),
        modalities=model.modalities,
        shares=torch.cat([part.shares for part in measured])[order].numpy(),
        value_shares=torch.cat(value_shares)[order].numpy() if value_shares else None,
        share_kind=model.share_kind,
        moments=centred_moments(scored.scores, scored.v1, scored.valid).numpy(),
        agreement=agreed,
        ssim=torch.cat(similarity)[order].double().numpy() if similarity else None,
    )


def masked_ndcg(
    model: FusionRanker,
    data: RankingDataset,
    split: str,
    *,
    blanks: Sequence[str],
    kinds: Sequence[Blank] = ("zero",),
    device: torch.device | str = "cpu",
    seed: int = 0,
    distribution: Distribution = ALONE,
) -> dict[tuple[str, str], Values]:
    """(modality, blank) -> nDCG@10 of each query, rows ascending, with that modality blanked; see `evaluate`."""
    model.eval()
    wanted = [(modality, kind) for modality in blanks if modality in model.modalities for kind in kinds]
    if not wanted:
        return {}
    mine: list[tuple[Tensor, dict[tuple[str, str], Tensor]]] = []
    for index, batch in _batches(data, split, device, distribution):
        generator = torch.Generator(device).manual_seed(seed + index)  # a batch's draws, whichever process makes them
        with torch.no_grad():
            inputs = model.projections(batch, None)
        masked: dict[tuple[str, str], Tensor] = {
            (m, kind): _masked_ndcg(model, batch, inputs, m, kind, generator) for m, kind in wanted
        }
        mine.append((batch.query.cpu(), masked))
    found = distribution.join(mine)
    order = torch.cat([queries for queries, _ in found]).argsort()
    return {key: torch.cat([masked[key] for _, masked in found])[order].numpy() for key in wanted}


def _batches(
    data: RankingDataset, split: str, device: torch.device | str, distribution: Distribution
) -> Iterator[tuple[int, Batch]]:
    """This process's share of a split's batches, each with its place among all."""
    for index, rows in enumerate(data.row_batches(split, EVALUATION_QUERIES)):
        if index % distribution.size == distribution.rank:
            yield index, data.gather(rows, device)


@torch.no_grad()
def score(model: FusionRanker, data: RankingDataset, split: str, *, device: torch.device | str = "cpu") -> Scored:
    """Every list of `split` with the model's scores."""
    model.eval()
    batches = data.batches(split, EVALUATION_QUERIES, device=device)
    with model.scores_only():
        return _scored([_lists(batch, model(batch).scores) for batch in batches])


def v1_agreement(scored: Scored, *, ranks: bool) -> dict[str, float]:
    """Agreement of the scores with V1's under the tables' names."""
    if not ranks:
        return {"v1_correlation": centred_correlation(scored.scores, scored.v1, scored.valid)}
    found = agreement(scored.scores, scored.v1, scored.valid)
    return {
        "v1_correlation": found.centred_correlation,
        "v1_correlation_pooled": found.pooled_correlation,
        "v1_spearman": found.spearman,
        "v1_kendall": found.kendall,
        "top1_stability": found.top1_stability,
        "v1_rank_change": found.rank_change,
        "v1_rank_biased_overlap": found.rank_biased_overlap,
    }


@torch.no_grad()
def _masked_ndcg(
    model: FusionRanker, batch: Batch, inputs: Projected, modality: str, kind: Blank, generator: torch.Generator
) -> Tensor:
    """`[B]`: nDCG@10 with one modality blanked. `inputs`: what the projections made of the batch as it is."""
    draws = SHUFFLE_DRAWS if kind in BLANKS[2:] else 1
    mean = model.feature_mean(modality) if kind == "mean" else None
    found = []
    with model.scores_only():
        for _ in range(draws):
            blanked = blank(batch, modality, kind, mean=mean, generator=generator)
            scores = model.score_tokens(model.projections.replaced(inputs, blanked, modality), inputs.query)
            found.append(ndcg(scores.reshape(batch.labels.shape), batch.labels, batch.valid))
    return torch.stack(found).mean(dim=0).cpu()


@torch.no_grad()
def _query_ssim(model: FusionRanker, data: RankingDataset, batch: Batch, fused: Tensor) -> Tensor:
    """`[B]`: mean SSIM of the decoded thumbnails of each query's first documents."""
    item, fused = batch.item[:, :PICTURES_A_QUERY], fused[:, :PICTURES_A_QUERY]
    real = item >= 0
    found = torch.zeros(real.shape)
    truth = data.thumbnails(item[real].cpu()).float() / 255.0
    found[real.cpu()] = ssim(model.decode_thumbnails(fused[real]).float().cpu(), truth)
    return found.sum(dim=1) / real.sum(dim=1).cpu()


def _shares(model: FusionRanker, batch: Batch, out: RankerOutput) -> Tensor:
    """`[B, L, K, M]`: the variant's own shares, or |gradient x input| of each modality's tokens."""
    if out.shares is not None:
        return out.shares
    with torch.enable_grad():
        tokens, owner, query = model.tokens(batch)
        tokens = tokens.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(model.score_tokens(tokens, query).sum(), tokens)
    shares = gradient_times_input_shares(tokens.detach(), gradient, owner)
    return shares.reshape(*batch.labels.shape, 1, -1)


Lists = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class _Measured(NamedTuple):
    """One batch of `evaluate`, on the CPU."""

    lists: Lists
    shares: Tensor
    value_shares: Tensor | None
    ssim: Tensor | None


def _lists(batch: Batch, scores: Tensor) -> Lists:
    """Query rows `[B]`, then scores, labels, V1's scores and valid places `[B, L]` of a scored batch."""
    return batch.query.cpu(), scores.float().cpu(), batch.labels.cpu(), batch.v1.cpu(), batch.valid.cpu()


def _scored(parts: Sequence[Lists]) -> Scored:
    """Scored batches of one pass over a split, put together: rows ascending, padded to the longest list."""
    longest = max(scores.shape[1] for _, scores, *_ in parts)
    queries = torch.cat([part[0] for part in parts])
    order = queries.argsort()
    scores, labels, v1, valid = (
        torch.cat([torch.nn.functional.pad(part[i], (0, longest - part[i].shape[1])) for part in parts])[order]
        for i in (1, 2, 3, 4)
    )
    return Scored(rows=queries[order].numpy(), scores=scores, labels=labels, v1=v1, valid=valid)
