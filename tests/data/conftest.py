"""A small dataset that is right, for tests to break one thing of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fusion_models.data.tables import write_tables

Columns = dict[str, dict[str, list[Any]]]


def right_columns() -> Columns:
    """3 tables as lists: 6 items, 4 queries (2 train, 1 validation, 1 test), 9 judgements out of query order."""
    random = np.random.default_rng(0)
    widths = {"visual": 3, "text": 2, "metadata": 4}
    items: dict[str, list[Any]] = {"item_id": [f"i{n}" for n in range(6)]}
    for name, width in widths.items():
        items[name] = random.normal(3.0, 2.0, (6, width)).astype(np.float32).tolist()
    queries: dict[str, list[Any]] = {
        "query_id": ["cat", "dog", "red car", "sun"],
        "split": ["train", "train", "validation", "test"],
    }
    pairs = [
        ("cat", 0),
        ("sun", 5),
        ("dog", 2),
        ("cat", 1),
        ("red car", 3),
        ("dog", 0),
        ("cat", 4),
        ("sun", 1),
        ("dog", 3),
    ]
    judgements: dict[str, list[Any]] = {
        "query_id": [query for query, _ in pairs],
        "item_id": [f"i{n}" for _, n in pairs],
        "label": [2.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 3.0, 2.0],
        "v1_score": [0.9, 0.1, 0.8, 0.3, 0.5, 0.2, 0.4, 0.7, 0.6],
    }
    return {"items": items, "queries": queries, "judgements": judgements}


def write_columns(folder: Path, columns: Columns) -> Path:
    """Write lists, or Arrow arrays where a test needs a type of its own, as the three tables."""
    write_tables(folder, {name: pa.table(table) for name, table in columns.items()})
    return folder


@pytest.fixture
def columns() -> Columns:
    """A right dataset as lists."""
    return copy.deepcopy(right_columns())


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Columns], str]:
    """Writes a dataset into a fresh folder and gives its path."""

    def written(columns: Columns) -> str:
        return str(write_columns(tmp_path / "dataset", columns))

    return written


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_SEARCH_CACHE", str(tmp_path / "cache"))
