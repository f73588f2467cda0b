"""V2's scores of requests: the same live and in a replay."""

from __future__ import annotations

import math

import torch

from fusion_models.models import Ranker
from search.serving.request import Catalogue, RankRequest


def score_requests(model: Ranker, catalogue: Catalogue, requests: list[RankRequest]) -> list[list[float] | None]:
    """V2's scores of each request's candidates; None where one of them is not finite."""
    batch = catalogue.batch(requests)
    with torch.no_grad(), model.scores_only():
        rows = model(model.complete(batch)).scores.tolist()
    found = [row[: len(r.candidates)] for row, r in zip(rows, requests, strict=True)]
    return [row if all(map(math.isfinite, row)) else None for row in found]
