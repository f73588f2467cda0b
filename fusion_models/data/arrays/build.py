"""Three checked tables as a folder of flat arrays that `RankingDataset` maps into memory.

Feature columns stream through a few rows at a time, so they may be larger than memory. Ids, and the judgements'
query, item, label and V1 score, are held whole while the folder is built: about 100 bytes an item and a judgement.

| file | holds |
|---|---|
| `modality_NAME.npy`, one a modality | `[items, D]` float32 |
| `thumbnails.npy` | `[items, 3, 32, 32]` uint8, where the table has `image` |
| `missing_NAME.npy` | `[items]` or `[queries]` bool: which vectors only stand in for one, where the table says so |
| `query_features.npy`, `pair_features.npy` | `[queries, D]`, `[judgements, D]` float32, where present |
| `offset.npy` | `[queries + 1]` int64: a query's judgements are `offset[q]:offset[q + 1]` |
| `item.npy`, `label.npy`, `v1.npy` | `[judgements]` int64 / float64 / float64, grouped by query, in the table's order |
| `v1_input.npy` | `[judgements]` float64, where a model cannot read the scores as they are (see `v1_scores`) |
| `split.npy`, `weight.npy` | `[queries]` int8 codes into SPLITS; float64, 1 where the table names no weight |
| `items.arrow`, `queries.arrow` | ids, titles, query text, subdomain, timestamp: Arrow IPC files |
| `meta.json` | widths, training statistics, encodings of scalar columns, counts |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fusion_models.data.arrays.feature_files import (
    write_modalities,
    write_pair_features,
    write_query_features,
    write_stand_ins,
    write_thumbnails,
)
from fusion_models.data.arrays.moments import RunningMoments
from fusion_models.data.arrays.scalars import scalar_columns
from fusion_models.data.arrays.thumbnails import SIDE
from fusion_models.data.arrays.v1_scores import v1_input, v1_input_kind
from fusion_models.data.errors import DataError
from fusion_models.data.splits import SPLITS, assign_splits
from fusion_models.data.tables import COLUMN_ROWS, TableFolder, TableReader, checks, relations
from fusion_models.data.tables.columns import is_list
from fusion_models.data.tables.declaration import FILE as DECLARATION

FORMAT = 6
"""Of the folder; part of its name, so that a new format never reads an old folder."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Queries:
    ids: Any
    split: npt.NDArray[np.int8]
    weight: Floats


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
    with tables.placed():
        _write(tables, out)


def _write(tables: TableFolder, out: Path) -> None:
    queries = _read_queries(tables, out)
    item_ids = _read_item_ids(tables)
    judged = _read_judgements(tables, queries, item_ids)
    relations.no_empty_split(queries.split, np.diff(judged.offset), tables.file("queries"))
    in_training = queries.split[judged.query] == SPLITS.index("train")
    item_weight = np.bincount(judged.item[in_training], minlength=len(item_ids))
    query_weight = np.bincount(judged.query[in_training], minlength=len(queries.ids))

    moments, encodings = write_modalities(tables, out, item_weight)
    images = write_thumbnails(tables, out)
    context = write_query_features(tables, out, query_weight)
    context += write_pair_features(tables, out, judged.order, in_training)
    _write_item_text(tables, out)
    for name in ("offset", "item", "label", "v1"):
        np.save(out / f"{name}.npy", getattr(judged, name))
    np.save(out / "split.npy", queries.split)
    np.save(out / "weight.npy", queries.weight)
    kind = v1_input_kind(judged.v1, judged.query)
    read_as = v1_input(judged.v1, judged.offset, kind)
    if kind != "score":
        np.save(out / "v1_input.npy", read_as)
    v1 = RunningMoments(1)
    v1.update(read_as[:, None], in_training)
    stand_ins = write_stand_ins(tables, out)
    meta = {
        "widths": {m: len(found.mean) for m, found in moments.items()},
        "quantities": [m for m in moments if m in tables.declared.quantities or m in encodings],
        "query_width": _width(out / "query_features.npy"),
        "pair_width": _width(out / "pair_features.npy"),
        "thumbnail": SIDE if images is not None else None,
        "pictured": tables.declared.pictures,
        "titled": tables.declared.titles,
        "mean": {m: found.mean.tolist() for m, found in moments.items()} | {"context": _joined(context, "mean")},
        "std": {m: found.std.tolist() for m, found in moments.items()} | {"context": _joined(context, "std")},
        "v1_input": kind,
        "v1_mean": float(v1.mean[0]),
        "v1_std": float(v1.std[0]),
        "encodings": {m: encoding.to_json() for m, encoding in encodings.items()},
        "counts": _counts(queries, item_ids, judged, images) | stand_ins,
    }
    (out / "meta.json").write_text(json.dumps(meta))


def _read_queries(tables: TableFolder, out: Path) -> _Queries:
    file, reader = tables.file("queries"), tables.reader("queries")
    reader.require(["query_id"], (*_QUERY_COLUMNS, "features"))
    checks.require_rows(reader.num_rows, file)
    optional = [name for name in _QUERY_COLUMNS if name in reader.names]
    found = _whole(reader, {"query_id": checks.ids} | {name: _QUERY_COLUMNS[name] for name in optional})
    query_ids = found["query_id"]
    split = relations.split_codes(found["split"], file) if "split" in found else assign_splits(query_ids.to_pylist())
    relations.one_split_a_query(query_ids, split, file)
    weight = np.concatenate(found["weight"]) if "weight" in found else np.ones(len(query_ids))
    relations.no_weightless_split(split, weight, file)
    kept = [name for name in ("query_id", "subdomain", "text", "timestamp") if name in found]
    _write_arrow(out / "queries.arrow", pa.table({name: found[name] for name in kept}))
    return _Queries(query_ids, split, weight)


def _read_item_ids(tables: TableFolder) -> Any:
    file, reader = tables.file("items"), tables.reader("items")
    scalars = {m: scalar_columns(m, reader.names) for m in tables.declared.modalities}
    vectors = [m for m, found in scalars.items() if not found]
    _require_declared(reader, vectors)
    reader.require(
        ["item_id", *vectors],
        ("title", "image", *scalars, *(c for m in scalars for c in scalar_columns(m, reader.every_name))),
    )
    checks.require_rows(reader.num_rows, file)
    item_ids = _whole(reader, {"item_id": checks.ids})["item_id"]
    relations.unique_ids(item_ids, file, "item_id")
    return item_ids


def _require_declared(reader: TableReader, vectors: Sequence[str]) -> None:
    """Raise DataError where a modality has no column at all: it says how a dataset of others is declared."""
    gone = [name for name in vectors if name not in reader.names]
    if gone and reader.num_rows:
        found = [name for name in reader.names if is_list(reader.type_of(name))]
        named = ", ".join(f'"{name}"' for name in found)
        raise DataError(
            f"missing, and no scalar columns {gone[0]}.<name> either; the table has {', '.join(reader.names)}.",
            f"Add it, or say in {DECLARATION} beside the tables which columns are modalities: modalities = [{named}].",
            file=reader.file,
            column=gone[0],
        )


def _read_judgements(tables: TableFolder, queries: _Queries, item_ids: Any) -> _Judgements:
    file, reader = tables.file("judgements"), tables.reader("judgements")
    reader.require(["query_id", "item_id", "label", "v1_score"], ["features"])
    checks.require_rows(reader.num_rows, file)
    found = _whole(
        reader,
        {"query_id": checks.ids, "item_id": checks.ids, "label": _labels, "v1_score": _scores},
    )
    label, v1 = np.concatenate(found["label"]), np.concatenate(found["v1_score"])
    query = relations.known_ids(found["query_id"], queries.ids, file, "query_id", tables.file("queries"))
    item = relations.known_ids(found["item_id"], item_ids, file, "item_id", tables.file("items"))
    relations.unique_pairs(query, item, file)
    order = np.argsort(query, kind="stable")
    offset = np.concatenate([[0], np.cumsum(np.bincount(query, minlength=len(queries.ids)))]).astype(np.int64)
    return _Judgements(order, offset, query[order], item[order], label[order], v1[order])


Read = Callable[[Any, str, str, int], Any]
"""(column of a record batch, file, its name, its first row) -> an Arrow or numpy array, checked."""


def _labels(column: Any, file: str, _: str, first_row: int) -> Floats:
    return checks.labels(column, file, first_row)


def _scores(column: Any, file: str, name: str, first_row: int) -> Floats:
    return checks.not_huge(checks.numbers(column, file, name, first_row), file, name, first_row)


def _weights(column: Any, file: str, _: str, first_row: int) -> Floats:
    return checks.weights(column, file, first_row)


_QUERY_COLUMNS: dict[str, Read] = {
    "split": checks.ids,
    "subdomain": checks.ids,
    "text": checks.texts,
    "timestamp": checks.moments,
    "weight": _weights,
}


def _whole(reader: TableReader, columns: dict[str, Read]) -> dict[str, Any]:
    """Columns held whole: Arrow ones as one chunked array each, numpy ones as the list of their pieces."""
    pieces: dict[str, list[Any]] = {name: [] for name in columns}
    for first, batch in reader.stream(list(columns), COLUMN_ROWS):
        for name, read in columns.items():
            pieces[name].append(read(batch.column(name), reader.file, name, first))
    return {n: p if isinstance(p[0], np.ndarray) else _joined_column(p, reader.file, n) for n, p in pieces.items()}


def _joined_column(pieces: list[Any], file: str, name: str) -> Any:
    """One chunked array, of the type that holds all pieces: files of one table may type a column differently."""
    try:
        tables = [pa.table({name: piece}) for piece in pieces]
        return pa.concat_tables(tables, promote_options="permissive")[name]
    except pa.ArrowException as error:
        types = ", ".join(dict.fromkeys(str(piece.type) for piece in pieces))
        raise DataError(
            f"the files of the table give it types that do not go together ({types}).",
            "Write the column with one type.",
            file=file,
            column=name,
        ) from error


def _write_item_text(tables: TableFolder, out: Path) -> None:
    file, reader = tables.file("items"), tables.reader("items")
    titled = "title" in reader.names
    kept = ["item_id", "title"] if titled else ["item_id"]
    fields = pa.schema([(name, pa.large_string()) for name in kept])
    with pa.OSFile(str(out / "items.arrow"), "wb") as sink, pa.ipc.new_file(sink, fields) as writer:
        for first, batch in reader.stream(kept, COLUMN_ROWS):
            columns = [checks.ids(batch.column("item_id"), file, "item_id", first)]
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
