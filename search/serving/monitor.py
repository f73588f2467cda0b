"""What a log says: agreement of V1 and V2, drift, latency, and the numbers that an A/B test is planned with."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch
from scipy import stats

from fusion_models.metrics import kendall_tau_b, summarise_latency, top1_stability
from search.experiment.assignment import buckets
from search.serving.reference import Arrays, centred, columns
from search.serving.request import BadRequestError, Catalogue, RankRequest

SLOW_MS = 100.0
"""An answer above this counts as slow, as in the guardrail `slow answers`."""
BINS = 10
PSI_WATCH, PSI_ACT = 0.1, 0.25
"""The usual readings of a population stability index."""
MOST_DECISIONS = 20_000
"""The newest decisions that are read for drift and agreement."""
WORST = 10
SECONDS_A_DAY = 86_400


def psi(reference: npt.NDArray[np.float64], current: npt.NDArray[np.float64], bins: int = BINS) -> float:
    """Population stability index over the reference's quantile bins: sum (q - p) ln(q / p), half a count added to each.

    Without drift its mean is about (bins - 1) (1 / n + 1 / m): with few rows a large value means nothing.
    """
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, bins + 1)[1:-1]))
    p = np.bincount(np.searchsorted(edges, reference, side="right"), minlength=len(edges) + 1) + 0.5
    q = np.bincount(np.searchsorted(edges, current, side="right"), minlength=len(edges) + 1) + 0.5
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())


def drift(reference: Arrays, current: Arrays) -> pd.DataFrame:
    """PSI and Kolmogorov-Smirnov distance of each column that both have, largest PSI first."""
    rows = [
        {
            "name": name,
            "psi": psi(reference[name], current[name]),
            "ks": float(stats.ks_2samp(reference[name], current[name]).statistic),
            "expected_psi": (BINS - 1) * (1 / len(reference[name]) + 1 / len(current[name])),
        }
        for name in reference
        if name in current and len(current[name])
    ]
    if not rows:
        return pd.DataFrame(columns=["name", "psi", "ks", "expected_psi"])
    return pd.DataFrame(rows).sort_values("psi", ascending=False, ignore_index=True)


def decisions_by_row(table: pa.Table, catalogue: Catalogue) -> pd.DataFrame:
    """One row a decision: unit, latency, and where V2 was scored tau, top-1 and, where judged, the quality of both.

    Quality is by the data's metric, whatever the columns' names say. Scores are read in the precision that they were
    served in, so that what V1 told apart is no tie.
    """
    rows, metric = [], catalogue.data.metric
    for entry in table.to_pylist():
        request = RankRequest.model_validate_json(entry["request"])
        row = {
            "at": entry["at"],
            "unit": entry["unit"] or entry["request_id"],
            "status": entry["v2_status"],
            "answer_ms": entry["answer_ms"],
            "v2_ms": entry["v2_ms"],
            "slow": float(entry["answer_ms"] > SLOW_MS),
            "kendall": math.nan,
            "same_top": math.nan,
            "v1_ndcg": math.nan,
            "v2_ndcg": math.nan,
        }
        v1, valid = _row(entry["v1_scores"]), torch.ones(1, len(entry["items"]), dtype=torch.bool)
        labels = catalogue.labels(request)
        judged = None if labels is None else _row(labels)
        if judged is not None:
            row["v1_ndcg"] = float(metric(v1, judged, valid))
        if entry["v2_scores"] is not None:
            v2 = _row(entry["v2_scores"])
            row["kendall"] = float(kendall_tau_b(v1, v2, valid))
            row["same_top"] = float(top1_stability(v1, v2, valid))
            if judged is not None:
                row["v2_ndcg"] = float(metric(v2, judged, valid))
        rows.append(row)
    return pd.DataFrame(rows)


def _row(values: list[float]) -> torch.Tensor:
    """`[1, L]` float64."""
    return torch.tensor([values], dtype=torch.float64)


def logged_columns(table: pa.Table, catalogue: Catalogue) -> Arrays:
    """Features and scores of a log's documents under the reference's names."""
    entries = table.to_pylist()
    requests = [RankRequest.model_validate_json(entry["request"]) for entry in entries]
    parts: dict[str, list[npt.NDArray[np.float64]]] = {m: [] for m in catalogue.data.schema.modalities}
    for start in range(0, len(requests), 256):
        batch = catalogue.batch(requests[start : start + 256])
        for m in parts:
            parts[m].append(batch.features[m][batch.valid].double().numpy())
    found = columns({m: np.concatenate(x) for m, x in parts.items()})
    for name in ("v1", "v2"):
        lists = [entry[f"{name}_scores"] for entry in entries if entry[f"{name}_scores"] is not None]
        if lists:
            found[f"{name}_score"] = centred(np.concatenate(lists), [len(x) for x in lists])
    return found


def by_unit(rows: pd.DataFrame, salt: str) -> pd.DataFrame:
    """The A/B framework's input: one row a unit with its bucket under `salt` and its means."""
    numbers = ["answer_ms", "slow", "kendall", "same_top", "v1_ndcg", "v2_ndcg"]
    grouped = rows.groupby("unit", sort=True)
    found = grouped[numbers].mean()
    found.insert(0, "decisions", grouped.size())
    found.insert(0, "bucket", buckets([str(unit) for unit in found.index], salt))
    return found.reset_index()


def monitor(
    table: pa.Table, catalogue: Catalogue, reference: Arrays, *, salt: str
) -> tuple[dict[str, Any], pd.DataFrame]:
    """The report of a log, and its table by unit. Reads the newest `MOST_DECISIONS` decisions.

    Requests that do not fit the catalogue, since it is of other data than the log, are left out and counted.

    Raises ValueError where none is left.
    """
    newest = table.slice(max(0, len(table) - MOST_DECISIONS))
    recent = _fitting(newest, catalogue)
    if not len(recent):
        raise ValueError(f"no decision of {len(newest)} fits {catalogue.data.source}: name the log's data with --data")
    rows = decisions_by_row(recent, catalogue)
    shifted = drift(reference, logged_columns(recent, catalogue))
    units = by_unit(rows, salt)
    scored = rows[rows["status"] == "scored"]
    judged = units["v1_ndcg"].dropna()
    report = {
        "decisions": len(table),
        "read": len(rows),
        "left_out": len(newest) - len(recent),
        "from": rows["at"].min().isoformat(),
        "to": rows["at"].max().isoformat(),
        "v2": dict(Counter(rows["status"])),
        "agreement": {
            "queries": len(scored),
            "kendall_median": _number(scored["kendall"].median()),
            "top1": _number(scored["same_top"].mean()),
        },
        "latency": {
            "answer_ms": _latency(rows["answer_ms"]),
            "v2_ms": _latency(scored["v2_ms"]),
        },
        "drift": {
            "worst": shifted.head(WORST).to_dict("records"),
            "watch": int(((shifted["psi"] > PSI_WATCH) & (shifted["psi"] > 3 * shifted["expected_psi"])).sum()),
            "act": int(((shifted["psi"] > PSI_ACT) & (shifted["psi"] > 3 * shifted["expected_psi"])).sum()),
            "columns": len(shifted),
            "scores": shifted[shifted["name"].isin(["v1_score", "v2_score"])].to_dict("records"),
        },
        "judged": {
            "metric": catalogue.data.metric.name,
            "queries": int(rows["v1_ndcg"].notna().sum()),
            "v1_ndcg": _number(rows["v1_ndcg"].mean()),
            "v2_gain": _number((rows["v2_ndcg"] - rows["v1_ndcg"]).mean()),
        },
        "experiment": {
            "salt": salt,
            "metric": catalogue.data.metric.name,
            "units": len(units),
            "daily_units": new_units_a_day(table),
            "baseline_mean": _number(judged.mean()),
            "baseline_sd": _number(judged.std()),
            "slow_share": _number(rows["slow"].mean()),
        },
    }
    return report, units


def new_units_a_day(table: pa.Table) -> float | None:
    """How many units come a day that had not been seen before, over the whole log; None for less than a day of it."""
    at = table["at"]
    days = (pc.max(at).as_py() - pc.min(at).as_py()).total_seconds() / SECONDS_A_DAY
    if days < 1:
        return None
    return float(pc.count_distinct(pc.coalesce(table["unit"], table["request_id"])).as_py() / days)


def _fitting(table: pa.Table, catalogue: Catalogue) -> pa.Table:
    """The decisions whose requests the catalogue takes."""
    return table.filter(pa.array([_fits(request, catalogue) for request in table["request"].to_pylist()], pa.bool_()))


def _fits(request: str, catalogue: Catalogue) -> bool:
    try:
        catalogue.parse(request)
    except BadRequestError:
        return False
    return True


def _latency(values: pd.Series) -> dict[str, float] | None:
    known = values.dropna().to_numpy()
    if not len(known):
        return None
    found = summarise_latency(known)
    return {"p50": found.p50, "p95": found.p95, "p99": found.p99, "worst": found.worst}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
