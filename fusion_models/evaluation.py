"""A model and a split in, one Evaluation out: where measurements meet data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models.data import RankingDataset
from fusion_models.data.batch import Batch
from fusion_models.metrics import BLANKS, Blank, blank, blank_pictures, query_shares, ssim
from fusion_models.metrics.intervals.weights import uneven, weighted_mean
from fusion_models.metrics.ranking_metric import NDCG_10, RankingMetric
from fusion_models.models import FusionRanker, Ranker, RankerOutput
from fusion_models.models.projections import Projected
from fusion_models.process_group import ALONE, ProcessGroup
from fusion_models.quantities import Lists, Outputs, drop_name, numbers, quantity
from fusion_models.tuned_v1 import seen_by

Values = npt.NDArray[np.float64]

EVALUATION_QUERIES = 64
"""Queries a batch when nothing is trained: a matter of memory, not of results."""
SHUFFLE_DRAWS = 20
PICTURES_A_QUERY = 4
"""Documents of each query whose decoded thumbnail is compared with the true one, where they have a picture: its first
ones."""


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
    weight: Tensor | None = None
    """`[Q]` float64: what each query counts; None: all alike."""
    metric: RankingMetric = NDCG_10

    def ndcg(self) -> Values:
        """`[Q]`: the metric of the model; NaN without a relevant item."""
        return self.metric(self.scores, self.labels, self.valid).numpy()

    def mean_ndcg(self) -> float:
        """Mean of `ndcg` by the queries' weights; NaN where no query has a relevant item."""
        return weighted_mean(self.ndcg(), None if self.weight is None else uneven(self.weight.numpy()))

    def as_v1(self) -> Scored:
        """The same lists as V1 scores them."""
        return dataclasses.replace(self, scores=self.v1)

    def v1_ndcg(self) -> Values:
        """`[Q]`: the metric of the production ranker on the same lists."""
        return self.metric(self.v1, self.labels, self.valid).numpy()

    def lists(self) -> Lists:
        """The lists themselves."""
        labels, v1 = self.labels.double().numpy(), self.v1.double().numpy()
        weight = None if self.weight is None else self.weight.numpy()
        valid = self.valid.numpy()
        return Lists(rows=self.rows, labels=labels, v1=v1, valid=valid, weight=weight, metric=self.metric)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What one model does on one split. Values a query are NaN where it has no relevant item."""

    split: str
    outputs: Outputs

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """`[Q]`: rows of the dataset's queries, ascending, so that two evaluations of a split line up."""
        return self.outputs.lists.rows

    @property
    def documents(self) -> Values:
        """`[Q]`: candidates of each query."""
        return self.outputs.lists.documents

    @property
    def ndcg(self) -> Values:
        """`[Q]`: nDCG@10 of the model, or what else the data are measured by."""
        return self.outputs.ndcg

    @property
    def v1_ndcg(self) -> Values:
        """`[Q]`: the same of the production ranker on the same lists."""
        return self.outputs.lists.v1_ndcg

    @property
    def masked(self) -> dict[tuple[str, str], Values]:
        """(modality, blank) -> `[Q]`: the same with that modality blanked."""
        return self.outputs.masked_ndcg

    @property
    def shares(self) -> Values:
        """`[Q, K, M]`: mean share of attention (or what stands for it) over each query's documents, by layer."""
        assert self.outputs.shares is not None
        return self.outputs.shares

    @cached_property
    def mean_ndcg(self) -> float:
        """Mean of `ndcg` over queries that have a relevant item, by their weights."""
        return quantity("ndcg").estimate(self.outputs)

    def masking_drop(self, modality: str, kind: str = "zero") -> float:
        """(nDCG - nDCG with `modality` blanked) / nDCG, a fraction."""
        return quantity(drop_name(modality, kind), (modality,)).estimate(self.outputs)

    def layer_shares(self) -> Values:
        """`[K, M]`: mean share over all documents, layer by layer."""
        return np.average(self.shares, axis=0, weights=self.documents * self.outputs.lists.weights)

    def numbers(self, *, ranks: bool = False) -> dict[str, float]:
        """The scalars of this evaluation under the names that every table uses; fractions are fractions.

        What every epoch measures; `ranks` adds the rest, such as the rank statistics of V1 agreement, which cost a sort
        or a square a list.
        """
        return numbers(self.outputs, epochs=not ranks)


@dataclass(frozen=True)
class Blanking:
    """Which modalities are blanked, each alone, and in which ways."""

    modalities: Sequence[str] | None = None
    """None: all of the ranker's. Those that it has not are left out."""
    kinds: Sequence[Blank] = ("zero",)
    seed: int = 0
    """Of shuffles: each is read as the mean over 20 draws."""

    def of(self, modalities: Sequence[str]) -> list[tuple[str, Blank]]:
        """Every (modality, kind) of a ranker with these modalities."""
        wanted = modalities if self.modalities is None else self.modalities
        return [(modality, kind) for modality in wanted if modality in modalities for kind in self.kinds]


NO_BLANKING = Blanking(modalities=())


def evaluate(
    model: Ranker,
    data: RankingDataset,
    split: str,
    blanking: Blanking = Blanking(),
    *,
    brief: bool = False,
    process_group: ProcessGroup = ALONE,
) -> Evaluation:
    """Score `split` plainly, and again for each blanked modality and kind of blank, on the ranker's device.

    `brief` leaves out what no epoch reads: the shares weighted by values, which can cost three quarters of a pass, and
    the SSIM of decoded thumbnails, where the ranker decodes them. Every process of `process_group` calls this with the
    same ranker, scores its share of the batches, and gets the whole Evaluation.
    """
    model.eval()
    data = seen_by(model, data)
    decodes = model.thumbnail is not None and not brief
    mine = []
    for _, batch in _batches(data, split, model.device, process_group):
        with torch.no_grad(), model.scores_only() if brief else nullcontext():
            out = model(batch)
        weighted = None if out.value_shares is None else query_shares(out.value_shares, batch.valid).cpu()
        mine.append(
            _Measured(
                lists=_lists(batch, out.scores),
                shares=query_shares(_shares(model, batch, out), batch.valid).cpu(),
                value_shares=weighted,
                ssim=_query_ssim(model, data, batch, out.fused) if decodes else None,
            )
        )
    measured = process_group.join(mine)
    lists = [part.lists for part in measured]
    order = torch.cat([queries for queries, *_ in lists]).argsort()
    value_shares = [part.value_shares for part in measured if part.value_shares is not None]
    similarity = [part.ssim for part in measured if part.ssim is not None]
    scored = _scored(lists, data.metric)
    outputs = Outputs(
        lists=scored.lists(),
        scores=scored.scores.double().numpy(),
        modalities=model.modalities,
        blanked=blanked_scores(model, data, split, blanking, process_group=process_group),
        shares=torch.cat([part.shares for part in measured])[order].numpy(),
        value_shares=torch.cat(value_shares)[order].numpy() if value_shares else None,
        share_kind=model.share_kind,
        ssim=torch.cat(similarity)[order].double().numpy() if similarity else None,
    )
    return Evaluation(split=split, outputs=outputs)


def blanked_scores(
    model: Ranker,
    data: RankingDataset,
    split: str,
    blanking: Blanking,
    *,
    process_group: ProcessGroup = ALONE,
) -> dict[tuple[str, str], Values]:
    """(modality, blank) -> scores `[D, Q, L]`, D draws, rows ascending, with that modality blanked; see `evaluate`."""
    model.eval()
    wanted, device = blanking.of(model.modalities), model.device
    if not wanted:
        return {}
    data = seen_by(model, data)
    mine: list[tuple[Tensor, dict[tuple[str, str], Tensor]]] = []
    for index, batch in _batches(data, split, device, process_group):
        # a batch's draws, whichever process makes them
        generator = torch.Generator(device).manual_seed(blanking.seed + index)
        with torch.no_grad():
            inputs = model.projections(batch, None) if isinstance(model, FusionRanker) else None
        found: dict[tuple[str, str], Tensor] = {
            (m, kind): _blanked_scores(model, batch, inputs, m, kind, generator) for m, kind in wanted
        }
        mine.append((batch.query.cpu(), found))
    joined = process_group.join(mine)
    order = torch.cat([queries for queries, _ in joined]).argsort()
    longest = max(scores.shape[-1] for _, found in joined for scores in found.values())

    def whole(key: tuple[str, str]) -> Values:
        parts = [torch.nn.functional.pad(found[key], (0, longest - found[key].shape[-1])) for _, found in joined]
        return torch.cat(parts, dim=1)[:, order].double().numpy()

    return {key: whole(key) for key in wanted}


def _batches(
    data: RankingDataset, split: str, device: torch.device, process_group: ProcessGroup
) -> Iterator[tuple[int, Batch]]:
    """This process's share of a split's batches, each with its place among all."""
    for index, rows in enumerate(data.row_batches(split, EVALUATION_QUERIES)):
        if index % process_group.size == process_group.rank:
            yield index, data.gather(rows, device)


def split_lists(data: RankingDataset, split: str) -> Lists:
    """The judged lists of a split, rows ascending: what every ranker is measured on."""
    batches = data.batches(split, EVALUATION_QUERIES)
    return _scored([_lists(batch, batch.v1) for batch in batches], data.metric).lists()


@torch.no_grad()
def score(model: Ranker, data: RankingDataset, split: str, *, device: torch.device | str = "cpu") -> Scored:
    """Every list of `split` with the model's scores."""
    model.eval()
    with model.scores_only():
        return score_with(lambda batch: model(batch).scores, seen_by(model, data), split, device=device)


def score_with(
    scorer: Callable[[Batch], Tensor],
    data: RankingDataset,
    split_or_rows: str | npt.ArrayLike,
    *,
    device: torch.device | str = "cpu",
) -> Scored:
    """Every list of a split (or of the query rows given) as `scorer` scores a batch: batch -> `[B, L]`."""
    batches = data.batches(split_or_rows, EVALUATION_QUERIES, device=device)
    return _scored([_lists(batch, scorer(batch)) for batch in batches], data.metric)


@torch.no_grad()
def _blanked_scores(
    model: Ranker, batch: Batch, inputs: Projected | None, modality: str, kind: Blank, generator: torch.Generator
) -> Tensor:
    """`[D, B, L]`, on the CPU. `inputs`: what one ranker's projections made of the batch as it is."""
    draws = SHUFFLE_DRAWS if kind in BLANKS[2:] else 1
    mean = model.feature_mean(modality) if kind == "mean" else None
    found = []
    with model.scores_only():
        for _ in range(draws):
            blanked = blank(batch, modality, kind, mean=mean, generator=generator)
            if isinstance(model, FusionRanker) and inputs is not None:
                scores = model.score_tokens(model.projections.replaced(inputs, blanked, modality), inputs.query)
                found.append(scores.reshape(batch.labels.shape))
            else:
                found.append(model(blanked).scores)
    return torch.stack(found).float().cpu()


@torch.no_grad()
def _query_ssim(model: Ranker, data: RankingDataset, batch: Batch, fused: Tensor) -> Tensor:
    """`[B]`: mean SSIM of the decoded thumbnails of each query's first documents; NaN where none has a picture."""
    item, fused = batch.item[:, :PICTURES_A_QUERY], fused[:, :PICTURES_A_QUERY]
    shown = item >= 0
    shown[shown.clone()] = ~blank_pictures(data.thumbnails(item[shown].cpu())).to(shown.device)
    found = torch.zeros(shown.shape)
    if shown.any():
        truth = data.thumbnails(item[shown].cpu()).float() / 255.0
        found[shown.cpu()] = ssim(model.decode_thumbnails(fused[shown]).float().cpu(), truth)
    return found.sum(dim=1) / shown.sum(dim=1).cpu()


def _shares(model: Ranker, batch: Batch, out: RankerOutput) -> Tensor:
    """`[B, L, K, M]`: the ranker's own shares, or |gradient x input| of each modality."""
    if out.shares is not None:
        return out.shares
    return torch.stack([member.gradient_shares(batch) for member in model.members]).mean(dim=0)


Columns = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None]


class _Measured(NamedTuple):
    """One batch of `evaluate`, on the CPU."""

    lists: Columns
    shares: Tensor
    value_shares: Tensor | None
    ssim: Tensor | None


def _lists(batch: Batch, scores: Tensor) -> Columns:
    """Query rows `[B]`, scores, labels, V1's scores and valid places `[B, L]` of a scored batch; queries' weights."""
    weight = None if batch.weight is None else batch.weight.cpu()
    scores = scores if scores.dtype == torch.float64 else scores.float()  # V1's order may need all of its digits
    return batch.query.cpu(), scores.cpu(), batch.labels.cpu(), batch.v1.cpu(), batch.valid.cpu(), weight


def _scored(parts: Sequence[Columns], metric: RankingMetric) -> Scored:
    """Scored batches of one pass over a split, put together: rows ascending, padded to the longest list."""
    longest = max(scores.shape[1] for _, scores, *_ in parts)
    queries = torch.cat([part[0] for part in parts])
    order = queries.argsort()
    padded = [[torch.nn.functional.pad(x, (0, longest - x.shape[1])) for x in part[1:5]] for part in parts]
    scores, labels, v1, valid = (torch.cat([part[i] for part in padded])[order] for i in range(4))
    weights = [part[5] for part in parts if part[5] is not None]
    weight = torch.cat(weights)[order] if weights else None
    rows = queries[order].numpy()
    return Scored(rows=rows, scores=scores, labels=labels, v1=v1, valid=valid, weight=weight, metric=metric)
