"""Effects of changing a recipe on every objective: differences of single trainings on the same queries, seeds unpaired.

Two recipes trained with the same seed are no more alike than with different seeds, so pairing by seed would gain
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from typing import Any, Literal

import numpy as np
import pandas as pd

from fusion_models.metrics import Interval, holm, two_sided_p
from fusion_models.metrics.intervals.ensembles import Arm
from fusion_models.quantities import Outputs, quantity
from search.analysis.measure import Clusters, linear_interval

Trainings = Sequence[Outputs]
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
    """One variation of a recipe, by its trainings."""

    kind: Kind
    removed: tuple[str, ...]
    changes: str
    status: Status
    runs: Trainings = ()
    screened: Mapping[str, float] = field(default_factory=dict)
    """Objective -> change in one training on the validation split, where nothing more was trained."""


def effect_table(
    trial_id: str,
    split: str,
    intact: Trainings,
    variations: Sequence[Measured],
    objectives: Sequence[str],
    clusters: Clusters = None,
) -> pd.DataFrame:
    """`COLUMNS`, variations in their order, objectives within. Intervals are over trainings and queries.

    `beyond_sum` of a pair is its change less the sum of its two singles' changes: 0 where they only add up. p is of
    the t test that the interval is made of; Holm's correction runs over the variations, for each objective by itself.
    """
    singles = {m.removed[0]: m for m in variations if m.kind == "single"}
    rows: list[dict[str, Any]] = []
    for variation in variations:
        seeds = len(variation.runs)
        parts = [singles[name] for name in variation.removed] if variation.kind == "pair" else []
        for objective in objectives:
            row: dict[str, Any] = dict.fromkeys(COLUMNS, nan)
            row |= {"trial_id": trial_id, "split": split, "kind": variation.kind, "seeds": seeds}
            row |= {"removed": " + ".join(variation.removed), "changes": variation.changes}
            row |= {"status": variation.status, "objective": objective}
            if variation.status == "screened":
                row |= {"split": "validation", "seeds": 1, "change": variation.screened.get(objective, nan)}
            elif seeds:
                row |= _effect(intact, variation.runs, parts, objective, clusters)
            rows.append(row)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return _corrected(table)


def _effect(
    intact: Trainings, changed: Trainings, parts: Sequence[Measured], objective: str, clusters: Clusters
) -> dict[str, float]:
    before, after = objective_arm(intact, objective), objective_arm(changed, objective)
    if before is None or after is None:
        return {}
    out = {"intact": float(np.nanmean(before.mean)), "value": float(np.nanmean(after.mean))}
    if before.n < 2 or after.n < 2:
        return out | {"change": out["value"] - out["intact"]}
    change = linear_interval([(1.0, after), (-1.0, before)], clusters=clusters)
    out |= _limits("", change) | {"change": change.mean, "p": two_sided_p(change)}
    if len(parts) == 2:
        one, two = (objective_arm(part.runs, objective) for part in parts)
        if one is not None and two is not None and min(one.n, two.n) > 1:
            terms = [(1.0, after), (-1.0, one), (-1.0, two), (1.0, before)]
            beyond = linear_interval(terms, clusters=clusters)
            out |= {"beyond_sum": beyond.mean} | _limits("beyond_sum_", beyond)
    return out


def _limits(prefix: str, interval: Interval) -> dict[str, float]:
    known = np.isfinite(interval.low)
    return {
        f"{prefix}ci_low": interval.low if known else nan,
        f"{prefix}ci_high": interval.high if known else nan,
    }


def objective_arm(runs: Trainings, objective: str) -> Arm | None:
    """Influence values `[Q]` of an objective, the mean over trainings; None where one of them does not tell it."""
    if not runs:
        return None
    found = []
    for outputs in runs:
        influence = quantity(objective, outputs.modalities).influence(outputs)
        if influence is None:
            return None
        found.append(influence)
    values = np.stack(found)
    count = len(values)
    left = (values.sum(axis=0) - values) / (count - 1) if count > 1 else values
    return Arm(values.mean(axis=0), left, 1)


def _corrected(table: pd.DataFrame) -> pd.DataFrame:
    table["p_holm"] = table["p_holm"].astype("float64")
    for _, group in table.groupby("objective"):
        known = group.index[group["p"].notna()]
        if len(known):
            table.loc[known, "p_holm"] = holm(table.loc[known, "p"].to_numpy(dtype=np.float64))
    return table
