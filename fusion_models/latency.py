"""How long a query waits for its order: open-loop timing of the real scoring path, features in and order out."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models.data import RankingDataset
from fusion_models.data.batch import Batch
from fusion_models.export import Scorer, eager_scorer
from fusion_models.metrics import Latency, open_loop_milliseconds, summarise_latency
from fusion_models.models import Ranker

Request = npt.NDArray[np.int64]
"""Rows of the queries that are asked together, `[B]`."""
Answer = Callable[[Request], object]

MOST_LATE = 5.0
"""Seconds behind its schedule after which a run is cut: the server cannot hold the rate, and waits only grow."""
UTILISATION = 0.5
"""Share of the time that `scoring_latency` keeps a ranker busy."""


def answerer(scorer: Scorer, data: RankingDataset, candidates: int | None = None, device: str = "cpu") -> Answer:
    """The whole path: look the candidates' features up, score them, sort them, hand the order over.

    `candidates`: every list is cut, or repeated, to this length; None: as it was judged.
    """

    def answer(rows: Request) -> object:
        batch = data.gather(rows, device=device)
        if candidates is not None:
            batch = resized(batch, candidates)
        order = scorer(batch).masked_fill(~batch.valid, -torch.inf).argsort(dim=1, descending=True)
        return order.tolist()

    return answer


def resized(batch: Batch, candidates: int) -> Batch:
    """Every list cut or repeated to `candidates` documents; real ones first, padding is repeated only with its list."""
    place = torch.arange(candidates, device=batch.v1.device) % batch.v1.shape[1]

    def take(x: Tensor) -> Tensor:
        return x.index_select(1, place)

    return batch.changed(lambda x: x if x.dim() == 1 else take(x))


def open_loop(answer: Answer, requests: Sequence[Request], arrivals: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Milliseconds from each request's scheduled arrival (seconds from the start) to its answer, `[N]`.

    A request that waits behind a slow one pays for the wait, since its clock runs from its schedule. Where the server
    falls `MOST_LATE` behind, the rest is not asked: what has been answered comes back.
    """
    due = np.asarray(arrivals, dtype=np.float64)
    done = []
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        for moment, rows in zip(due, requests, strict=True):
            time.sleep(max(0.0, start + moment - time.perf_counter()))
            answer(rows)
            done.append(time.perf_counter() - start)
            if done[-1] - moment > MOST_LATE:
                break
    finally:
        if collecting:
            gc.enable()
    return open_loop_milliseconds(due[: len(done)], done)


def warm_seconds(answer: Answer, requests: Sequence[Request]) -> float:
    """Mean seconds of an answer, asked one after another: warms up, and tells a rate that can be held."""
    times = []
    for rows in requests:
        began = time.perf_counter()
        answer(rows)
        times.append(time.perf_counter() - began)
    return float(np.mean(times))


def single_requests(data: RankingDataset, split: str, count: int, batch: int = 1) -> list[Request]:
    """`count` requests of `batch` queries each, round and round through a split."""
    rows = np.resize(data.rows(split), count * batch)
    return list(rows.reshape(count, batch))


def scoring_latency(
    model: Ranker,
    data: RankingDataset,
    *,
    queries: int = 60,
    warm_up: int = 10,
) -> Latency:
    """Score `queries` of the validation split one by one, features in and order out, at evenly scheduled arrivals.

    The arrival rate keeps the ranker busy for `UTILISATION` of the time. It runs on the ranker's device; threads are
    the process's own.
    """
    requests = single_requests(data, "validation", warm_up + queries)
    answer = answerer(eager_scorer(model), data, device=str(model.device))
    interval = warm_seconds(answer, requests[:warm_up]) / UTILISATION
    return summarise_latency(open_loop(answer, requests[warm_up:], interval * np.arange(queries)))
