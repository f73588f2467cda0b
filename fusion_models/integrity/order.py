"""Whether the tables stand in the order of the labels."""

from __future__ import annotations

from math import nan

import numpy as np
import torch

from fusion_models.data import RankingDataset
from fusion_models.integrity.check import Check, CheckStatus, unmeasured
from fusion_models.integrity.documents import read_documents
from fusion_models.integrity.label_readings import FEWEST, QUERIES, Scored
from fusion_models.metrics import Interval, paired_bootstrap


def order_check(data: RankingDataset, generator: np.random.Generator) -> Check:
    """Whether the order of a list, of its items' ids, or of their rows tells the label better than V1 does.

    No ranker reads it, so it fails nothing; but such tables were written by somebody who knew the labels. A warning.
    """
    name = "label in the order of the tables"
    documents = read_documents(data, "train", generator, queries=QUERIES)
    scored = Scored(documents)
    if scored.telling < FEWEST:
        return unmeasured(name, "not measured", f"{scored.telling} telling training queries")
    read = np.unique(documents.item.numpy())
    in_order = sorted(read.tolist(), key=lambda row: _natural(data.item_ids[row]))
    by_id = np.zeros(len(data.item_ids))
    by_id[in_order] = np.arange(len(in_order))
    orders = {
        "place in the list": documents.place.double(),
        "row of the item": documents.item.double(),
        "order of the item ids": torch.from_numpy(by_id)[documents.item],
    }
    v1 = scored.v1
    worst, found = "", Interval(nan, nan, nan)
    for what, values in orders.items():
        for scores in (values, -values):
            gain = paired_bootstrap(scored.ndcg(scores) - v1, generator=generator)
            if not worst or gain.mean > found.mean:
                worst, found = what, gain
    status: CheckStatus = "warning" if found.low > 0 and v1.mean() + found.mean > scored.chance.mean() else "pass"
    said = f"nDCG by {worst} less V1's, {scored.telling} training queries"
    return Check(
        name=name,
        value=found.mean,
        ci_low=found.low,
        ci_high=found.high,
        threshold=0.0,
        direction="at most",
        status=status,
        detail=said,
    )


def _natural(item: object) -> tuple[int, str]:
    """Numbers inside ids count as numbers: shorter first."""
    text = str(item)
    return len(text), text
