"""Feature columns and pictures as flat `.npy` files, a few rows in memory at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fusion_models.config import MODALITIES
from fusion_models.data.arrays.metadata import MetadataEncoding, fit_encoding, scalar_columns
from fusion_models.data.arrays.moments import RunningMoments
from fusion_models.data.arrays.thumbnails import SIDE, blank_thumbnail, decode_thumbnail
from fusion_models.data.errors import DataError
from fusion_models.data.tables import TableFolder, checks, stream

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

Reader = Callable[[Any, int, int | None], Floats]
"""(record batch, its first row, width of row 0 or None) -> `[n, D]`."""


class ArrayWriter:
    """One `.npy` file written front to back, never mapped: pages leave memory as they are written."""

    def __init__(self, path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
        self._file = path.open("wb")
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
        self._dtype = dtype

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Add rows; the caller gives as many as the shape promised."""
        self._file.write(np.ascontiguousarray(rows, dtype=self._dtype).data)

    def close(self) -> None:
        """Flush and close."""
        self._file.close()


def write_modalities(
    tables: TableFolder, out: Path, weight: Ints
) -> tuple[dict[str, RunningMoments], MetadataEncoding]:
    """`visual.npy`, `text.npy`, `metadata.npy`; each item's moments count `weight[item]` times."""
    file = tables.file("items")
    with tables.parquet("items") as parquet:
        names = parquet.schema_arrow.names
        scalars = scalar_columns(parquet.schema_arrow)
        batches = stream(parquet, scalars) if scalars else iter(())
        encoding = fit_encoding(parquet.schema_arrow, batches, weight, file)
    moments: dict[str, RunningMoments] = {}
    for name in MODALITIES:
        listed = name if name in names else None
        extra = scalars if name == "metadata" else []
        columns = ([listed] if listed else []) + extra
        read = _item_reader(listed, encoding if extra else None, file)
        moments[name] = _write_column(tables, "items", columns, read, weight, out / f"{name}.npy")
    return moments, encoding


def write_thumbnails(tables: TableFolder, out: Path) -> int | None:
    """`thumbnails.npy`: every `image` decoded, a white square for items without one. How many had one.

    None, and no file, where the table has no such column.
    """
    file, found = tables.file("items"), 0
    with tables.parquet("items") as parquet:
        if "image" not in parquet.schema_arrow.names:
            return None
        kind = parquet.schema_arrow.field("image").type
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise DataError(
                f"the column is of type {kind}, not bytes.",
                "Write PNG or JPEG bytes.",
                file=file,
                column="image",
                row=0,
            )
        writer = ArrayWriter(out / "thumbnails.npy", np.uint8, (parquet.metadata.num_rows, 3, SIDE, SIDE))
        for first, batch in stream(parquet, ["image"], rows=256):
            pictures = []
            for row, data in enumerate(batch.column("image").to_pylist(), start=first):
                pictures.append(blank_thumbnail() if data is None else _decoded(data, file, row))
                found += data is not None
            writer.append(np.stack(pictures))
        writer.close()
    return found


def write_query_features(tables: TableFolder, out: Path, weight: Ints) -> list[RunningMoments]:
    """`query_features.npy`; its moments, or none where the table has no `features`."""
    file = tables.file("queries")
    with tables.parquet("queries") as parquet:
        if "features" not in parquet.schema_arrow.names:
            return []
    read = _item_reader("features", None, file)
    return [_write_column(tables, "queries", ["features"], read, weight, out / "query_features.npy")]


def write_pair_features(
    tables: TableFolder, out: Path, order: Ints, in_training: npt.NDArray[np.bool_]
) -> list[RunningMoments]:
    """`pair_features.npy`, whose row i is the table's row `order[i]`; its moments, or none without `features`.

    Rows change places, so this file alone is written through a map.
    """
    file = tables.file("judgements")
    place = np.empty_like(order)
    place[order] = np.arange(len(place))
    target: Any = None
    moments = RunningMoments(0)
    with tables.parquet("judgements") as parquet:
        if "features" not in parquet.schema_arrow.names:
            return []
        for first, batch in stream(parquet, ["features"]):
            width = None if target is None else target.shape[1]
            values = checks.feature_vectors(batch.column("features"), file, "features", first, width)
            if target is None:
                shape = (parquet.metadata.num_rows, values.shape[1])
                target = np.lib.format.open_memmap(out / "pair_features.npy", "w+", np.float32, shape)
                moments = RunningMoments(values.shape[1])
            rows = place[first : first + len(values)]
            target[rows] = values
            moments.update(values, in_training[rows].astype(np.int64))
    target.flush()
    return [moments]


def _item_reader(column: str | None, encoding: MetadataEncoding | None, file: str) -> Reader:
    """Reads a list column, the encoded scalar columns, or one beside the other."""

    def read(batch: Any, first: int, width: int | None) -> Floats:
        scalars = None if encoding is None else encoding.encode(batch, file, first)
        if column is None:
            assert scalars is not None
            return scalars
        listed_width = None if width is None else width - (0 if scalars is None else scalars.shape[1])
        values = checks.feature_vectors(batch.column(column), file, column, first, listed_width)
        return values if scalars is None else np.concatenate([values, scalars], axis=1)

    return read


def _write_column(
    tables: TableFolder, table: str, columns: list[str], read: Reader, weight: Ints, path: Path
) -> RunningMoments:
    writer: ArrayWriter | None = None
    moments = RunningMoments(0)
    width: int | None = None
    with tables.parquet(table) as parquet:
        for first, batch in stream(parquet, columns):
            values = read(batch, first, width)
            if writer is None:
                width = values.shape[1]
                writer = ArrayWriter(path, np.float32, (parquet.metadata.num_rows, width))
                moments = RunningMoments(width)
            writer.append(values)
            moments.update(values, weight[first : first + len(values)])
    assert writer is not None
    writer.close()
    return moments


def _decoded(data: bytes, file: str, row: int) -> npt.NDArray[np.uint8]:
    try:
        return decode_thumbnail(data)
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow's decoders raise on broken bytes
        raise DataError(
            f"{len(data)} bytes that are no picture ({error}).",
            "Write whole PNG or JPEG bytes, or null for none.",
            file=file,
            column="image",
            row=row,
        ) from error
