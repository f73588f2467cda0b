"""What is true of a planted dataset: its dials, and the best that any ranker could reach with each modality."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fusion_models.data.planted.config import SEEN_BY
from fusion_models.data.planted.draw import Planted, view
from fusion_models.data.splits import SPLITS
from fusion_models.metrics.ndcg import ndcg

FILE = "truth.json"


def truth(planted: Planted) -> dict[str, Any]:
    """JSON-ready: `dials`; `variance_shares` as dialled and as drawn; `oracle_ndcg`, nDCG@10 on the test split of the
    best prediction from each modality subset's signals before any code (keys `visual+text`, ...); the same of the best
    that also reads V1, `oracle_ndcg_with_v1`; `v1_ndcg`, and `v1_oracle_correlation`, centred within queries;
    `recurring_items`, the share of the test items that training judges, and `repeated_queries`, that of test queries
    whose candidates and labels training has. What is learnt by heart of those is no part of an oracle: each speaks of
    new items.
    """
    config = planted.config
    test = planted.documents_of_split == SPLITS.index("test")
    names = config.modalities
    subsets = [subset for size in range(1, len(names) + 1) for subset in itertools.combinations(names, size)]
    oracle = {"+".join(subset): mean_ndcg(view(config, planted.signals, subset), planted, test) for subset in subsets}
    informed = {"+".join(subset): mean_ndcg(with_v1(planted, subset), planted, test) for subset in subsets}
    best = view(config, planted.signals, names)
    known = planted.item[planted.documents_of_split == SPLITS.index("train")]
    dialled = {name: config.share(name) for name in config.signal_names} | {"noise": max(config.noise_share, 0.0)}
    return {
        "dials": dataclasses.asdict(config),
        "variance_shares": dialled,
        "variance_shares_drawn": drawn_shares(planted),
        "oracle_ndcg": oracle,
        "oracle_ndcg_with_v1": informed,
        "v1_ndcg": mean_ndcg(planted.v1, planted, test),
        "v1_oracle_correlation": _within_query_correlation(planted.v1[test], best[test], planted.query[test]),
        "recurring_items": float(np.isin(np.unique(planted.item[test]), known).mean()),
        "repeated_queries": planted.repeated / max(config.split_sizes[2], 1),
    }


def with_v1(planted: Planted, modalities: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """`[N]` the best linear prediction of the utility from some modalities' signals and V1, both within queries.

    V1 may tell of signals that these modalities do not see. All but the synergy is Gaussian, of which the best
    prediction is the linear one.
    """
    shown = [name for name in planted.config.signal_names if any(name in planted.config.shown(m) for m in modalities)]
    if not set(SEEN_BY["synergy"]) <= set(modalities):
        shown = [name for name in shown if name != "synergy"]
    _, place = np.unique(planted.query, return_inverse=True)
    count = np.bincount(place)

    def centred(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return values - (np.bincount(place, weights=values) / count)[place]

    x = np.stack([centred(planted.v1), *(centred(planted.signals[name]) for name in shown)], axis=1)
    return np.asarray(x @ np.linalg.lstsq(x, centred(planted.utility), rcond=None)[0])


def drawn_shares(planted: Planted) -> dict[str, float]:
    """Variance share of each signal in the drawn utility, by least squares on all signals; the rest is `noise`."""
    names = planted.config.signal_names
    x = np.stack([planted.signals[name] - planted.signals[name].mean() for name in names], axis=1)
    y = planted.utility - planted.utility.mean()
    weights = np.linalg.lstsq(x, y, rcond=None)[0]
    shares = {
        name: float(w**2 * x[:, i].var() / y.var()) for i, (name, w) in enumerate(zip(names, weights, strict=True))
    }
    return shares | {"noise": float((y - x @ weights).var() / y.var())}


def write_truth(planted: Planted, out: Path) -> None:
    """Write `truth.json` beside the tables."""
    (out / FILE).write_text(json.dumps(truth(planted), indent=1))


def read_truth(location: str | Path) -> dict[str, Any]:
    """The truth of a planted dataset, from its folder (`RankingDataset.location`)."""
    content: dict[str, Any] = json.loads((Path(location) / FILE).read_text())
    return content


def mean_ndcg(scores: npt.NDArray[np.float64], planted: Planted, used: npt.NDArray[np.bool_]) -> float:
    """nDCG@10 of scores `[N]`, over the queries of the documents `used` `[N]`; without those with nothing relevant."""
    query, place = np.unique(planted.query[used], return_inverse=True)
    first = np.searchsorted(place, np.arange(len(query)))
    column = np.arange(len(place)) - first[place]
    shape = (len(query), int(column.max()) + 1)
    padded_scores, padded_labels, valid = torch.zeros(shape), torch.zeros(shape), torch.zeros(shape, dtype=torch.bool)
    where = (torch.from_numpy(place), torch.from_numpy(column))
    padded_scores[where] = torch.from_numpy(scores[used]).float()
    padded_labels[where] = torch.from_numpy(planted.labels[used]).float()
    valid[where] = True
    return float(ndcg(padded_scores, padded_labels, valid).nanmean())


def _within_query_correlation(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], query: npt.NDArray[np.int64]
) -> float | None:
    """Pearson of two scores centred within each query; None where one is constant."""
    _, place = np.unique(query, return_inverse=True)
    count = np.bincount(place)
    centred = [x - (np.bincount(place, weights=x) / count)[place] for x in (a, b)]
    norm = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum() / norm) if norm > 0 else None
