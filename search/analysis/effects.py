"""What changes when a recipe is changed: paired over the same seeds and queries, every objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusion_models.metrics import Interval, holm, linear_correlation, linear_ratio, seed_interval, two_sided_p
from search.analysis.measure import Arrays

Clusters = npt.NDArray[np.int64] | None
Values = npt.NDArray[np.float64]
Kind = Literal["single", "pair"]
Status = Literal["measured", "in part", "screened", "failed", "not trained"]

COLUMNS = (
    *("trial_id", "split", "kind", "removed", "changes", "status", "seeds", "objective"),
    *("intact", "value", "change", "ci_low", "ci_high", "p", "p_holm"),
    *("beyond_sum", "beyond_sum_ci_low", "beyond_sum_ci_high"),
)
"""Of ablation.csv, one row a variation and objective; `change` is value less intact."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One variation of a recipe, seed by seed: seed -> its values per query (see `artifacts.write_queries`)."""

    kind: Kind
    removed: tuple[str, ...]
    changes: str
    status: Status
    runs: Mapping[int, Arrays] = field(default_factory=dict)
    screened: Mapping[str, float] = field(default_factory=dict)
    """Objective -> change in one training on the validation split, where nothing more was trained."""


def effect_table(
    trial_id: str,
    split: str,
    intact: Mapping[int, Arrays],
    variations: Sequence[Measured],
    objectives: Sequence[str],
    modalities: Sequence[str],
    clusters: Clusters = None,
) -> pd.DataFrame:
    """`COLUMNS`, variations in their order, objectives within. Intervals are paired over seeds and queries.

    `beyond_sum` of a pair is its change less the sum of its two singles' changes: 0 where they only add up. p is of
    the t test that the interval is made of; Holm's correction runs over the variations, for each objective by itself.
    """
    singles = {m.removed[0]: m for m in variations if m.kind == "single"}
    rows: list[dict[str, Any]] = []
    for variation in variations:
        seeds = sorted(set(intact) & set(variation.runs))
        parts = [singles[name] for name in variation.removed] if variation.kind == "pair" else []
        for objective in objectives:
            row: dict[str, Any] = dict.fromkeys(COLUMNS, nan)
            row |= {"trial_id": trial_id, "split": split, "kind": variation.kind, "seeds": len(seeds)}
            row |= {"removed": " + ".join(variation.removed), "changes": variation.changes}
            row |= {"status": variation.status, "objective": objective}
            if variation.status == "screened":
                row |= {"split": "validation", "seeds": 1, "change": variation.screened.get(objective, nan)}
            elif seeds:
                row |= _effect(intact, variation.runs, parts, seeds, objective, modalities, clusters)
            rows.append(row)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return _corrected(table)


def _effect(
    intact: Mapping[int, Arrays],
    changed: Mapping[int, Arrays],
    parts: Sequence[Measured],
    seeds: Sequence[int],
    objective: str,
    modalities: Sequence[str],
    clusters: Clusters,
) -> dict[str, float]:
    before = linearised([intact[s] for s in seeds], objective, modalities)
    after = linearised([changed[s] for s in seeds], objective, modalities)
    if before is None or after is None:
        return {}
    groups = _groups(clusters, intact[seeds[0]], objective)
    change = seed_interval(after - before, groups)
    out = {"intact": float(before.mean()), "value": float(after.mean())} | _limits("", change)
    out |= {"change": change.mean, "p": two_sided_p(change)}
    if len(parts) == 2 and all(set(seeds) <= set(part.runs) for part in parts):
        one, two = (linearised([part.runs[s] for s in seeds], objective, modalities) for part in parts)
        if one is not None and two is not None:
            beyond = seed_interval(after - one - two + before, groups)
            out |= {"beyond_sum": beyond.mean} | _limits("beyond_sum_", beyond)
    return out


def _limits(prefix: str, interval: Interval) -> dict[str, float]:
    known = np.isfinite(interval.low)
    return {
        f"{prefix}ci_low": interval.low if known else nan,
        f"{prefix}ci_high": interval.high if known else nan,
    }


def linearised(runs: Sequence[Arrays], objective: str, modalities: Sequence[str]) -> Values | None:
    """`[S, Q]` values whose mean is the objective over these trainings; None where it was not measured.

    Queries without a relevant item are left out of nDCG and of masking drops, as everywhere.
    """
    if objective in ("ndcg", "ndcg_gain"):
        relevant = np.isfinite(runs[0]["ndcg"])
        ndcg = _stack(runs, "ndcg")[:, relevant]
        return ndcg if objective == "ndcg" else ndcg - _stack(runs, "v1_ndcg")[:, relevant]
    if objective.endswith("_masking_drop"):
        key = f"masked.{objective.removesuffix('_masking_drop')}.zero"
        if any(key not in run for run in runs):
            return None
        relevant = np.isfinite(runs[0]["ndcg"])
        ndcg = _stack(runs, "ndcg")[:, relevant]
        return linear_ratio(ndcg - _stack(runs, key)[:, relevant], ndcg)
    if objective == "attention_max_share" or objective.removeprefix("attention_") in modalities:
        documents = _stack(runs, "documents")
        shares = [linear_ratio(mass * documents, documents) for mass in _mass(runs)]
        if objective == "attention_max_share":
            return max(shares, key=lambda share: float(share.mean()))
        return shares[list(modalities).index(objective.removeprefix("attention_"))]
    if objective == "v1_correlation":
        return linear_correlation(np.stack([run["moments"] for run in runs]))
    return None


def _mass(runs: Sequence[Arrays]) -> list[Values]:
    """Of each modality, its share by seed and query, `[S, Q]`, averaged over layers."""
    shares = np.stack([run["shares"].mean(axis=1) for run in runs])
    return [shares[..., index] for index in range(shares.shape[-1])]


def _groups(clusters: Clusters, run: Arrays, objective: str) -> Clusters:
    if clusters is None or objective in ("attention_max_share", "v1_correlation") or objective.startswith("attention_"):
        return clusters
    return clusters[np.isfinite(run["ndcg"])]


def _corrected(table: pd.DataFrame) -> pd.DataFrame:
    table["p_holm"] = table["p_holm"].astype("float64")
    for _, group in table.groupby("objective"):
        known = group.index[group["p"].notna()]
        if len(known):
            table.loc[known, "p_holm"] = holm(table.loc[known, "p"].to_numpy(dtype=np.float64))
    return table


def _stack(runs: Sequence[Arrays], key: str) -> Values:
    return np.stack([run[key] for run in runs]).astype(np.float64)
