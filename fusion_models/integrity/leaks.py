"""Single features that are V1's score or the label, or order candidates as they do."""

from __future__ import annotations

import numpy as np

from fusion_models.data import RankingDataset
from fusion_models.integrity.check import Check, check
from fusion_models.metrics import suspicious_features

FIRST_QUERIES, LEAK_QUERIES = 40, 400


def leak_check(data: RankingDataset, generator: np.random.Generator) -> Check:
    """Features of training candidates that are V1's score or the label, or order as they do, by name."""
    rows = generator.permutation(data.rows("train"))[:LEAK_QUERIES]
    name = "features equal to V1's score or the label"
    batch = data.gather(np.sort(rows))
    few = data.gather(np.sort(rows[:FIRST_QUERIES]))
    found = []
    for part in (*data.schema.modalities, "context"):
        whole, first = (b.context if part == "context" else b.features[part] for b in (batch, few))
        # a first glance at few queries leaves the few columns that deserve a long look
        doubtful = sorted({s.feature for s in suspicious_features(first, few.labels, few.v1, few.valid, share=0.8)})
        if not doubtful:
            continue
        for s in suspicious_features(whole[..., doubtful], batch.labels, batch.v1, batch.valid):
            target = "V1's score" if s.target == "v1" else "the label"
            how = "equals" if s.kind == "equal" else "orders as"
            found.append(f"{part}[{doubtful[s.feature]}] {how} {target}")
    return check(name, float(len(found)), at_most=0.0, detail="; ".join(found) or f"{len(rows)} training queries read")
