"""Batches hold the tables' numbers: round trips, padding, order, statistics."""

from __future__ import annotations

import hashlib
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_models.data import RankingDataset, open_dataset
from fusion_models.data.splits import SPLITS
from fusion_models.data.tables import vectors, write_tables

Columns = dict[str, dict[str, Any]]
Write = Callable[[Columns], str]


def random_tables(lengths: list[int], seed: int, *, item_width: int = 3, context: bool = True) -> dict[str, Any]:
    """Tables of `len(lengths)` queries in shuffled judgement rows; items are shared by queries."""
    random = np.random.default_rng(seed)
    queries, items = len(lengths), max(lengths) + 3
    pairs = [(q, i) for q, length in enumerate(lengths) for i in random.permutation(items)[:length]]
    pairs = [pairs[row] for row in random.permutation(len(pairs))]
    floats = {m: random.normal(1.0, 3.0, (items, item_width + k)) for k, m in enumerate(("visual", "text", "metadata"))}
    tables = {
        "items": {"item_id": [f"i{n}" for n in range(items)]}
        | {m: vectors(values.astype(np.float32)) for m, values in floats.items()},
        "queries": {"query_id": [f"q{n}" for n in range(queries)], "split": [SPLITS[n % 3] for n in range(queries)]},
        "judgements": {
            "query_id": [f"q{q}" for q, _ in pairs],
            "item_id": [f"i{i}" for _, i in pairs],
            "label": random.integers(0, 4, len(pairs)).astype(np.float32),
            "v1_score": random.normal(size=len(pairs)),
        },
    }
    if context:
        tables["queries"]["features"] = vectors(random.normal(size=(queries, 2)).astype(np.float32))
        tables["judgements"]["features"] = vectors(random.normal(size=(len(pairs), 1)).astype(np.float32))
    return {name: pa.table(table) for name, table in tables.items()}


def opened(tables: dict[str, Any], folder: Path) -> RankingDataset:
    write_tables(folder / "tables", tables)
    return open_dataset(folder / "tables", cache=folder / "cache")


def assert_holds(data: RankingDataset, tables: dict[str, Any], rows: list[int]) -> None:
    """A gathered batch equals a naive read of the tables, judgement by judgement."""
    batch = data.gather(np.array(rows))
    items, queries, judged = (tables[name].to_pydict() for name in ("items", "queries", "judgements"))
    item_row = {name: row for row, name in enumerate(items["item_id"])}
    for b, row in enumerate(rows):
        mine = [j for j, name in enumerate(judged["query_id"]) if name == queries["query_id"][row]]
        assert batch.valid[b].tolist() == [place < len(mine) for place in range(batch.valid.shape[1])]
        for place, j in enumerate(mine):
            item = item_row[judged["item_id"][j]]
            assert batch.item[b, place] == item
            assert batch.labels[b, place] == judged["label"][j]
            assert batch.v1[b, place] == judged["v1_score"][j]
            for modality, values in batch.features.items():
                assert values[b, place].tolist() == items[modality][item]
            context = queries["features"][row] + judged["features"][j] if "features" in queries else []
            assert batch.context[b, place].tolist() == context
        padded = ~batch.valid[b]
        for tensor in (*batch.features.values(), batch.context, batch.labels, batch.v1):
            assert not tensor[b, padded].any()
        assert (batch.item[b, padded] == -1).all()
    assert batch.query.tolist() == rows


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=3, max_size=8),
    seed=st.integers(0, 2**16),
    context=st.booleans(),
)
def test_tables_to_cache_to_batch_keeps_every_number(lengths: list[int], seed: int, context: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tables = random_tables(lengths, seed, context=context)
        data = opened(tables, Path(folder))
        rows = np.random.default_rng(seed).permutation(len(lengths)).tolist()
        assert_holds(data, tables, rows)
        assert_holds(data, tables, rows[:1])
        assert data.candidates.tolist() == lengths


def test_lists_of_one_to_a_thousand_candidates(tmp_path: Path) -> None:
    tables = random_tables([1, 1000, 2], 0)
    data = opened(tables, tmp_path)
    assert_holds(data, tables, [0, 2])
    batch = data.gather([1, 0])
    assert batch.valid.sum(dim=1).tolist() == [1000, 1]
    assert batch.features["text"].shape == (2, 1000, data.schema.width("text"))
    assert batch.features["visual"].dtype == torch.float32
    assert batch.labels.dtype == batch.v1.dtype == torch.float64
    assert batch.query.dtype == batch.item.dtype == torch.int64


def test_every_query_of_a_split_comes_once(tmp_path: Path) -> None:
    data = opened(random_tables([3, 1, 7, 2, 5, 4, 6, 1, 9, 2, 8], 1), tmp_path)
    for split in SPLITS:
        for generator in (None, torch.Generator().manual_seed(3)):
            seen = [row for batch in data.batches(split, 2, generator=generator) for row in batch.query.tolist()]
            assert sorted(seen) == data.rows(split).tolist()
    lengths = [int(batch.valid.sum(dim=1).min()) for batch in data.batches("train", 1)]
    assert lengths == sorted(lengths)
    chosen = [batch.query.tolist() for batch in data.batches(np.array([4, 0, 8]), 2)]
    assert chosen == [[0, 4], [8]]


def test_the_generator_alone_decides_the_order(tmp_path: Path) -> None:
    data = opened(random_tables([2] * 60, 2), tmp_path)

    def order(generator: torch.Generator) -> list[int]:
        return [row for batch in data.batches("train", 4, generator=generator) for row in batch.query.tolist()]

    generator = torch.Generator().manual_seed(7)
    first, second = order(generator), order(generator)
    assert first != second
    assert sorted(first) == sorted(second)
    assert order(torch.Generator().manual_seed(7)) == first


def test_statistics_are_those_of_the_training_documents(tmp_path: Path) -> None:
    data = opened(random_tables([4, 2, 3, 5, 1, 2, 3], 5), tmp_path)
    batch = data.gather(data.rows("train"))
    for name, values in {**batch.features, "context": batch.context, "v1": batch.v1[..., None]}.items():
        documents = values[batch.valid].double()
        mean = np.array([data.statistics.v1_mean]) if name == "v1" else data.statistics.mean[name]
        std = np.array([data.statistics.v1_std]) if name == "v1" else data.statistics.std[name]
        np.testing.assert_allclose(mean, documents.mean(dim=0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(std, documents.std(dim=0, correction=0), rtol=1e-5)
    assert data.schema.context == 3
    assert data.schema.width("text") == 4


def test_a_constant_feature_has_deviation_one(columns: Columns, write: Write) -> None:
    columns["items"]["text"] = [[0.1, float(n)] for n in range(6)]
    data = open_dataset(write(columns))
    assert data.statistics.std["text"][0] == 1.0
    assert data.statistics.mean["text"][0] == np.float32(0.1)


def test_a_pickled_dataset_carries_its_path_alone(tmp_path: Path) -> None:
    data = opened(random_tables([40] * 30, 0), tmp_path)
    sent = pickle.dumps(data)
    assert len(sent) < 1000
    again = pickle.loads(sent)
    assert again.fingerprint == data.fingerprint
    assert torch.equal(again.gather([5, 6]).features["visual"], data.gather([5, 6]).features["visual"])


def test_a_batch_is_its_own(tmp_path: Path) -> None:
    data = opened(random_tables([3, 3, 3], 0), tmp_path)
    batch = data.gather([0, 1])
    before = batch.labels.clone()
    batch.labels.zero_()
    batch.features["text"].zero_()
    assert torch.equal(data.gather([0, 1]).labels, before)
    assert data.gather([0, 1]).features["text"].any()


def test_optional_columns(columns: Columns, write: Write) -> None:
    columns["items"]["title"] = [f"title {n}" for n in range(5)] + [None]
    columns["queries"] |= {"subdomain": ["a", "b", "b", "a"], "text": ["cat", "dog", None, "sun"]}
    columns["queries"]["timestamp"] = pa.array([1, 2, 3, 4], pa.timestamp("s"))
    data = open_dataset(write(columns))
    assert data.query_ids.tolist() == ["cat", "dog", "red car", "sun"]
    assert data.item_ids.tolist() == [f"i{n}" for n in range(6)]
    assert data.subdomain.tolist() == ["a", "b", "b", "a"]
    assert data.query_text is not None
    assert data.query_text.tolist() == ["cat", "dog", None, "sun"]
    assert data.query_timestamp is not None
    assert data.titles([5, 2]) == [None, "title 2"]


def test_optional_columns_left_out(columns: Columns, write: Write) -> None:
    data = open_dataset(write(columns))
    assert set(data.subdomain) == {"all"}
    assert data.query_text is None
    assert data.query_timestamp is None
    assert not data.has_titles
    assert data.titles([0]) == [None]
    assert data.gather([0]).context.shape == (1, 3, 0)
    with pytest.raises(ValueError, match="split must be one of train, validation, test, got 'dev'"):
        data.rows("dev")
    with pytest.raises(ValueError, match="batch_queries must be >= 1"):
        next(data.batches("train", 0))
    with pytest.raises(ValueError, match="at least one query"):
        data.gather([])


@pytest.mark.parametrize("width", ["float64", "float32", "float16", "int32"])
def test_lists_of_any_number_are_read(width: str, columns: Columns, write: Write) -> None:
    numbers = [[n, n + 1] for n in range(6)]
    rows = [list(np.array(row, dtype=width)) for row in numbers]
    columns["items"]["text"] = pa.array(rows, pa.large_list(pa.from_numpy_dtype(np.dtype(width))))
    columns["judgements"]["label"] = pa.array([2, 0, 1, 0, 1, 0, 1, 3, 2], pa.int8())
    assert open_dataset(write(columns)).item_features["text"].tolist() == numbers


def test_whole_number_and_dictionary_ids_are_read(columns: Columns, write: Write) -> None:
    columns["items"]["item_id"] = list(range(6))
    columns["judgements"]["item_id"] = [int(name[1:]) for name in columns["judgements"]["item_id"]]
    columns["queries"]["query_id"] = pa.array(columns["queries"]["query_id"]).dictionary_encode()
    columns["judgements"]["query_id"] = pa.array(columns["judgements"]["query_id"]).dictionary_encode()
    data = open_dataset(write(columns))
    assert data.item_ids.tolist() == [str(n) for n in range(6)]
    assert data.query_ids.tolist() == ["cat", "dog", "red car", "sun"]


def test_splits_are_assigned_where_the_table_names_none(tmp_path: Path) -> None:
    tables = random_tables([2] * 200, 0)
    tables["queries"] = tables["queries"].drop_columns("split")
    data = opened(tables, tmp_path)
    naive = [int(hashlib.sha256(f"q{n}".encode()).hexdigest()[:16], 16) / 2**64 for n in range(200)]
    assert data.rows("train").tolist() == [n for n in range(200) if naive[n] < 0.7]
    assert data.rows("validation").tolist() == [n for n in range(200) if 0.7 <= naive[n] < 0.8]
    assert data.rows("test").tolist() == [n for n in range(200) if naive[n] >= 0.8]


def test_a_relative_path_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for table in ("items", "queries", "judgements"):
        source = Path(open_dataset("planted?queries=40&candidates=4").location) / f"{table}.parquet"
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / source.name).write_bytes(source.read_bytes())
    data = open_dataset("mine")
    assert data.source == str(tmp_path / "mine")
    monkeypatch.chdir("/")
    assert open_dataset(data.source).fingerprint == data.fingerprint
