"""The tables of an embedded dataset: vectors in the place of what they were made of, all else as it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fusion_models.data.embedding.raw import PictureOpener, picture_values, thumbnail_png
from fusion_models.data.errors import DataError, foreign_errors
from fusion_models.data.tables import TableFolder, TableReader, checks, vectors
from fusion_models.data.tables.columns import is_text, plain
from fusion_models.data.tables.declaration import STAND_IN


@dataclass(frozen=True)
class MadeColumn:
    """A column of vectors."""

    name: str
    vectors: npt.NDArray[np.float32]
    """`[rows, D]`, mapped."""
    missing: npt.NDArray[np.bool_]
    """`[rows]`: which of them only stand in."""


def write_items(reader: TableReader, made: list[MadeColumn], opener: PictureOpener, out: Path) -> None:
    """`items.parquet` in the folder `out`. Pictures behind paths become thumbnails, which is what the door reads.

    Raises DataError where the parts of the table do not go together.
    """
    replaced = {column.name for column in made}
    kept = [n for n in reader.names if n not in replaced and n not in {STAND_IN + name for name in replaced}]
    spoken = [c.name for c in made if c.name in reader.names and is_text(reader.type_of(c.name))]
    titled = spoken[:1] if "title" not in reader.names else []
    pathed = "image" in kept and not pa.types.is_large_binary(reader.type_of("image"))

    def batches() -> Iterator[Any]:
        for first, batch in reader.stream([*kept, *titled]):
            columns = {name: _storable(batch.column(name)) for name in kept}
            for name in titled:  # the words, whose column the vectors take
                columns["title"] = checks.texts(batch.column(name), reader.file, name, first)
            if pathed:
                columns["image"] = _thumbnails(batch.column("image"), reader.file, first, opener)
            yield _with_vectors(columns, made, first, batch.num_rows)

    _write(batches(), out / reader.file)


def write_queries(tables: TableFolder, made: list[MadeColumn], out: Path) -> None:
    """`queries.parquet`, or the table's own files where nothing of it was made."""
    if not made:
        copy_table(tables, "queries", out)
        return
    reader = tables.reader("queries")
    kept = [n for n in reader.names if n not in ("features", f"{STAND_IN}features")]
    batches = (
        _with_vectors({n: _storable(batch.column(n)) for n in kept}, made, first, batch.num_rows)
        for first, batch in reader.stream(kept)
    )
    _write(batches, out / reader.file)


def copy_table(tables: TableFolder, table: str, out: Path) -> None:
    """The table's files as they are."""
    for part in tables.parts[table]:
        path = out / part.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with foreign_errors("cannot be copied", "See whether it may be read, and the disk has room.", file=part.name):
            tables.filesystem.get_file(part.path, str(path))


def _with_vectors(columns: dict[str, Any], made: list[MadeColumn], first: int, count: int) -> Any:
    rows = slice(first, first + count)
    for column in made:
        columns[column.name] = vectors(np.asarray(column.vectors[rows]))
        if column.missing.any():
            columns[STAND_IN + column.name] = pa.array(column.missing[rows])
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _thumbnails(column: Any, file: str, first: int, opener: PictureOpener) -> Any:
    """Thumbnails as PNG in place of paths: the table is whole in itself, and the door reads bytes alone."""
    found = [
        thumbnail_png(opener.read(raw or None), file, first + place)
        for place, raw in enumerate(picture_values(column, file, first))
    ]
    return pa.array(found, pa.large_binary())


def _storable(column: Any) -> Any:
    return plain(column) if pa.types.is_dictionary(column.type) or pa.types.is_run_end_encoded(column.type) else column


def _write(batches: Iterator[Any], path: Path) -> None:
    writer: Any = None
    try:
        for batch in batches:
            writer = writer or pq.ParquetWriter(path, batch.schema, compression="zstd")
            try:
                writer.write_batch(batch if batch.schema == writer.schema else batch.cast(writer.schema))
            except pa.ArrowException as error:
                raise DataError(
                    f"the files of the table give a column types that do not go together ({error}).",
                    "Write each column with one type.",
                    file=path.name,
                ) from error
    finally:
        if writer is not None:
            writer.close()
