"""Planted data as the three tables, with what is true of them beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fusion_models.data.planted.config import PlantedConfig
from fusion_models.data.planted.draw import Planted, draw
from fusion_models.data.planted.streams import random_stream
from fusion_models.data.planted.truth import write_truth
from fusion_models.data.splits import SPLITS
from fusion_models.data.tables import Declaration, vectors, write_tables


def write_planted(config: PlantedConfig, out: Path) -> None:
    """Write the three tables and `truth.json` into a folder."""
    planted = draw(config)
    write_tables(out, tables(planted), declared=Declaration.of(config.modalities))
    write_truth(planted, out)


def tables(planted: Planted) -> dict[str, Any]:
    """The three Arrow tables."""
    query_ids = np.array([f"q{row:06d}" for row in range(len(planted.split))], dtype=object)
    first = np.searchsorted(planted.query, np.arange(len(planted.split)))
    place = np.arange(len(planted.query)) - first[planted.query]
    shown_first = np.unique(planted.item, return_index=True)[
        1
    ]  # every item is judged, and named after where it is first
    names = np.array([f"{query_ids[planted.query[n]]}-{place[n]:04d}" for n in shown_first], dtype=object)
    subdomain = random_stream(planted.config, "subdomain").integers(planted.config.subdomains, size=len(query_ids))
    items = {"item_id": names.tolist()} | {m: vectors(values) for m, values in planted.features.items()}
    queries = {
        "query_id": query_ids.tolist(),
        "subdomain": [f"part-{part}" for part in subdomain],
        "split": [SPLITS[code] for code in planted.split],
    }
    if planted.text is not None:
        queries["text"] = planted.text
    judgements: dict[str, Any] = {
        "query_id": query_ids[planted.query].tolist(),
        "item_id": names[planted.item].tolist(),
        "label": planted.labels.astype(np.float32),
        "v1_score": planted.v1,
    }
    if planted.config.v1_pair_feature:
        judgements["features"] = vectors(planted.v1[:, None].astype(np.float32))
    return {"items": pa.table(items), "queries": pa.table(queries), "judgements": pa.table(judgements)}
