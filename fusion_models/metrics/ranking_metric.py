"""What the quality of a ranking is measured by: nDCG or the reciprocal rank, of the first k documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fusion_models.metrics.ndcg import ndcg
from fusion_models.metrics.ranking import check_lists

MetricKind = Literal["ndcg", "mrr"]
METRIC_NAMES: dict[MetricKind, str] = {"ndcg": "nDCG", "mrr": "MRR"}


@dataclass(frozen=True)
class RankingMetric:
    """One metric of a list, from 0 to 1, higher is better; NaN for a query without a relevant document."""

    kind: MetricKind = "ndcg"
    cutoff: int = 10
    """Documents from the top that count."""

    def __post_init__(self) -> None:
        if self.kind not in METRIC_NAMES:
            raise ValueError(f"metric must be one of {', '.join(METRIC_NAMES)}, got {self.kind!r}")
        if not isinstance(self.cutoff, int) or isinstance(self.cutoff, bool) or self.cutoff < 1:
            raise ValueError(f"cutoff must be a whole number of at least 1, got {self.cutoff!r}")

    @property
    def word(self) -> str:
        """Without its cut-off: `nDCG`."""
        return METRIC_NAMES[self.kind]

    @property
    def name(self) -> str:
        """As readers know it: `nDCG@10`."""
        return f"{self.word}@{self.cutoff}"

    def __call__(self, scores: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """`[B]` float64 of scores, labels and real documents `[B, L]`; raises ValueError as `ndcg`."""
        if self.kind == "mrr":
            return reciprocal_rank(scores, labels, valid, self.cutoff)
        return ndcg(scores, labels, valid, self.cutoff)

    def chance(self, labels: Tensor, valid: Tensor) -> Tensor:
        """`[B]`: what a random order of each list earns on average."""
        return self(torch.zeros_like(labels), labels, valid)


NDCG_10 = RankingMetric()


def reciprocal_rank(scores: Tensor, labels: Tensor, valid: Tensor, k: int = 10) -> Tensor:
    """One over the rank of the first relevant document (label above 0), 0 where none stands among the first k.

    Documents with equal scores stand in random order, and the expectation over it is returned: with m relevant ones
    among n that tie behind s others, the first stands at place j of the tie with the chance of j - 1 draws without
    replacement that miss and one that hits.

    Args:
        scores, labels, valid: `[B, L]`; what stands in padded places is not read.

    Returns:
        `[B]` float64 in [0, 1]; NaN where a query has no relevant document.

    Raises:
        ValueError: shapes differ, k < 1, or a real document's score is NaN.

    References:
        Voorhees 1999 (the TREC-8 question answering track); McSherry and Najork 2008 (ties).
    """
    check_lists(scores, valid, labels)
    if k < 1:
        raise ValueError(f"k must be >= 1, got {k}")
    relevant = (labels > 0) & valid
    if labels.numel() == 0:
        return torch.full((len(labels),), torch.nan, dtype=torch.float64, device=labels.device)
    scores = scores if scores.is_floating_point() else scores.double()
    best = scores.masked_fill(~relevant, -torch.inf).amax(dim=1, keepdim=True)
    ahead = ((scores > best) & valid).sum(dim=1, keepdim=True).double()
    tied = (scores == best) & valid
    n, m = tied.sum(dim=1, keepdim=True).double(), (tied & relevant).sum(dim=1, keepdim=True).double()
    place = torch.arange(min(k, labels.shape[1]), dtype=torch.float64, device=labels.device)
    left = (n - place).clamp(min=1.0)
    misses = ((n - m - place) / left).clamp(min=0.0).cumprod(dim=1)  # that places up to this one hold none
    before = torch.cat([torch.ones_like(misses[:, :1]), misses[:, :-1]], dim=1)
    rank = ahead + place + 1.0
    found = (before * (m / left).clamp(max=1.0) / rank * ((place < n) & (rank <= k))).sum(dim=1)
    return torch.where(relevant.any(dim=1), found, torch.nan)
