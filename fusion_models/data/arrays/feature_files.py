"""Feature columns and pictures as flat `.npy` files, a few rows in memory at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fusion_models.data.arrays.moments import RunningMoments
from fusion_models.data.arrays.scalars import ScalarEncoding, fit_encoding, scalar_columns
from fusion_models.data.arrays.thumbnails import SIDE, blank_thumbnail, checked_thumbnail, picture_bytes
from fusion_models.data.errors import DataError
from fusion_models.data.tables import COLUMN_ROWS, TableFolder, TableReader, checks
from fusion_models.data.tables.declaration import STAND_IN
from fusion_models.data.tables.feature_vectors import Narrowing, feature_vectors

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


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
) -> tuple[dict[str, RunningMoments], dict[str, ScalarEncoding]]:
    """A file a modality, `modality_NAME.npy`; each item's moments count `weight[item]` times.

    The encodings are those of the modalities that have scalar columns.
    """
    file, reader = tables.file("items"), tables.reader("items")
    moments: dict[str, RunningMoments] = {}
    encodings: dict[str, ScalarEncoding] = {}
    for name in tables.declared.modalities:
        listed = name if name in reader.names else None
        scalars = scalar_columns(name, reader.names)
        if scalars:
            encodings[name] = fit_encoding(reader, scalars, weight)
        columns = ([listed] if listed else []) + scalars
        read = _ItemColumns(listed, encodings.get(name), file)
        moments[name] = _write_column(reader, columns, read, weight, out / f"modality_{name}.npy")
    return moments, encodings


def write_thumbnails(tables: TableFolder, out: Path) -> int | None:
    """`thumbnails.npy`: every `image` decoded, a white square for items without one. How many had one.

    None, and no file, where the table has no such column.
    """
    file, reader, found = tables.file("items"), tables.reader("items"), 0
    if "image" not in reader.names:
        return None
    writer = ArrayWriter(out / "thumbnails.npy", np.uint8, (reader.num_rows, 3, SIDE, SIDE))
    for first, batch in reader.stream(["image"]):
        pictures = []
        for row, data in enumerate(picture_bytes(batch.column("image"), file, first), start=first):
            pictures.append(blank_thumbnail() if data is None else checked_thumbnail(data, file, row))
            found += data is not None
        writer.append(np.stack(pictures))
    writer.close()
    return found


def write_stand_ins(tables: TableFolder, out: Path) -> dict[str, int]:
    """`missing_NAME.npy`: which rows' vectors only stand in for one, of each column `missing_NAME` that there is.

    How many: `items_missing_NAME` of each modality, `queries_missing_features`. Raises DataError where one holds
    anything but true and false.
    """
    counts = {}
    for table, names in (("items", tables.declared.modalities), ("queries", ("features",))):
        reader = tables.reader(table)
        for name in (STAND_IN + name for name in names):
            reader.require([], [name])
            if name not in reader.names:
                continue
            found: list[npt.NDArray[np.bool_]] = []
            for first, batch in reader.stream([name], COLUMN_ROWS):
                values = checks.numbers(batch.column(name), reader.file, name, first)
                row = checks.first_true((values != 0) & (values != 1))
                if row is not None:
                    raise DataError(
                        f"{values[row]:g} is neither true nor false.",
                        "Write true where the row's vector only stands in for one, else false.",
                        file=reader.file,
                        column=name,
                        row=first + row,
                    )
                found.append(values == 1)
            np.save(out / f"{name}.npy", np.concatenate(found))
            counts[f"{table}_{name}"] = int(sum(part.sum() for part in found))
    return counts


def write_query_features(tables: TableFolder, out: Path, weight: Ints) -> list[RunningMoments]:
    """`query_features.npy`; its moments, or none where the table has no `features`."""
    reader = tables.reader("queries")
    if "features" not in reader.names:
        return []
    read = _ItemColumns("features", None, tables.file("queries"))
    return [_write_column(reader, ["features"], read, weight, out / "query_features.npy")]


def write_pair_features(
    tables: TableFolder, out: Path, order: Ints, in_training: npt.NDArray[np.bool_]
) -> list[RunningMoments]:
    """`pair_features.npy`, whose row i is the table's row `order[i]`; its moments, or none without `features`.

    Rows change places, so this file alone is written through a map.
    """
    file, reader = tables.file("judgements"), tables.reader("judgements")
    if "features" not in reader.names:
        return []
    place = np.empty_like(order)
    place[order] = np.arange(len(place))
    target: Any = None
    moments, narrowing = RunningMoments(0), Narrowing()
    for first, batch in reader.stream(["features"]):
        width = None if target is None else target.shape[1]
        values = feature_vectors(batch.column("features"), file, "features", first, width, narrowing)
        if target is None:
            shape = (reader.num_rows, values.shape[1])
            target = np.lib.format.open_memmap(out / "pair_features.npy", "w+", np.float32, shape)
            moments = RunningMoments(values.shape[1])
        rows = place[first : first + len(values)]
        target[rows] = values
        moments.update(values, in_training[rows].astype(np.int64))
    narrowing.check(file, "features")
    target.flush()
    return [moments]


class _ItemColumns:
    """Reads a list column, the encoded scalar columns, or one beside the other, batch after batch."""

    def __init__(self, column: str | None, encoding: ScalarEncoding | None, file: str) -> None:
        self._column, self._encoding, self._file = column, encoding, file
        self._narrowing = Narrowing()

    def __call__(self, batch: Any, first: int, width: int | None) -> Floats:
        """`[n, D]` of a record batch; `width` is that of row 0, or None."""
        scalars = None if self._encoding is None else self._encoding.encode(batch, self._file, first)
        if self._column is None:
            assert scalars is not None
            return scalars
        listed = None if width is None else width - (0 if scalars is None else scalars.shape[1])
        column = batch.column(self._column)
        values = feature_vectors(column, self._file, self._column, first, listed, self._narrowing)
        return values if scalars is None else np.concatenate([values, scalars], axis=1)

    def check(self) -> None:
        """Once all is read: raise DataError where float32 does not tell a feature's values apart."""
        if self._column is not None:
            self._narrowing.check(self._file, self._column)


def _write_column(
    reader: TableReader, columns: list[str], read: _ItemColumns, weight: Ints, path: Path
) -> RunningMoments:
    writer: ArrayWriter | None = None
    moments = RunningMoments(0)
    width: int | None = None
    for first, batch in reader.stream(columns):
        values = read(batch, first, width)
        if writer is None:
            width = values.shape[1]
            writer = ArrayWriter(path, np.float32, (reader.num_rows, width))
            moments = RunningMoments(width)
        writer.append(values)
        moments.update(values, weight[first : first + len(values)])
    assert writer is not None
    writer.close()
    read.check()
    return moments
