"""`evaluate` for a stack: every member's ranker on the same lists, measured on the device that trains.

Shapes: S members, Q queries, L candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from fusion_models.data import RankingDataset
from fusion_models.data.batch import Batch
from fusion_models.evaluation import EVALUATION_QUERIES, SHUFFLE_DRAWS, Evaluation, Values
from fusion_models.metrics import (
    Blank,
    blank,
    gradient_times_input_shares,
    query_shares,
)
from fusion_models.quantities import Lists, Outputs
from fusion_models.training.stack.network import StackedRanker
from fusion_models.training.stack.tables import HostTables, Tables

CHANNELS_AT_ONCE = 1 << 24
"""Documents × width × members of one pass on a GPU, where few large passes beat many small ones: a matter of memory
(64 MiB for every token of an activation)."""


class _Call(nn.Module):
    """A ranker's other methods within reach of `functional_call`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, method: str, *args: object) -> object:
        return getattr(self.model, method)(*args)


class _Measured(NamedTuple):
    """One batch, S in front."""

    scores: Tensor
    shares: Tensor
    value_shares: Tensor | None


class StackedEvaluation:
    """The validation split for one stack: lists that do not change from epoch to epoch, held on its device."""

    def __init__(
        self, data: RankingDataset, tables: Tables | HostTables, split: str, *, device: torch.device, channels: int
    ) -> None:
        """`channels`: members times their width."""
        self.split = split
        self._data = data
        self._tables = tables
        self._device = device
        rows = data.rows(split)
        queries = EVALUATION_QUERIES
        if device.type == "cuda":
            longest = int(data.candidates[rows].max())
            queries = max(queries, CHANNELS_AT_ONCE // (longest * channels))
        self._parts = [torch.from_numpy(part) for part in data.row_batches(split, queries)]
        self._lengths = [int(data.candidates[part.numpy()].max()) for part in self._parts]
        self._shuffled = [torch.from_numpy(part) for part in data.row_batches(split, EVALUATION_QUERIES)]
        order = torch.cat(self._parts).argsort()
        self._order = order.to(device)
        self.rows = torch.cat(self._parts)[order].numpy()
        lists = [self._batch(part) for part in self._parts]
        longest = max(self._lengths)
        self.labels, self.v1, self.valid = (
            torch.cat([_padded(x, longest) for x in column])[self._order]
            for column in zip(*((b.labels, b.v1, b.valid) for b in lists), strict=True)
        )
        self.lists = Lists(
            rows=self.rows,
            labels=self.labels.double().cpu().numpy(),
            v1=self.v1.double().cpu().numpy(),
            valid=self.valid.cpu().numpy(),
            weight=np.asarray(data.weight[self.rows]),
            metric=data.metric,
        )

    def __call__(self, ranker: StackedRanker, weights: Tensor, *, brief: bool = False) -> list[Evaluation | None]:
        """Every row's evaluation, nothing blanked; None for a row whose scores are no numbers any more.

        `brief`: without what no epoch reads, as in `evaluate`.
        """
        ranker.template.eval()
        with ranker.template.scores_only() if brief else nullcontext():
            parts = [self._measure(ranker, weights, self._batch(part)) for part in self._parts]
        scores = self._joined([_padded(part.scores, self.valid.shape[1]) for part in parts])
        finite = torch.isfinite(torch.where(self.valid, scores, 0.0)).flatten(1).all(dim=1)
        scores = torch.where(finite[:, None, None], scores, 0.0)
        shares = self._joined([part.shares for part in parts])
        weighted = [part.value_shares for part in parts if part.value_shares is not None]
        members = len(weights)
        found = self._ndcg(scores, self.labels, self.valid)
        host = found.cpu(), scores.double().cpu(), shares.cpu(), finite.tolist()
        values = self._joined(weighted).cpu() if weighted else None
        return [
            Evaluation(
                split=self.split,
                outputs=Outputs(
                    lists=self.lists,
                    scores=host[1][s].numpy(),
                    modalities=ranker.template.modalities,
                    shares=host[2][s].numpy(),
                    value_shares=None if values is None else values[s].numpy(),
                    share_kind=ranker.template.share_kind,
                ).knowing(host[0][s].numpy(), {}),
            )
            if host[3][s]
            else None
            for s in range(members)
        ]

    @torch.no_grad()
    def masked(
        self, ranker: StackedRanker, weights: Tensor, *, blanks: Sequence[str], kinds: Sequence[Blank] = ("zero",)
    ) -> list[dict[tuple[str, str], Values]]:
        """Of every row: (modality, blank) -> the data's metric `[Q]` with it blanked, as `blanked_scores` ranks."""
        ranker.template.eval()
        wanted = [(m, kind) for m in blanks if m in ranker.template.modalities for kind in kinds]
        drawn = any("shuffle" in kind for kind in kinds)
        parts = self._shuffled if drawn else self._parts  # shuffles: the batches of `blanked_scores`, with its seeds
        found: list[list[Tensor]] = []
        for index, rows in enumerate(parts):
            generator = torch.Generator(self._device).manual_seed(index)
            batch = self._batch(rows)
            found.append([self._masked(ranker, weights, batch, *key, generator) for key in wanted])
        order = torch.cat(parts).argsort().to(self._device)
        values = [torch.cat(column, dim=1)[:, order].cpu().numpy() for column in zip(*found, strict=True)]
        return [{key: value[s] for key, value in zip(wanted, values, strict=True)} for s in range(len(weights))]

    def _masked(
        self,
        ranker: StackedRanker,
        weights: Tensor,
        batch: Batch,
        modality: str,
        kind: Blank,
        generator: torch.Generator,
    ) -> Tensor:
        """`[S, B]` of one blank of one batch."""
        mean = ranker.template.feature_mean(modality) if kind == "mean" else None
        passes = [
            self._ndcg(
                _scores(ranker, weights, blank(batch, modality, kind, mean=mean, generator=generator)),
                batch.labels,
                batch.valid,
            )
            for _ in range(SHUFFLE_DRAWS if "shuffle" in kind else 1)
        ]
        return torch.stack(passes).mean(dim=0)

    def _batch(self, rows: Tensor) -> Batch:
        length = int(self._data.candidates[rows.numpy()].max())
        return self._tables.gather(rows.to(self._tables.index_device), length)

    def _joined(self, parts: list[Tensor]) -> Tensor:
        return torch.cat(parts, dim=1)[:, self._order]

    def _ndcg(self, scores: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """`[S, B, L]` to `[S, B]`; a member that is broken scores 0 everywhere."""
        members = len(scores)
        flat = torch.nan_to_num(scores, nan=0.0).flatten(0, 1)
        metric = self._data.metric
        return _of_each(metric(flat, _for_all(labels, members), _for_all(valid, members)), members)

    def _measure(self, ranker: StackedRanker, weights: Tensor, batch: Batch) -> _Measured:
        def member(own: dict[str, Tensor]) -> dict[str, Tensor]:
            out = functional_call(ranker.template, own, (batch,))
            found = {"scores": out.scores, "shares": out.shares, "value_shares": out.value_shares}
            return {name: x for name, x in found.items() if x is not None}

        named = ranker.named(weights)
        with torch.no_grad():
            out = vmap(member)(named)
        shares = out["shares"] if "shares" in out else _gradient_shares(ranker, named, batch)
        return _Measured(
            scores=out["scores"].float(),
            shares=_query_shares(shares, batch.valid),
            value_shares=_query_shares(out["value_shares"], batch.valid) if "value_shares" in out else None,
        )


@torch.no_grad()
def _scores(ranker: StackedRanker, weights: Tensor, batch: Batch) -> Tensor:
    """`[S, B, L]`."""
    with ranker.template.scores_only():
        found: Tensor = vmap(lambda own: functional_call(ranker.template, own, (batch,)).scores)(ranker.named(weights))
    return found.float()


def _gradient_shares(ranker: StackedRanker, named: dict[str, Tensor], batch: Batch) -> Tensor:
    """`[S, B, L, 1, M]`: |gradient × input| of each modality's tokens, for variants that have no shares."""
    call = _Call(ranker.template)
    inside = {f"model.{name}": x for name, x in named.items()}

    def read(own: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        tokens, _, query = functional_call(call, own, ("tokens", batch))
        return tokens, query

    with torch.no_grad():
        tokens, query = vmap(read)(inside)
    tokens.requires_grad_(True)
    with torch.enable_grad():
        scores = vmap(lambda own, t, q: functional_call(call, own, ("score_tokens", t, q)))(inside, tokens, query)
        (gradient,) = torch.autograd.grad(scores.sum(), tokens)
    owner = torch.tensor(ranker.template.projections.owner, device=tokens.device)
    shares = gradient_times_input_shares(tokens.detach().flatten(0, 1), gradient.flatten(0, 1), owner)
    return shares.reshape(len(tokens), *batch.labels.shape, 1, -1)


def _query_shares(shares: Tensor, valid: Tensor) -> Tensor:
    """`[S, B, L, K, M]` to `[S, B, K, M]`."""
    members = len(shares)
    return _of_each(query_shares(shares.flatten(0, 1), _for_all(valid, members)), members)


def _for_all(x: Tensor, members: int) -> Tensor:
    """`[B, ...]` to `[S * B, ...]`: the same lists for every member."""
    return x.unsqueeze(0).expand(members, *x.shape).flatten(0, 1)


def _of_each(x: Tensor, members: int) -> Tensor:
    """`[S * B, ...]` to `[S, B, ...]`."""
    return x.reshape(members, -1, *x.shape[1:])


def _padded(x: Tensor, length: int) -> Tensor:
    return nn.functional.pad(x, (0, length - x.shape[-1]))
