"""Shares of the refitted Shapley values: what each modality contributes, trained with and without the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import factorial

import numpy as np
import numpy.typing as npt

from fusion_models.metrics import Interval
from fusion_models.metrics.intervals.ensembles import Arm, recipe_interval
from fusion_models.metrics.intervals.query_intervals import Clustering
from fusion_models.metrics.intervals.weights import counted, linearised, of_rows
from search.analysis.measure import Clusters

Values = npt.NDArray[np.float64]
Subset = frozenset[str]


def shapley_weights(player: str, players: Sequence[str]) -> dict[Subset, float]:
    """Weight of each subset's value in the player's Shapley value; they sum to 0.

    References: Shapley 1953, "A value for n-person games".
    """
    others, out = [p for p in players if p != player], dict[Subset, float]()
    total = factorial(len(players))
    for mask in range(2 ** len(others)):
        subset = frozenset(p for i, p in enumerate(others) if mask >> i & 1)
        weight = factorial(len(subset)) * factorial(len(others) - len(subset)) / total
        out[subset | {player}] = out.get(subset | {player}, 0.0) + weight
        out[subset] = out.get(subset, 0.0) - weight
    return out


def shapley_shares(
    players: Sequence[str],
    arms: Mapping[Subset, Arm],
    nothing: Values,
    *,
    clusters: Clusters = None,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Modality -> its Shapley value over the sum of all, with an interval over trainings and queries.

    Args:
        arms: of every non-empty subset of the players.
        nothing: `[Q]`: nDCG of a ranker of the context alone, which is what no modality at all is worth.

    Returns:
        Empty where an arm is missing, or where all modalities together are worth nothing.
    """
    subsets = [frozenset(s) for s in shapley_weights(players[0], players) if s]
    if any(subset not in arms for subset in subsets):
        return {}
    weights = arms[subsets[0]].weights
    rows = counted(nothing, weights) & np.all([arms[s].usable() for s in subsets], axis=0)
    values = {s: arms[s].on(rows) for s in subsets}
    values |= {frozenset(): linearised(nothing[rows], of_rows(weights, rows))}
    total = float(values[frozenset(players)].mean() - values[frozenset()].mean())
    if total <= 0.0:
        return {}
    groups = Clustering(None if clusters is None else clusters[rows], int(rows.sum()))
    everything = {frozenset(players): 1.0, frozenset[str](): -1.0}
    out = {}
    for player in players:
        of_subset = shapley_weights(player, players)
        share = float(sum(w * values[s].mean() for s, w in of_subset.items())) / total
        linear = {s: (of_subset.get(s, 0.0) - share * everything.get(s, 0.0)) / total for s in [*subsets, frozenset()]}
        influence = np.sum([w * values[s] for s, w in linear.items()], axis=0)
        parts = []
        for subset in subsets:
            part = arms[subset].seed_part(rows, groups)
            scale = linear[subset] ** 2
            parts.append(replace(part, variance=scale * part.variance, shared=scale * part.shared))
        out[player] = recipe_interval(influence, [p for p in parts if p.variance > 0], groups, level, mean=share)
    return out
