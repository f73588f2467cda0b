"""Three checked tables as a folder of flat arrays that `RankingDataset` maps into memory.

Feature columns stream through a few rows at a time, so they may be larger than memory. Ids, and the judgements'
query, item, label and V1 score, are held whole while the folder is built: about 100 bytes an item and a judgement.

| file | holds |
|---|---|
| `visual.npy`, `text.npy`, `metadata.npy` | `[items, D]` float32 |
| `thumbnails.npy` | `[items, 3, 32, 32]` uint8, where the table has `image` |
| `query_features.npy`, `pair_features.npy` | `[queries, D]`, `[judgements, D]` float32, where present |
| `offset.npy` | `[queries + 1]` int64: a query's judgements are `offset[q]:offset[q + 1]` |
| `item.npy`, `label.npy`, `v1.npy` | `[judgements]` int64 / float32 / float32, grouped by query, in the table's order |
| `split.npy` | `[queries]` int8 codes into SPLITS |
| `items.arrow`, `queries.arrow` | ids, titles, query text, subdomain, timestamp: Arrow IPC files |
| `meta.json` | widths, training statistics, metadata encoding, counts |
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fusion_models.config import MODALITIES
from fusion_models.data.arrays.feature_files import (
    write_modalities,
    write_pair_features,
    write_query_features,
    write_thumbnails,
)
from fusion_models.data.arrays.metadata import scalar_columns
from fusion_models.data.arrays.moments import RunningMoments
from fusion_models.data.arrays.thumbnails import SIDE
from fusion_models.data.splits import SPLITS, assign_splits
from fusion_models.data.tables import TableFolder, checks, stream

FORMAT = 1
"""Of the folder; part of its name, so that a new format never reads an old folder."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Queries:
    ids: Any
    split: npt.NDArray[np.int8]


@dataclass(frozen=True)
class _Judgements:
    """Grouped by query; `order[i]` is the table's row of judgement i."""

    order: Ints
    offset: Ints
    query: Ints
    item: Ints
    label: Floats
    v1: Floats


def write_arrays(tables: TableFolder, out: Path) -> None:
    """Check the three tables and write their arrays into the empty folder `out`. Raises DataError."""
    queries = _read_queries(tables, out)
    item_ids = _read_item_ids(tables)
    judged = _read_judgements(tables, queries, item_ids)
    checks.no_empty_split(queries.split, np.diff(judged.offset), tables.file("queries"))
    in_training = queries.split[judged.query] == SPLITS.index("train")
    item_weight = np.bincount(judged.item[in_training], minlength=len(item_ids))
    query_weight = np.bincount(judged.query[in_training], minlength=len(queries.ids))

    moments, encoding = write_modalities(tables, out, item_weight)
    images = write_thumbnails(tables, out)
    context = write_query_features(tables, out, query_weight)
    context += write_pair_features(tables, out, judged.order, in_training)
    _write_item_text(tables, out)
    for name in ("offset", "item", "label", "v1"):
        np.save(out / f"{name}.npy", getattr(judged, name))
    np.save(out / "split.npy", queries.split)
    v1 = RunningMoments(1)
    v1.update(judged.v1[:, None], in_training)
    meta = {
        "widths": {m: len(moments[m].mean) for m in MODALITIES},
        "query_width": _width(out / "query_features.npy"),
        "pair_width": _width(out / "pair_features.npy"),
        "thumbnail": SIDE if images is not None else None,
        "mean": {m: moments[m].mean.tolist() for m in MODALITIES} | {"context": _joined(context, "mean")},
        "std": {m: moments[m].std.tolist() for m in MODALITIES} | {"context": _joined(context, "std")},
        "v1_mean": float(v1.mean[0]),
        "v1_std": float(v1.std[0]),
        "metadata_encoding": encoding.to_json(),
        "counts": _counts(queries, item_ids, judged, images),
    }
    (out / "meta.json").write_text(json.dumps(meta))


def _read_queries(tables: TableFolder, out: Path) -> _Queries:
    file = tables.file("queries")
    with tables.parquet("queries") as parquet:
        names = parquet.schema_arrow.names
        checks.require_columns(parquet.schema_arrow, ["query_id"], file)
        checks.require_rows(parquet.metadata.num_rows, file)
        optional = [name for name in ("split", "subdomain", "text", "timestamp") if name in names]
        table = parquet.read(columns=["query_id", *optional])
    query_ids = checks.ids(table["query_id"], file, "query_id")
    named = "split" in optional
    split = checks.split_codes(table["split"], file) if named else assign_splits(query_ids.to_pylist())
    checks.one_split_a_query(query_ids, split, file)
    columns = {"query_id": query_ids}
    if "subdomain" in optional:
        columns["subdomain"] = checks.ids(table["subdomain"], file, "subdomain")
    if "text" in optional:
        columns["text"] = checks.texts(table["text"], file, "text")
    if "timestamp" in optional:
        columns["timestamp"] = table["timestamp"]
    _write_arrow(out / "queries.arrow", pa.table(columns))
    return _Queries(query_ids, split)


def _read_item_ids(tables: TableFolder) -> Any:
    file = tables.file("items")
    with tables.parquet("items") as parquet:
        schema = parquet.schema_arrow
        vectors = ["visual", "text"] + (["metadata"] if not scalar_columns(schema) else [])
        checks.require_columns(schema, ["item_id", *vectors], file)
        checks.require_rows(parquet.metadata.num_rows, file)
        item_ids = checks.ids(parquet.read(columns=["item_id"])["item_id"], file, "item_id")
    checks.unique_ids(item_ids, file, "item_id")
    return item_ids


def _read_judgements(tables: TableFolder, queries: _Queries, item_ids: Any) -> _Judgements:
    file = tables.file("judgements")
    columns = ["query_id", "item_id", "label", "v1_score"]
    with tables.parquet("judgements") as parquet:
        checks.require_columns(parquet.schema_arrow, columns, file)
        checks.require_rows(parquet.metadata.num_rows, file)
        table = parquet.read(columns=columns)
    label = checks.labels(table["label"], file)
    v1 = checks.numbers(table["v1_score"], file, "v1_score").astype(np.float32)
    text = {name: checks.ids(table[name], file, name) for name in columns[:2]}
    query = checks.known_ids(text["query_id"], queries.ids, file, "query_id", tables.file("queries"))
    item = checks.known_ids(text["item_id"], item_ids, file, "item_id", tables.file("items"))
    checks.unique_pairs(query, item, file)
    order = np.argsort(query, kind="stable")
    offset = np.concatenate([[0], np.cumsum(np.bincount(query, minlength=len(queries.ids)))]).astype(np.int64)
    return _Judgements(order, offset, query[order], item[order], label[order], v1[order])


def _write_item_text(tables: TableFolder, out: Path) -> None:
    file = tables.file("items")
    with tables.parquet("items") as parquet:
        titled = "title" in parquet.schema_arrow.names
        kept = ["item_id", "title"] if titled else ["item_id"]
        fields = pa.schema([(name, pa.large_string()) for name in kept])
        with pa.OSFile(str(out / "items.arrow"), "wb") as sink, pa.ipc.new_file(sink, fields) as writer:
            for first, batch in stream(parquet, kept, rows=65_536):
                columns = [checks.ids(batch.column("item_id"), file, "item_id")]
                columns += [checks.texts(batch.column("title"), file, "title", first)] if titled else []
                writer.write_batch(pa.record_batch(columns, schema=fields))


def _counts(queries: _Queries, item_ids: Any, judged: _Judgements, images: int | None) -> dict[str, int]:
    candidates = np.diff(judged.offset)
    relevant = np.bincount(judged.query[judged.label > 0], minlength=len(candidates)) > 0
    by_score = np.lexsort((judged.v1, judged.query))
    same = (np.diff(judged.query[by_score]) == 0) & (np.diff(judged.v1[by_score]) == 0)
    counts = {
        "items": len(item_ids),
        "queries": len(candidates),
        "judgements": len(judged.item),
        **{name: int(((queries.split == code) & (candidates > 0)).sum()) for code, name in enumerate(SPLITS)},
        "queries_without_relevant": int((~relevant & (candidates > 0)).sum()),
        "queries_single_candidate": int((candidates == 1).sum()),
        "queries_tied_v1": len(np.unique(judged.query[by_score][1:][same])),
        "queries_without_candidates": int((candidates == 0).sum()),
        "items_never_judged": len(item_ids) - len(np.unique(judged.item)),
    }
    return counts if images is None else counts | {"items_without_image": len(item_ids) - images}


def _write_arrow(path: Path, table: Any) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _width(path: Path) -> int:
    return int(np.load(path, mmap_mode="r").shape[1]) if path.exists() else 0


def _joined(moments: list[RunningMoments], name: str) -> list[float]:
    return [float(value) for part in moments for value in getattr(part, name)]
