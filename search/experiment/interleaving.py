"""Team-draft interleaving: both rankers in one list, and the clicks say whose documents are wanted.

Far more sensitive than an A/B test of whole lists, since every query compares both rankers. It tells which is wanted
more, not how much a metric will move.

References:
    Radlinski, Kurup and Joachims 2008, "How does clickthrough data reflect retrieval quality?" (team draft);
    Chapelle, Joachims, Radlinski and Yue 2012, "Large-scale validation and analysis of interleaved search evaluation"
    (the estimator with half ties); Tango 1998, "Equivalence test and confidence interval for the difference in
    proportions for the paired-sample design", Statistics in Medicine 17 (score limits of wins less losses); Clopper and
    Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the binomial" (exact limits).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from search.experiment.estimate import Estimate, Floats, check_alpha

Ints = npt.NDArray[np.int64]
HALVINGS = 50
"""Steps of the search for a score limit: each halves what is unknown of it."""
FEW = 25
"""Decided queries below which the sign test is read exactly as well: its normal form errs in up to 7 % of 8 queries."""


class Interleaved(NamedTuple):
    """B interleaved lists."""

    shown: Ints
    """`[B, K]`: documents, best first, as indices into the query's candidates."""
    team: Ints
    """`[B, K]`: 0 where V1 put the document there, 1 where V2 did."""


class Preference(NamedTuple):
    """What B interleaved queries say; every number `[...]`."""

    estimate: Estimate
    """(wins of V2 + ties / 2) / queries - 1/2, in [-1/2, 1/2]; above 0: V2 is wanted more. Its p is at most alpha
    exactly where its limits leave 0 out."""
    wins: Ints
    losses: Ints
    ties: Ints
    sign_p: Floats
    """Exact two-sided binomial test of wins against losses, ties left out."""


def team_draft(v1: npt.ArrayLike, v2: npt.ArrayLike, depth: int, generator: np.random.Generator) -> Interleaved:
    """Interleave B pairs of orders `[B, L]` (document indices, best first) down to `depth`.

    The team with fewer documents so far picks next, a coin decides where both have as many; it picks its ranker's best
    document that is not yet shown.

    Raises ValueError where a row is not a permutation of 0..L-1, or depth is not in [1, L].
    """
    first, second = np.asarray(v1, dtype=np.int64), np.asarray(v2, dtype=np.int64)
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f"expected two [B, L] orders, got {first.shape} and {second.shape}")
    lists, length = first.shape
    whole = np.arange(length)
    if not ((np.sort(first, 1) == whole).all() and (np.sort(second, 1) == whole).all()):
        raise ValueError(f"each row must be a permutation of 0..{length - 1}")
    if not 1 <= depth <= length:
        raise ValueError(f"depth must be in [1, {length}], got {depth}")
    rank = np.stack([np.argsort(first, 1), np.argsort(second, 1)])  # [2, B, L]: place of each document
    rows, picked = np.arange(lists), np.zeros((2, lists), dtype=np.int64)
    shown, team = np.empty((lists, depth), dtype=np.int64), np.empty((lists, depth), dtype=np.int64)
    for place in range(depth):
        coin = generator.integers(0, 2, lists)
        turn = np.where(picked[0] == picked[1], coin, (picked[1] < picked[0]).astype(np.int64))
        best = rank[turn, rows].argmin(1)
        shown[:, place], team[:, place] = best, turn
        picked[turn, rows] += 1
        rank[:, rows, best] = length  # shown: behind all that is left
    return Interleaved(shown, team)


def preference(team: npt.ArrayLike, clicked: npt.ArrayLike, *, alpha: float = 0.05) -> Preference:
    """Which ranker the clicks prefer: teams and clicks `[..., B, K]` of B queries.

    A query is won by the team with more clicks; queries of one user should be one unit: add their clicks up before.

    The limits are those of the score interval, which has a width where all queries were won by one side or tied. With
    fewer than `FEW` decided queries each is the outer one of it and the exact sign test's, and p the larger of theirs.

    Raises ValueError where shapes differ or there are fewer than two queries.
    """
    check_alpha(alpha)
    sides, clicks = np.asarray(team), np.asarray(clicked, dtype=np.int64)
    if sides.shape != clicks.shape or sides.ndim < 2 or sides.shape[-2] < 2:
        raise ValueError(f"expected teams and clicks [..., B, K] with B >= 2, got {sides.shape} and {clicks.shape}")
    lead = np.sign((clicks * (2 * sides - 1)).sum(-1))
    wins, losses = (lead > 0).sum(-1), (lead < 0).sum(-1)
    queries = lead.shape[-1]
    fewer, decided = np.minimum(wins, losses), wins + losses
    sign_p = np.minimum(1.0, 2 * stats.binom.cdf(fewer, decided, 0.5))
    score_p = 2 * stats.norm.sf(np.abs(wins - losses) / np.sqrt(np.maximum(decided, 1)))
    by_score, by_sign = _score_limits(wins, losses, queries, alpha), _sign_limits(wins, losses, alpha)
    few = decided < FEW
    estimate = Estimate(
        np.asarray(lead.mean(-1) / 2),
        np.where(few, np.minimum(by_score[0] / 2, by_sign[0] * decided / queries), by_score[0] / 2),
        np.where(few, np.maximum(by_score[1] / 2, by_sign[1] * decided / queries), by_score[1] / 2),
        np.where(few, np.maximum(sign_p, score_p), score_p),
        1 - alpha,
    )
    return Preference(estimate, wins, losses, queries - wins - losses, sign_p)


def _score_limits(wins: Ints, losses: Ints, queries: int, alpha: float) -> tuple[Floats, Floats]:
    """Limits `[...]` of the chance of a win less that of a loss: differences that the score test does not reject."""
    quantile, lead = float(stats.norm.ppf(1 - alpha / 2)), (wins - losses) / queries
    inside, outside = np.stack([lead, lead]), np.stack([-np.ones_like(lead), np.ones_like(lead)])
    for _ in range(HALVINGS):
        tried = (inside + outside) / 2
        # the chance of a loss that is likeliest at this difference
        linear = (2 * queries - wins + losses) * tried - wins - losses
        constant = losses * tried * (1 - tried)
        lost = (np.sqrt(np.maximum(linear**2 + 8 * queries * constant, 0.0)) - linear) / (4 * queries)
        variance = np.maximum(2 * lost + tried * (1 - tried), 0.0) / queries
        kept = (lead - tried) ** 2 <= quantile**2 * variance
        inside, outside = np.where(kept, tried, inside), np.where(kept, outside, tried)
    return outside[0], outside[1]


def _sign_limits(wins: Ints, losses: Ints, alpha: float) -> tuple[Floats, Floats]:
    """Exact limits `[...]` of the chance that a decided query is won, less 1/2."""
    low = np.where(wins > 0, stats.beta.ppf(alpha / 2, np.maximum(wins, 1), losses + 1), 0.0)
    high = np.where(losses > 0, stats.beta.ppf(1 - alpha / 2, wins + 1, np.maximum(losses, 1)), 1.0)
    return np.asarray(low - 0.5), np.asarray(high - 0.5)
