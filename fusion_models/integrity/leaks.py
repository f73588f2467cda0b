"""Single features that are V1's score or the label, or order candidates as they do."""

from __future__ import annotations

import numpy as np
import torch

from fusion_models.data import RankingDataset
from fusion_models.integrity.check import Check, check
from fusion_models.integrity.documents import MEETING, PAIR, QUERY, Documents, read_documents
from fusion_models.metrics import suspicious_features
from fusion_models.metrics.integrity import Suspicion

FIRST_QUERIES, LEAK_QUERIES = 40, 400
CANDIDATES = 200
"""Of a list that are read, drawn at random of a longer one: all pairs of them are compared."""
COLUMNS_AT_ONCE = 16
"""Columns that are padded to the longest list at once."""


def leak_check(data: RankingDataset, generator: np.random.Generator) -> Check:
    """Features of training candidates that are V1's score or the label, or order as they do, by name."""
    documents = read_documents(data, "train", generator, queries=LEAK_QUERIES, longest=CANDIDATES)
    query = documents.blocks.get(QUERY)
    before = 0 if query is None else query.shape[-1]
    found = []
    for block in documents.blocks:
        if block in (QUERY, MEETING):  # the same for all candidates; no column of the tables
            continue
        # a first glance at few queries leaves the few columns that deserve a long look
        width = documents.blocks[block].shape[-1]
        doubtful = sorted({s.feature for s in _suspicious(documents, block, range(width), FIRST_QUERIES, 0.8)})
        for s in _suspicious(documents, block, doubtful, len(documents.valid), 0.95):
            target = "V1's score" if s.target == "v1" else "the label"
            how = "equals" if s.kind == "equal" else "orders as"
            column = f"context[{before + s.feature}]" if block == PAIR else f"{block}[{s.feature}]"
            found.append(f"{column} {how} {target}")
    name = "features equal to V1's score or the label"
    return check(name, float(len(found)), at_most=0.0, detail="; ".join(found) or documents.said)


def _suspicious(
    documents: Documents, block: str, columns: range | list[int], queries: int, share: float
) -> list[Suspicion]:
    """Suspicious ones of some columns of a block, in the first queries; `feature` is the column's number there."""
    mine = documents.query < queries
    valid = documents.valid[:queries]
    length = int(valid.sum(1).max())
    labels, v1, valid = documents.labels[:queries, :length], documents.v1[:queries, :length], valid[:, :length]
    out = []
    for start in range(0, len(columns), COLUMNS_AT_ONCE):
        part = list(columns[start : start + COLUMNS_AT_ONCE])
        values = torch.zeros(*valid.shape, len(part))
        values[valid] = documents.blocks[block][mine][:, part]
        found = suspicious_features(values, labels, v1, valid, share=share)
        out += [Suspicion(part[s.feature], s.target, s.kind, s.queries) for s in found]
    return out
