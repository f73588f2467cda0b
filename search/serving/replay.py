"""The shadow's scoring again, offline: from a log to a log."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa

from fusion_models.models import Ranker
from search.serving.journal import SCHEMA, holds_decisions, write_decisions
from search.serving.request import BadRequestError, Catalogue
from search.serving.scoring import score_requests

AT_ONCE = 64


def replay(table: pa.Table, model: Ranker, catalogue: Catalogue, out: Path) -> pa.Table:
    """Score every logged request anew and write `out`/0-replay.parquet, in the log's own schema; returns it.

    Every request is checked again, since the dataset may be another one: what does not fit it says `failed`.
    Raises ValueError where `out` holds a log already.
    """
    if holds_decisions(out):
        raise ValueError(f"{out} holds a log already: name an empty or a new folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    entries = table.to_pylist()
    for start in range(0, len(entries), AT_ONCE):
        part, requests, fitting = entries[start : start + AT_ONCE], [], []
        for entry in part:
            entry.update(v2_status="failed", v2_scores=None, v2_ms=None)
            try:
                requests.append(catalogue.parse(entry["request"]))
                fitting.append(entry)
            except BadRequestError:
                continue
        if not requests:
            continue
        began = time.perf_counter()
        scores = score_requests(model, catalogue, requests)
        spent = (time.perf_counter() - began) * 1000 / len(requests)
        for entry, found in zip(fitting, scores, strict=True):
            entry.update(v2_status="failed" if found is None else "scored", v2_scores=found, v2_ms=spent)
    replayed = pa.Table.from_pylist(entries, schema=SCHEMA)
    write_decisions(replayed, out / "0-replay.parquet")
    return replayed
