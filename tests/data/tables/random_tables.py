"""Random datasets as Arrow tables: right ones in any type that Arrow has for their values, and ones with one fault."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import strategies as st

Tables = dict[str, dict[str, Any]]
"""Table -> column -> Arrow array."""

TEXT_TYPES = ("string", "large_string", "string_view", "dictionary", "binary", "large_binary", "binary_view")
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)


def text_array(values: Sequence[str | None], kind: str) -> Any:
    """Text in one of TEXT_TYPES."""
    plain = pa.array(values, pa.string())
    if kind == "dictionary":
        return plain.dictionary_encode()
    if "binary" in kind:
        return plain.cast(pa.binary()).cast(getattr(pa, kind)())
    return plain.cast(getattr(pa, kind)())


def number_array(draw: Any, count: int, *, low: float, high: float) -> Any:
    """Numbers between two bounds, in a type that is drawn."""
    kind = draw(st.sampled_from(["float64", "float32", "float16", "int8", "int64", "uint64", "decimal128", "decimal256",
                                 "bool", "dictionary"]))  # fmt: skip
    if kind == "bool":
        return pa.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    if kind.startswith(("int", "uint")):
        bottom = max(int(low), 0 if kind == "uint64" else -128)
        top = min(int(high), 127 if kind == "int8" else 2**53)
        whole = draw(st.lists(st.integers(bottom, top), min_size=count, max_size=count))
        return pa.array(whole, getattr(pa, kind)())
    width = {"float32": 32, "float16": 16}.get(kind, 64)
    bound = 1000.0 if kind.startswith(("float16", "decimal")) else high
    numpy_type: Any = np.dtype(f"float{width}")
    bottom, top = (float(numpy_type.type(x)) for x in (max(low, -bound), min(high, bound)))
    numbers = st.floats(bottom, top, width=width, allow_subnormal=False)
    found = draw(st.lists(numbers, min_size=count, max_size=count))
    if kind.startswith("decimal"):
        exact = [Decimal(x).quantize(Decimal("0.001")) for x in found]
        return pa.array(exact, pa.decimal128(38, 18) if kind == "decimal128" else pa.decimal256(60, 9))
    if kind == "dictionary":
        return pa.array(found, pa.float64()).dictionary_encode()
    return pa.array(np.array(found, numpy_type))


def vector_array(draw: Any, count: int) -> Any:
    """Vectors of one width, in a type that is drawn."""
    width = draw(st.integers(1, 3))
    cells = st.floats(-1000, 1000, width=16)
    rows = draw(st.lists(st.lists(cells, min_size=width, max_size=width), min_size=count, max_size=count))
    kind = draw(st.sampled_from(["list", "large_list", "list_view", "large_list_view", "fixed", "tensor", "spark",
                                 "nested", "dictionary"]))  # fmt: skip
    inner = draw(st.sampled_from([pa.float32(), pa.float64(), pa.float16(), pa.decimal128(30, 15)]))
    if kind == "tensor":
        return pa.FixedShapeTensorArray.from_numpy_ndarray(np.array(rows, np.float32).reshape(count, 1, width))
    if kind == "spark":
        sparse = draw(st.lists(st.booleans(), min_size=count, max_size=count))
        return pa.array([_spark(row, thin) for row, thin in zip(rows, sparse, strict=True)], SPARK)
    if kind == "nested":
        return pa.array([[row] for row in rows], pa.list_(pa.list_(pa.float64())))
    if kind == "dictionary":
        flat = pa.array([x for row in rows for x in row], pa.float64())
        offsets = pa.array(range(0, width * count + 1, width), pa.int32())
        return pa.ListArray.from_arrays(offsets, flat.dictionary_encode())
    if pa.types.is_decimal(inner):
        rows = [[Decimal(x).quantize(Decimal("0.001")) for x in row] for row in rows]
    if pa.types.is_float16(inner):
        rows = [[np.float16(x) for x in row] for row in rows]
    shapes = {"list": pa.list_(inner), "large_list": pa.large_list(inner), "list_view": pa.list_view(inner),
              "large_list_view": pa.large_list_view(inner), "fixed": pa.list_(inner, width)}  # fmt: skip
    return pa.array(rows, shapes[kind])


SPARK = pa.struct(
    [("type", pa.int8()), ("size", pa.int32()), ("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float64()))]
)


def _spark(row: Sequence[float], sparse: bool) -> dict[str, Any]:
    if not sparse:
        return {"type": 1, "size": None, "indices": None, "values": list(row)}
    kept = [i for i, x in enumerate(row) if x != 0.0]
    return {"type": 0, "size": len(row), "indices": kept, "values": [row[i] for i in kept]}


@dataclass
class RandomDataset:
    """Three tables, and which fault was put into them (empty: none, so that they must open)."""

    tables: Tables
    fault: str = ""
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    """(table, column) to be written twice."""


@st.composite
def datasets(draw: Any) -> RandomDataset:
    """A small dataset; half of them have one fault."""
    items, queries = draw(st.integers(1, 6)), draw(st.integers(3, 6))
    item_ids = draw(_distinct_ids(items))
    query_ids = draw(_distinct_ids(queries))
    splits = ["train", "validation", "test", *draw(st.lists(_SPLIT, min_size=queries - 3, max_size=queries - 3))]
    pairs = [(q, i) for q in range(queries) for i in range(items) if draw(st.booleans())]
    pairs = sorted({*pairs, *((q, 0) for q in range(3))}, key=lambda pair: draw(st.integers(0, 9)))
    text = st.sampled_from(TEXT_TYPES)
    tables: Tables = {
        "items": {"item_id": _ids(item_ids, draw)} | {m: vector_array(draw, items) for m in ("visual", "text")},
        "queries": {"query_id": _ids(query_ids, draw), "split": text_array(splits, draw(text))},
        "judgements": {
            "query_id": _ids([query_ids[q] for q, _ in pairs], draw),
            "item_id": _ids([item_ids[i] for _, i in pairs], draw),
            "label": number_array(draw, len(pairs), low=0.0, high=1e6),
            "v1_score": number_array(draw, len(pairs), low=-1e18, high=1e18),
        },
    }
    if draw(st.booleans()):
        tables["items"]["metadata"] = vector_array(draw, items)
    else:
        tables["items"]["metadata.size"] = number_array(draw, items, low=-1e6, high=1e6)
        tables["items"]["metadata.kind"] = text_array(_some(draw, items), draw(text))
    for table, name, made in (
        ("items", "title", lambda: text_array(_some(draw, items), draw(text))),
        ("queries", "text", lambda: text_array(_some(draw, queries), draw(text))),
        ("queries", "subdomain", lambda: text_array(draw(_names(queries)), draw(text))),
        ("queries", "weight", lambda: number_array(draw, queries, low=1.0, high=10.0)),
        ("queries", "features", lambda: vector_array(draw, queries)),
        ("judgements", "features", lambda: vector_array(draw, len(pairs))),
    ):
        choice = draw(st.sampled_from(["absent", "null", "there"]))
        if choice != "absent":
            rows = len(next(iter(tables[table].values())))
            tables[table][name] = pa.nulls(rows) if choice == "null" else made()
    if "weight" in tables["queries"] and pa.types.is_boolean(tables["queries"]["weight"].type):
        tables["queries"]["weight"] = pa.array([1.0] * queries)  # false everywhere would be a fault
    dataset = RandomDataset(tables)
    if draw(st.booleans()):
        dataset.fault = draw(st.sampled_from(sorted(FAULTS)))
        FAULTS[dataset.fault](dataset, draw)
    return dataset


_SPLIT = st.sampled_from(["train", "validation", "test"])


def _names(count: int) -> Any:
    return st.lists(NAMES, min_size=count, max_size=count)


def _some(draw: Any, count: int) -> list[str | None]:
    found: list[str | None] = draw(st.lists(st.none() | NAMES, min_size=count, max_size=count))
    return found


def _distinct_ids(count: int) -> Any:
    """Names, whole numbers or UUIDs, all of one sort."""
    many = {"min_size": count, "max_size": count, "unique": True}
    return st.lists(NAMES, **many) | st.lists(st.integers(-(2**63), 2**63 - 1), **many) | st.lists(st.uuids(), **many)


def _ids(values: Sequence[Any], draw: Any) -> Any:
    """The same ids may be typed otherwise in another table."""
    if isinstance(values[0], int):
        kind = draw(st.sampled_from(["int64", "string", "decimal"]))
        if kind == "decimal":
            return pa.array([Decimal(v) for v in values], pa.decimal128(20, 0))
        return pa.array(values, pa.int64()) if kind == "int64" else pa.array([str(v) for v in values])
    if isinstance(values[0], uuid.UUID):
        if draw(st.booleans()):
            return pa.array([v.bytes for v in values], pa.uuid())
        values = [str(v) for v in values]
    return text_array(values, draw(st.sampled_from(TEXT_TYPES)))


Fault = Callable[[RandomDataset, Any], None]


def _put(table: str, column: str, value: Any, kind: Any) -> Fault:
    """One cell is `value`, the column of type `kind`."""

    def spoil(dataset: RandomDataset, draw: Any) -> None:
        cells = [None] * len(dataset.tables[table][column])
        good: list[Any] = _plain_cells(dataset.tables[table][column])
        row = draw(st.integers(0, len(cells) - 1))
        dataset.tables[table][column] = pa.array([value if i == row else good[i] for i in range(len(cells))], kind)

    return spoil


def _plain_cells(column: Any) -> list[Any]:
    cells = column.to_pylist()
    return [float(c) if isinstance(c, Decimal | bool) else str(c) if isinstance(c, uuid.UUID) else c for c in cells]


def _not_utf8(table: str, column: str) -> Fault:
    def spoil(dataset: RandomDataset, draw: Any) -> None:
        count = len(next(iter(dataset.tables[table].values())))
        row = draw(st.integers(0, count - 1))
        raw = pa.array([b"caf\xe9" if i == row else f"n{i}".encode() for i in range(count)], pa.binary())
        kind = draw(st.sampled_from(["string", "large_string", "binary"]))
        text = pa.Array.from_buffers(pa.string(), count, raw.buffers())
        dataset.tables[table][column] = raw if kind == "binary" else text.cast(getattr(pa, kind)())

    return spoil


def _twice(table: str, column: str) -> Fault:
    def spoil(dataset: RandomDataset, _: Any) -> None:
        dataset.duplicates.append((table, column))

    return spoil


def _first_again(table: str) -> Fault:
    def spoil(dataset: RandomDataset, _: Any) -> None:
        columns = dataset.tables[table]
        rows = [*range(len(next(iter(columns.values())))), 0]
        dataset.tables[table] = {name: _taken(column, rows) for name, column in columns.items()}

    return spoil


def _taken(column: Any, rows: list[int]) -> Any:
    try:
        return pc.take(column, pa.array(rows))
    except pa.ArrowNotImplementedError:  # views
        cells = column.to_pylist()
        return pa.array([cells[row] for row in rows], column.type)


def _replace(table: str, column: str, make: Callable[[int], Any]) -> Fault:
    def spoil(dataset: RandomDataset, _: Any) -> None:
        dataset.tables[table][column] = make(len(next(iter(dataset.tables[table].values()))))

    return spoil


FAULTS: dict[str, Fault] = {
    "missing label": _put("judgements", "label", None, pa.float64()),
    "NaN label": _put("judgements", "label", float("nan"), pa.float64()),
    "negative label": _put("judgements", "label", -1.0, pa.float64()),
    "label beyond squares": _put("judgements", "label", 1e300, pa.float64()),
    "infinite V1": _put("judgements", "v1_score", float("inf"), pa.float64()),
    "V1 that float64 rounds": _replace("judgements", "v1_score", lambda n: pa.array([2**60 + 1 + i for i in range(n)])),
    "V1 of text": _replace("judgements", "v1_score", lambda n: pa.array(["1.0"] * n)),
    "labels of lists": _replace("judgements", "label", lambda n: pa.array([[1.0]] * n)),
    "labels of null": _replace("judgements", "label", lambda n: pa.nulls(n)),
    "missing query id": _replace("judgements", "query_id", lambda n: pa.array([None] * n, pa.string())),
    "unknown item": _replace("judgements", "item_id", lambda n: pa.array([f"no such item {i}" for i in range(n)])),
    "fractional ids": _replace("items", "item_id", lambda n: pa.array([i + 0.5 for i in range(n)])),
    "item given twice": _first_again("items"),
    "query given twice": _first_again("queries"),
    "pair judged twice": _first_again("judgements"),
    "unknown split": _replace("queries", "split", lambda n: pa.array(["dev"] * n)),
    "negative weight": _replace("queries", "weight", lambda n: pa.array([-1.0] * n)),
    "weightless": _replace("queries", "weight", lambda n: pa.array([0] * n)),
    "missing subdomain": _replace("queries", "subdomain", lambda n: pa.array([None] * n, pa.string())),
    "vectors of text": _replace("items", "visual", lambda n: pa.array([["a"]] * n)),
    "ragged vectors": _replace("queries", "features", lambda n: pa.array([[1.0] * (1 + i % 2) for i in range(n)])),
    "empty vectors": _replace("items", "text", lambda n: pa.array([[]] * n, pa.list_(pa.float32()))),
    "missing vectors": _replace("items", "text", lambda n: pa.array([None] * n, pa.list_(pa.float32()))),
    "features beyond float32": _replace("items", "visual", lambda n: pa.array([[1e300]] * n)),
    "features that float32 merges": _replace(
        "queries", "features", lambda n: pa.array([[1.7e9 + 1e-3 * i] for i in range(n)])
    ),
    "pictures that are none": _replace("items", "image", lambda n: pa.array([b"no picture"] * n)),
    "pictures without bytes": _replace("items", "image", lambda n: pa.array([{"bytes": None, "path": "a.png"}] * n)),
    "query id not UTF-8": _not_utf8("queries", "query_id"),
    "query text not UTF-8": _not_utf8("queries", "text"),
    "subdomain not UTF-8": _not_utf8("queries", "subdomain"),
    "title not UTF-8": _not_utf8("items", "title"),
    "category not UTF-8": _not_utf8("items", "metadata.maker"),
    "NUL in a title": _replace("items", "title", lambda n: pa.array(["a\0b"] * n)),
    "two labels": _twice("judgements", "label"),
    "two splits": _twice("queries", "split"),
    "no rows": lambda dataset, _: dataset.tables.update(
        judgements={name: column.slice(0, 0) for name, column in dataset.tables["judgements"].items()}
    ),
}
