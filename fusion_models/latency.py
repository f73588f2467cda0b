"""How long a query waits for its order: open-loop timing of the real scoring path."""

from __future__ import annotations

import time

import numpy as np
import torch

from fusion_models.data import RankingDataset
from fusion_models.metrics import Latency, open_loop_milliseconds, summarise_latency
from fusion_models.models import FusionRanker


@torch.no_grad()
def scoring_latency(
    model: FusionRanker,
    data: RankingDataset,
    *,
    split: str = "validation",
    queries: int = 60,
    warm_up: int = 10,
    utilisation: float = 0.5,
    device: torch.device | str = "cpu",
) -> Latency:
    """Score `queries` of a split one by one, features in and order out, at evenly scheduled arrivals.

    The arrival rate keeps the ranker busy for `utilisation` of the time. A query that waits behind a slow one pays for
    the wait, since its clock runs from its scheduled arrival (open loop). Threads are the process's own.
    """
    model.eval()
    rows = data.rows(split)
    rows = np.resize(rows, warm_up + queries)

    def answer(row: int) -> None:
        batch = data.gather(np.array([row]), device=device)
        order = model(batch).scores.argsort(dim=1, descending=True)
        order.cpu()

    warm = []
    for row in rows[:warm_up]:
        began = time.perf_counter()
        answer(row)
        warm.append(time.perf_counter() - began)
    interval = float(np.median(warm)) / utilisation
    start = time.perf_counter()
    arrivals = start + interval * np.arange(queries)
    completions = []
    for arrival, row in zip(arrivals, rows[warm_up:], strict=True):
        time.sleep(max(0.0, arrival - time.perf_counter()))
        answer(row)
        completions.append(time.perf_counter())
    return summarise_latency(open_loop_milliseconds(arrivals, completions))
