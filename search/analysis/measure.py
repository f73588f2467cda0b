"""Intervals of an artefact's quantities over queries, and the arms of recipes, from what their trainings said."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusion_models.metrics import Interval, WeightedSum, tune_weighted_sum
from fusion_models.metrics.intervals.ensembles import Arm, arm_of, combined, metric_of, recipe_interval
from fusion_models.metrics.intervals.query_intervals import Clustering, Ties, query_interval, t_limits
from fusion_models.metrics.intervals.weights import counted, linearised, of_rows
from fusion_models.quantities import Lists, Outputs, Quantity, ensemble, of_outputs, quantity, standardised
from fusion_models.quantities.outputs import tensor
from spaces import Phase

Values = npt.NDArray[np.float64]
Clusters = npt.NDArray[np.int64] | Ties | None
"""`[Q]`, or `[Q, W]` where queries stand together in several ways that cross."""


def table_quantities(modalities: Sequence[str]) -> tuple[str, ...]:
    """What confirmed.csv has columns of, of a dataset of these modalities."""
    return (
        "ndcg",
        "ndcg_gain",
        *(f"{m}_masking_drop" for m in modalities),
        *(f"attention_{m}" for m in modalities),
        "attention_max_share",
        "attention_min_share",
        "v1_correlation",
        "v1_spearman_mean",
        "top1_stability",
        "reconstruction_ssim",
    )


def quantities(outputs: Outputs, *, clusters: Clusters = None, level: float = 0.95) -> dict[str, Interval]:
    """Every quantity of one given ranker that its outputs tell, with its interval over queries.

    The largest and the smallest share have limits that hold for every modality (`largest`, `smallest`).
    """
    out = {}
    for name, found in of_outputs(outputs.modalities).items():
        interval = quantity_interval(found, outputs, clusters=clusters, level=level)
        if interval is not None:
            out[name] = interval
    each = [out[name] for m in outputs.modalities if (name := f"attention_{m}") in out]
    if each:
        out["attention_min_share"], out["attention_max_share"] = smallest(each), largest(each)
    return out


def quantity_interval(
    found: Quantity, outputs: Outputs, *, clusters: Clusters = None, level: float = 0.95
) -> Interval | None:
    """One quantity's interval over queries by its influence function; None where the outputs do not tell it."""
    influence = found.influence(outputs)
    if influence is None:
        return None
    counted = np.isfinite(influence)
    groups = None if clusters is None else clusters[counted]
    interval = query_interval(influence[counted], found.estimate(outputs), groups, level)
    return _cut(interval) if found.unit == "correlation" else interval


def _cut(interval: Interval) -> Interval:
    """A correlation's limits lie in [-1, 1]."""
    if not isfinite(interval.low):
        return interval
    return dataclasses.replace(interval, low=max(interval.low, -1.0), high=min(interval.high, 1.0))


NOMINAL_LEVEL = 0.95
"""Of what speaks against V2, or against its end, at every look. At the look's own level a rival that leads would fail
V2 at the first look and let it pass at the second, for its interval is wider there."""


def at_level(interval: Interval, level: float) -> Interval:
    """The same estimate with limits of another level, from what its width is made of."""
    part = interval.variance
    if not isfinite(part.query):
        return dataclasses.replace(interval, level=level)
    total, df = combined(part.query, part.query_df, part.arms)
    low, high = t_limits(total, df, part.skew, level)
    return dataclasses.replace(interval, low=interval.mean + low, high=interval.mean + high, level=level)


def recipe_arm(
    trainings: Sequence[Outputs], members: int, change: Callable[[Values], Values] = lambda scores: scores
) -> Arm:
    """A recipe's nDCG as ensembles of `members`, or of one fewer than there are trainings where those are few.

    `change`: what becomes of an ensemble's scores `[Q, L]` before they rank, such as V1's score added.

    Raises ValueError with fewer than two trainings, or where they were measured on different queries.
    """
    if len(trainings) < 2:
        raise ValueError(f"a recipe's spread needs two trainings at least, got {len(trainings)}")
    lists = trainings[0].lists
    if any(not np.array_equal(one.lists.rows, lists.rows) for one in trainings):
        raise ValueError("trainings of one recipe were measured on different queries")
    scores = np.stack([one.scores for one in trainings])
    values = metric_of(lists.metric, lists.labels, lists.valid)
    found = arm_of(scores, lists.valid, lambda of: values(change(of)), min(members, len(trainings) - 1))
    return dataclasses.replace(found, weights=lists.uneven)


def mean_interval(
    values: Values, weights: Values | None, *, clusters: Clusters = None, level: float = 0.95
) -> Interval:
    """Mean over queries of `values` `[Q]` of one given ranker, by their weights; those that are NaN do not count."""
    known = counted(values, weights)
    groups = None if clusters is None else clusters[known]
    return query_interval(linearised(values[known], of_rows(weights, known)), None, groups, level)


def mean_ndcg(outputs: Outputs) -> float:
    """Mean nDCG (or what else the lists are measured by) of one ranker."""
    return quantity("ndcg").estimate(outputs)


def tuned_sum(columns: Mapping[str, Values], lists: Lists) -> WeightedSum:
    """The weighted sum of columns of scores `[Q, L]` that is best on these lists, by their metric and weights."""
    tensors = {name: tensor(scores) for name, scores in columns.items()}
    weights = None if lists.uneven is None else tensor(lists.uneven)
    return tune_weighted_sum(
        tensors, tensor(lists.labels), tensor(lists.valid), metric=lists.metric, query_weights=weights
    )


def sum_trainings(
    columns: Mapping[str, Sequence[Outputs]], weights: Mapping[str, float], lists: Lists
) -> tuple[Outputs, ...]:
    """A weighted sum as a recipe: sum i is that of training i of every column, as many as the shortest column has.

    Columns without trainings, such as V1's score, come as one `Outputs` a sum. The weights are those of the columns'
    ensembles (`tuned_sum`), so a training is scaled as its ensemble would be: trainings that agree little would else
    count for less than tuned.
    """
    count = min(map(len, columns.values()))
    total = np.zeros((count, *lists.valid.shape))
    for name, runs in columns.items():
        scores = np.stack([standardised(run.scores, lists) for run in runs[:count]])
        whole = ensemble(runs[:count]).scores if count > 1 else scores[0]
        deviation = np.sqrt((whole**2).sum(axis=1) / np.maximum(lists.documents, 1.0))
        scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
        total += weights[name] * scores * scale[:, None]
    return tuple(Outputs(lists=lists, scores=each) for each in total)


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


def linear_interval(
    terms: Sequence[tuple[float, Arm]], *, constant: float = 0.0, clusters: Clusters = None, level: float = 0.95
) -> Interval:
    """Of `constant` plus a weighted sum of arms' means: trainings of every arm unpaired, queries in common."""
    rows = np.all([a.usable() for _, a in terms], axis=0)
    groups = Clustering(None if clusters is None else clusters[rows], int(rows.sum()))
    values = np.sum([w * a.on(rows) for w, a in terms], axis=0)
    parts = []
    for weight, each in terms:
        part = each.seed_part(rows, groups)
        parts.append(dataclasses.replace(part, variance=weight**2 * part.variance, shared=weight**2 * part.shared))
    return recipe_interval(values, parts, groups, level, mean=float(values.mean()) + constant)


def table_row(found: Mapping[str, Interval], modalities: Sequence[str], more: Sequence[str] = ()) -> dict[str, float]:
    """`quantity`, `quantity_ci_low`, `quantity_ci_high` for every quantity of the confirmation's table and `more`."""
    row: dict[str, float] = {}
    for name in dict.fromkeys((*table_quantities(modalities), *more)):
        interval = found.get(name)
        row[name] = interval.mean if interval else float("nan")
        row[f"{name}_ci_low"] = interval.low if interval else float("nan")
        row[f"{name}_ci_high"] = interval.high if interval else float("nan")
    return row


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfirmedRow:
    """One recipe of the short list on one split, as an ensemble of its trainings."""

    trial_id: str
    name: str
    """`base` for the base recipe, else what the search called it."""
    finalist: bool
    split: str
    seeds: int
    quantities: Mapping[str, Interval]
    trainings: str
    """Which trainings it averages: `short list`, `deciding` (those of the arms that decide) or `given`."""
    items: str = "all"
    """What they were trained on, as of `Job.items`."""


def confirmed_table(phase: Phase, rows: Sequence[ConfirmedRow]) -> pd.DataFrame:
    """One row a recipe and split, with the gates that its means meet."""
    out: list[dict[str, Any]] = []
    for row in rows:
        means = {name: interval.mean for name, interval in row.quantities.items()}
        violations = phase.constraints(means)
        out.append(
            {"trial_id": row.trial_id, "name": row.name, "finalist": row.finalist}
            | {"split": row.split, "seeds": row.seeds, "trainings": row.trainings, "items": row.items}
            | table_row(row.quantities, phase.base.model.of_dataset, [o.name for o in phase.objectives])
            | {"gates_passed": sum(v <= 0.0 for v in violations.values()), "gates_total": len(violations)}
        )
    return pd.DataFrame(out)
