"""What one ranker said of one split's lists: the one thing that every quantity is computed from.

A training, an ensemble of several and a ranker of somebody else all end up as `Outputs`, so that a number has one
definition whoever was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fusion_models.metrics.fusion import standardise
from fusion_models.metrics.intervals.weights import uneven
from fusion_models.metrics.ranking_metric import NDCG_10, RankingMetric

Values = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Lists:
    """The judged lists of one split, padded to the longest; queries ascending by row."""

    rows: Ints
    """`[Q]`: rows of the dataset's queries."""
    labels: Values
    """`[Q, L]`, graded, 0 where padded."""
    v1: Values
    """`[Q, L]`: the production ranker's scores."""
    valid: Bools
    """`[Q, L]`: real documents."""
    weight: Values | None = None
    """`[Q]`, not negative: how much each query counts; None: all alike."""
    metric: RankingMetric = NDCG_10
    """What `ndcg` and all that follows from it is measured by."""

    @cached_property
    def relevant(self) -> Bools:
        """`[Q]`: has a document with a label above 0, so that nDCG is defined."""
        return np.asarray(((self.labels > 0) & self.valid).any(axis=1))

    @property
    def telling(self) -> int:
        """Queries that any mean counts: with a relevant document, and a weight above 0."""
        return int((self.relevant & (self.weights > 0)).sum())

    @cached_property
    def documents(self) -> Values:
        """`[Q]`: candidates of each query."""
        return np.asarray(self.valid.sum(axis=1), dtype=np.float64)

    @cached_property
    def weights(self) -> Values:
        """`[Q]`: `weight`, or ones."""
        if self.weight is None:
            return np.full(len(self.rows), 1.0)
        return self.weight

    @cached_property
    def uneven(self) -> Values | None:
        """`[Q]`: `weight`, or None where all queries count alike."""
        return uneven(self.weight)

    @cached_property
    def v1_ndcg(self) -> Values:
        """`[Q]`: the metric of the production ranker; NaN without a relevant document."""
        return self.ndcg(self.v1)

    def ndcg(self, scores: Values) -> Values:
        """`[Q]`: the metric of scores `[Q, L]`; NaN without a relevant document."""
        return np.asarray(self.metric(tensor(scores), tensor(self.labels), tensor(self.valid)).numpy())

    def subset(self, chosen: Bools | Ints) -> Lists:
        """Some of the queries: `chosen` is a mask `[Q]` or places in it."""
        return Lists(
            rows=self.rows[chosen],
            labels=self.labels[chosen],
            v1=self.v1[chosen],
            valid=self.valid[chosen],
            weight=None if self.weight is None else self.weight[chosen],
            metric=self.metric,
        )


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """One ranker on these lists."""

    lists: Lists
    scores: Values
    """`[Q, L]`; what stands in padded places is not read."""
    modalities: tuple[str, ...] = ()
    blanked: Mapping[tuple[str, str], Values] = field(default_factory=dict)
    """(modality, kind of blank) -> `[D, Q, L]`: scores with it blanked, D draws (1 where nothing is drawn)."""
    shares: Values | None = None
    """`[Q, K, M]`: mean share over each query's documents, by layer; None where nothing tells."""
    value_shares: Values | None = None
    """The same weighted by the norm of the values."""
    share_kind: str = "attention"
    """What the shares are: attention, gate, gradient_times_input."""
    ssim: Values | None = None
    """`[Q]`: mean SSIM of decoded thumbnails."""

    @cached_property
    def ndcg(self) -> Values:
        """`[Q]`: the metric of the lists; NaN without a relevant document."""
        return self.lists.ndcg(self.scores)

    @cached_property
    def masked_ndcg(self) -> dict[tuple[str, str], Values]:
        """(modality, kind of blank) -> `[Q]`: the same with it blanked, the mean over its draws."""
        return {key: np.mean([self.lists.ndcg(s) for s in draws], axis=0) for key, draws in self.blanked.items()}

    def knowing(self, ndcg: Values, masked_ndcg: Mapping[tuple[str, str], Values]) -> Outputs:
        """The same, whose nDCG `[Q]` was reckoned already, such as on the device that trains."""
        vars(self)["ndcg"], vars(self)["masked_ndcg"] = ndcg, dict(masked_ndcg)
        return self

    def subset(self, chosen: Bools | Ints) -> Outputs:
        """The same ranker on some of the queries."""

        def some(values: Values | None) -> Values | None:
            return None if values is None else values[chosen]

        return Outputs(
            lists=self.lists.subset(chosen),
            scores=self.scores[chosen],
            modalities=self.modalities,
            blanked={key: draws[:, chosen] for key, draws in self.blanked.items()},
            shares=some(self.shares),
            value_shares=some(self.value_shares),
            share_kind=self.share_kind,
            ssim=some(self.ssim),
        )


def tensor(values: npt.NDArray[Any]) -> torch.Tensor:
    """An array as torch reads it."""
    return torch.from_numpy(np.ascontiguousarray(values))


def standardised(scores: Values, lists: Lists) -> Values:
    """`[Q, L]`: mean 0 and deviation 1 within each query; 0 in constant lists and padding."""
    return np.asarray(standardise(tensor(scores), tensor(lists.valid)).numpy())


def ensemble(members: Sequence[Outputs]) -> Outputs:
    """The ranker whose score is the mean of its members' scores, each standardised within its query.

    What a member says under a blank is standardised as it would be where the ensemble is served: by its own mean and
    deviation under that blank. Shares and SSIM are means over the members. Raises ValueError without members, or where
    they were not measured on the same queries.
    """
    if not members:
        raise ValueError("an ensemble needs at least one member")
    first = members[0]
    if any(not np.array_equal(member.lists.rows, first.lists.rows) for member in members):
        raise ValueError("members of one ensemble were measured on different queries")
    if len(members) == 1:
        return first
    kinds = set.intersection(*(set(member.blanked) for member in members))
    return Outputs(
        lists=first.lists,
        scores=np.mean([standardised(member.scores, first.lists) for member in members], axis=0),
        modalities=first.modalities,
        blanked={key: _mean_draws([m.blanked[key] for m in members], first.lists) for key in sorted(kinds)},
        shares=_mean([member.shares for member in members]),
        value_shares=_mean([member.value_shares for member in members]),
        share_kind=first.share_kind,
        ssim=_mean([member.ssim for member in members]),
    )


def _mean_draws(draws: Sequence[Values], lists: Lists) -> Values:
    """`[D, Q, L]`: draw by draw, as far as every member has them."""
    count = min(len(d) for d in draws)
    return np.stack([np.mean([standardised(d[i], lists) for d in draws], axis=0) for i in range(count)])


def _mean(values: Sequence[Values | None]) -> Values | None:
    known = [v for v in values if v is not None]
    return np.mean(known, axis=0) if len(known) == len(values) else None
