"""Team-draft interleaving: both rankers in one list, and the clicks say whose documents are wanted.

Far more sensitive than an A/B test of whole lists, since every query compares both rankers. It tells which is wanted
more, not how much a metric will move.

References:
    Radlinski, Kurup and Joachims 2008, "How does clickthrough data reflect retrieval quality?" (team draft);
    Chapelle, Joachims, Radlinski and Yue 2012, "Large-scale validation and analysis of interleaved search evaluation"
    (the estimator with half ties).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from search.experiment.estimate import Estimate, Floats, check_alpha

Ints = npt.NDArray[np.int64]


class Interleaved(NamedTuple):
    """B interleaved lists."""

    shown: Ints
    """`[B, K]`: documents, best first, as indices into the query's candidates."""
    team: Ints
    """`[B, K]`: 0 where V1 put the document there, 1 where V2 did."""


class Preference(NamedTuple):
    """What B interleaved queries say; every number `[...]`."""

    estimate: Estimate
    """(wins of V2 + ties / 2) / queries - 1/2, in [-1/2, 1/2]; above 0: V2 is wanted more."""
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

    A query is won by the team with more clicks. The interval is a t interval over queries; queries of one user should
    be one unit: add their clicks up before.

    Raises ValueError where shapes differ or there are fewer than two queries.
    """
    check_alpha(alpha)
    sides, clicks = np.asarray(team), np.asarray(clicked, dtype=np.int64)
    if sides.shape != clicks.shape or sides.ndim < 2 or sides.shape[-2] < 2:
        raise ValueError(f"expected teams and clicks [..., B, K] with B >= 2, got {sides.shape} and {clicks.shape}")
    lead = np.sign((clicks * (2 * sides - 1)).sum(-1))
    wins, losses = (lead > 0).sum(-1), (lead < 0).sum(-1)
    queries = lead.shape[-1]
    value, error = lead.mean(-1) / 2, lead.std(-1, ddof=1) / 2 / np.sqrt(queries)
    half = stats.t.ppf(1 - alpha / 2, queries - 1) * error
    fewer, decided = np.minimum(wins, losses), wins + losses
    sign_p = np.minimum(1.0, 2 * stats.binom.cdf(fewer, decided, 0.5))
    estimate = Estimate(np.asarray(value), np.asarray(value - half), np.asarray(value + half), sign_p, 1 - alpha)
    return Preference(estimate, wins, losses, queries - wins - losses, sign_p)
