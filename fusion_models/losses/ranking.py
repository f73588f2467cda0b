"""Ranking losses by one name each: f(scores, labels, valid, temperature) -> scalar.

Shapes: B queries, L candidates (padded). A loss is the mean over the queries that have a relevant document; a batch
without any gives 0. Padded places change nothing, whatever they hold. Losses of pairs (all but ListNet) compare at most
LONGEST documents of a query (`shortened`).
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from fusion_models.metrics.ndcg import scaled_gains
from fusion_models.process_group import WHOLE, Shard

FAR_BELOW = -1e9
"""Stands for minus infinity where a softmax must not give NaN on an empty list."""
SINKHORN_STEPS = 20
LONGEST = 512
"""Documents of a query whose pairs are compared: `[B, L, L]` of 10,000 documents takes 400 MB a query and tensor."""


class RankingLoss(Protocol):
    """What every ranking loss is."""

    def __call__(
        self, scores: Tensor, labels: Tensor, valid: Tensor, *, temperature: float = 1.0, shard: Shard = WHOLE
    ) -> Tensor:
        """`scores`, `labels` `[B, L]`, `valid` `[B, L]` bool -> scalar; the mean is over everybody's queries."""


def listnet(scores: Tensor, labels: Tensor, valid: Tensor, *, temperature: float = 1.0, shard: Shard = WHOLE) -> Tensor:
    """Cross-entropy between softmax(labels / temperature) and softmax(scores) (Cao et al. 2007, top-one)."""
    best = labels.masked_fill(~valid, 0.0).amax(dim=-1, keepdim=True)  # first, as float32 knows no labels beyond 3e38
    target = torch.softmax(((labels - best).float() / temperature).masked_fill(~valid, FAR_BELOW), dim=-1)
    log_probability = torch.log_softmax(scores.float().masked_fill(~valid, FAR_BELOW), dim=-1)
    return _mean_over_queries(-(target * log_probability).sum(dim=-1), labels, valid, shard)


def ranknet(scores: Tensor, labels: Tensor, valid: Tensor, *, temperature: float = 1.0, shard: Shard = WHOLE) -> Tensor:
    """Mean over pairs y_i > y_j of log(1 + exp(-(s_i - s_j) / temperature)) (Burges et al. 2005)."""
    scores, labels, valid = shortened(scores, labels, valid)
    ordered = _ordered_pairs(labels, valid)
    pair_loss = F.softplus(-_differences(_masked(scores, valid)) / temperature) * ordered
    pairs = ordered.sum(dim=(-1, -2)).clamp(min=1)
    return _mean_over_queries(pair_loss.sum(dim=(-1, -2)) / pairs, labels, valid, shard)


def lambdarank(
    scores: Tensor, labels: Tensor, valid: Tensor, *, temperature: float = 1.0, shard: Shard = WHOLE
) -> Tensor:
    """Σ over pairs y_i > y_j of |ΔnDCG_ij| log(1 + exp(-(s_i - s_j) / temperature)).

    ΔnDCG is what swapping the two at their present ranks would change (all of the list, no cut-off), and is no function
    of the scores for the gradient, which is LambdaRank's lambda (Burges 2010; as a loss: Wang et al. 2018).
    """
    scores, labels, valid = shortened(scores, labels, valid)
    scores = _masked(scores, valid)
    gains = _gains(labels, valid)
    discounts = 1.0 / torch.log2(1.0 + _ranks(scores.detach(), valid))
    delta = _differences(gains).abs() * _differences(discounts).abs() / _ideal(gains)[:, None, None]
    pair_loss = F.softplus(-_differences(scores) / temperature) * delta * _ordered_pairs(labels, valid)
    return _mean_over_queries(pair_loss.sum(dim=(-1, -2)), labels, valid, shard)


def approx_ndcg(
    scores: Tensor, labels: Tensor, valid: Tensor, *, temperature: float = 1.0, shard: Shard = WHOLE
) -> Tensor:
    """1 - nDCG with rank_i = 1 + Σ_j≠i sigmoid((s_j - s_i) / temperature) (Qin, Liu and Li 2010)."""
    scores, labels, valid = shortened(scores, labels, valid)
    gains = _gains(labels, valid)
    above = torch.sigmoid(-_differences(_masked(scores, valid)) / temperature) * valid.unsqueeze(-2)
    ranks = 0.5 + above.sum(dim=-1)  # the document itself counts 1/2 in the sum
    ndcg = (gains / torch.log2(1.0 + ranks)).sum(dim=-1) / _ideal(gains)
    return _mean_over_queries(1.0 - ndcg, labels, valid, shard)


def neural_ndcg(
    scores: Tensor, labels: Tensor, valid: Tensor, *, temperature: float = 1.0, shard: Shard = WHOLE
) -> Tensor:
    """1 - nDCG of gains sorted by a relaxed permutation (Pobrotyn and Białobrzeski 2021).

    The permutation is NeuralSort's (Grover et al. 2019), row i = softmax(((n + 1 - 2i) s - A 1) / temperature) with
    A_jk = |s_j - s_k|, brought near doubly stochastic by a fixed number of Sinkhorn steps.
    """
    scores, labels, valid = shortened(scores, labels, valid)
    gains = _gains(labels, valid)
    scores = _masked(scores, valid)
    count = valid.sum(dim=-1, keepdim=True)
    position = torch.arange(1, scores.shape[-1] + 1, device=scores.device)
    spread = (_differences(scores).abs() * valid.unsqueeze(-2)).sum(dim=-1)
    logits = (count + 1 - 2 * position).unsqueeze(-1) * scores.unsqueeze(-2) - spread.unsqueeze(-2)
    permutation = torch.softmax((logits / temperature).masked_fill(~valid.unsqueeze(-2), FAR_BELOW), dim=-1)
    real = (position <= count).unsqueeze(-1) & valid.unsqueeze(-2)
    permutation = _sinkhorn(permutation * real)
    discounts = 1.0 / torch.log2(1.0 + position)
    ndcg = ((permutation @ gains.unsqueeze(-1)).squeeze(-1) * discounts).sum(dim=-1) / _ideal(gains)
    return _mean_over_queries(1.0 - ndcg, labels, valid, shard)


RANKING_LOSSES: dict[str, RankingLoss] = {
    "listnet": listnet,
    "lambdarank": lambdarank,
    "approx_ndcg": approx_ndcg,
    "neural_ndcg": neural_ndcg,
    "ranknet": ranknet,
}


def shortened(scores: Tensor, labels: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`[B, L]` three times to at most LONGEST documents a query; lists that are no longer stay as they are.

    Half of the places go to the most relevant documents, the others to those that the ranker puts highest now: what a
    metric of the first ranks sees. It is no unbiased estimate of the loss over all pairs, as a draw would be; of 10,000
    documents a draw would hold hardly a relevant one, and pairs far down the list change no nDCG (LightGBM's
    `lambdarank_truncation_level` leaves them out as well). The choice is no function of the scores for the gradient.
    """
    if scores.shape[-1] <= LONGEST:
        return scores, labels, valid
    half = LONGEST // 2
    now = scores.detach().float()
    by_score = now.masked_fill(~valid, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    grades = labels.masked_fill(~valid, -1.0).gather(-1, by_score)
    relevant = by_score.gather(-1, grades.argsort(dim=-1, descending=True, stable=True)[..., :half])
    left = valid & ~torch.zeros_like(valid).scatter(-1, relevant, True)
    highest = now.masked_fill(~left, -torch.inf).argsort(dim=-1, descending=True, stable=True)[..., : LONGEST - half]
    chosen = torch.cat([relevant, highest], dim=-1)
    there = torch.cat([valid.gather(-1, relevant), left.gather(-1, highest)], dim=-1)
    return scores.gather(-1, chosen), labels.gather(-1, chosen), there


def _mean_over_queries(per_query: Tensor, labels: Tensor, valid: Tensor, shard: Shard) -> Tensor:
    judged = ((labels > 0) & valid).any(dim=-1)
    return shard.mean(torch.where(judged, per_query, 0.0).sum(), judged.sum())


def _masked(scores: Tensor, valid: Tensor) -> Tensor:
    return torch.where(valid, scores.float(), 0.0)


def _differences(x: Tensor) -> Tensor:
    """`[B, L]` to x_i - x_j, `[B, L, L]`."""
    return x.unsqueeze(-1) - x.unsqueeze(-2)


def _ordered_pairs(labels: Tensor, valid: Tensor) -> Tensor:
    """`[B, L, L]` bool: both real, and i is the more relevant."""
    return (labels.unsqueeze(-1) > labels.unsqueeze(-2)) & valid.unsqueeze(-1) & valid.unsqueeze(-2)


def _gains(labels: Tensor, valid: Tensor) -> Tensor:
    return scaled_gains(labels, valid).float()


def _ideal(gains: Tensor) -> Tensor:
    """`[B]`: the DCG of the best order; 1 where there is no gain, so that dividing by it is safe."""
    position = torch.arange(1, gains.shape[-1] + 1, device=gains.device)
    best = (gains.sort(dim=-1, descending=True).values / torch.log2(1.0 + position)).sum(dim=-1)
    return torch.where(best > 0, best, 1.0)


def _ranks(scores: Tensor, valid: Tensor) -> Tensor:
    """`[B, L]`: 1 + documents above + half of those tied, so that the order of the columns plays no part."""
    difference = _differences(scores)
    ahead = (difference < 0).float() + 0.5 * (difference == 0).float()
    return 0.5 + (ahead * valid.unsqueeze(-2)).sum(dim=-1)


def _sinkhorn(matrix: Tensor) -> Tensor:
    """Columns and rows normalised in turn; those without mass (padding) are left alone, and so is their gradient."""
    for _ in range(SINKHORN_STEPS):
        for dim in (-2, -1):
            mass = matrix.sum(dim=dim, keepdim=True)
            matrix = matrix / torch.where(mass > 1e-10, mass, 1.0)
    return matrix
