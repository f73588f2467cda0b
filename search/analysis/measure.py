"""Intervals of a recipe's quantities over its seeds and queries, from the values per query of its trainings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusion_models.config import MODALITIES
from fusion_models.metrics import Interval, seed_correlation_interval, seed_interval, seed_ratio_interval
from spaces import Phase

Values = npt.NDArray[np.float64]
Arrays = Mapping[str, npt.NDArray[Any]]

TABLE_QUANTITIES = (
    "ndcg",
    "ndcg_gain",
    *(f"{m}_masking_drop" for m in MODALITIES),
    *(f"attention_{m}" for m in MODALITIES),
    "attention_max_share",
    "attention_min_share",
    "v1_correlation",
    "reconstruction_ssim",
)


def quantities(
    runs: Sequence[Arrays],
    modalities: Sequence[str],
    *,
    clusters: npt.NDArray[np.int64] | None = None,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Every gated quantity of one recipe, from its trainings' arrays (see `artifacts.write_queries`) on one split.

    All of them are about the recipe's mean over training seeds: variance of queries and of seeds (see
    `fusion_models.metrics.statistics`). The largest and the smallest share have limits that hold for every modality
    (`largest`, `smallest`). Raises ValueError where the trainings were not measured on the same queries.
    """
    rows = runs[0]["rows"]
    if any(not np.array_equal(run["rows"], rows) for run in runs):
        raise ValueError("trainings of one recipe were measured on different queries")
    relevant = np.isfinite(runs[0]["ndcg"])
    groups = clusters[relevant] if clusters is not None else None
    ndcg = _stack(runs, "ndcg")[:, relevant]
    out = {"ndcg": seed_interval(ndcg, groups, level)}
    out["ndcg_gain"] = seed_interval(ndcg - _stack(runs, "v1_ndcg")[:, relevant], groups, level)
    for key in set.intersection(*(set(run) for run in runs)):
        if key.startswith("masked."):
            _, modality, kind = key.split(".")
            name = f"{modality}_masking_drop" + ("" if kind == "zero" else f"_{kind}")
            out[name] = seed_ratio_interval(ndcg - _stack(runs, key)[:, relevant], ndcg, groups, level)
    documents = _stack(runs, "documents")
    shares = np.stack([run["shares"].mean(axis=1) for run in runs])  # [S, Q, M]
    for index, modality in enumerate(modalities):
        mass = shares[..., index] * documents
        out[f"attention_{modality}"] = seed_ratio_interval(mass, documents, clusters, level)
    each = [out[f"attention_{m}"] for m in modalities]
    out["attention_min_share"], out["attention_max_share"] = smallest(each), largest(each)
    if all("ssim" in run for run in runs):
        out["reconstruction_ssim"] = seed_interval(_stack(runs, "ssim"), clusters, level)
    moments = np.stack([run["moments"] for run in runs])
    if (moments[..., 1:].sum(axis=(0, 1)) > 0).all():  # scores that order nothing have no correlation
        out["v1_correlation"] = seed_correlation_interval(moments, clusters, level)
    return out


def largest(intervals: Sequence[Interval]) -> Interval:
    """Of the largest of several quantities: on one side of a threshold only where all of them (or one) surely are.

    Its upper limit is the highest of theirs, as each must lie below; its lower one the highest of theirs, as one above
    is enough. Where they overlap the one with the highest mean need not have the highest limit.
    """
    widest = max(intervals, key=lambda interval: interval.high)
    mean, low = max(i.mean for i in intervals), max(i.low for i in intervals)
    return dataclasses.replace(widest, mean=mean, low=low)


def smallest(intervals: Sequence[Interval]) -> Interval:
    """Of the smallest of several quantities; see `largest`."""
    widest = min(intervals, key=lambda interval: interval.low)
    mean, high = min(i.mean for i in intervals), min(i.high for i in intervals)
    return dataclasses.replace(widest, mean=mean, high=high)


def paired(runs: Mapping[int, Arrays], others: Mapping[int, Arrays]) -> tuple[list[Arrays], list[Arrays]]:
    """The runs of the seeds that both recipes have, in one order: what a seed does to both cancels in a difference."""
    common = sorted(runs.keys() & others.keys())
    return [runs[seed] for seed in common], [others[seed] for seed in common]


def difference(
    runs: Sequence[Arrays],
    others: Sequence[Arrays] | Values,
    *,
    clusters: npt.NDArray[np.int64] | None = None,
    level: float = 0.95,
) -> Interval:
    """nDCG of one recipe minus another's (`paired`, as many runs of both), or minus one ranker's values `[Q]`.

    Raises ValueError where the two do not have as many runs.
    """
    ndcg = _stack(runs, "ndcg")
    if isinstance(others, np.ndarray):
        other = np.broadcast_to(others, ndcg.shape)
    else:
        other = _stack(others, "ndcg")
        if len(other) != len(ndcg):
            raise ValueError(f"{len(ndcg)} trainings cannot be paired with {len(other)}")
    relevant = np.isfinite(ndcg[0]) & np.isfinite(other[0])
    groups = clusters[relevant] if clusters is not None else None
    return seed_interval((ndcg - other)[:, relevant], groups, level)


def table_row(found: Mapping[str, Interval]) -> dict[str, float]:
    """`quantity`, `quantity_ci_low`, `quantity_ci_high` for every quantity of the confirmation's table."""
    row: dict[str, float] = {}
    for name in TABLE_QUANTITIES:
        interval = found.get(name)
        row[name] = interval.mean if interval else float("nan")
        row[f"{name}_ci_low"] = interval.low if interval else float("nan")
        row[f"{name}_ci_high"] = interval.high if interval else float("nan")
    return row


def confirmed_table(phase: Phase, rows: Sequence[tuple[str, bool, str, int, Mapping[str, Interval]]]) -> pd.DataFrame:
    """One row a (trial_id, finalist, split, seeds, quantities), with the gates that its means meet."""
    out = []
    for trial_id, finalist, split, seeds, found in rows:
        means = {name: interval.mean for name, interval in found.items()}
        violations = phase.constraints(means)
        out.append(
            {"trial_id": trial_id, "finalist": finalist, "split": split, "seeds": seeds}
            | table_row(found)
            | {"gates_passed": sum(v <= 0.0 for v in violations.values()), "gates_total": len(violations)}
        )
    return pd.DataFrame(out)


def _stack(runs: Sequence[Arrays], key: str) -> Values:
    return np.stack([run[key] for run in runs]).astype(np.float64)
