"""The raw material of a table, row by row: pictures as bytes or paths, words as text; None where a row has none."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from fusion_models.data.arrays.thumbnails import MEGAPIXELS, checked_thumbnail, picture_bytes, upright
from fusion_models.data.embedding.preparation import rgb
from fusion_models.data.errors import DataError
from fusion_models.data.tables import TableFolder, TableReader, checks, filesystem_of
from fusion_models.data.tables.columns import is_text, plain

Raw = bytes | str | None


@dataclass(frozen=True)
class Row:
    """What row `number` of the table holds, before it is opened."""

    number: int
    raw: Raw


def pictures(reader: TableReader) -> Iterator[Row]:
    """Bytes or a path a row, of the column `image`: bytes, text, or a struct of `bytes` and `path`."""
    for first, batch in reader.stream(["image"]):
        for place, raw in enumerate(picture_values(batch.column("image"), reader.file, first)):
            yield Row(first + place, raw or None)


def picture_values(column: Any, file: str, first: int) -> list[Raw]:
    """Bytes where they are known, else a path; None where there is neither."""
    values = plain(column)
    if is_text(values.type):
        paths: list[Raw] = checks.texts(values, file, "image", first).to_pylist()
        return paths
    kind = values.type
    fields = [kind.field(i).name for i in range(kind.num_fields)] if pa.types.is_struct(kind) else []
    if {"bytes", "path"} <= set(fields):
        parts = dict(zip(fields, values.flatten(), strict=True))
        known = picture_bytes(parts["bytes"], file, first)
        return [b or path for b, path in zip(known, plain(parts["path"]).to_pylist(), strict=True)]
    return list(picture_bytes(column, file, first))


def words(reader: TableReader, columns: list[str]) -> Iterator[Row]:
    """The texts of `columns`, a line each; None where all are empty."""
    for first, batch in reader.stream(columns):
        found = [checks.texts(batch.column(name), reader.file, name, first).to_pylist() for name in columns]
        for place, texts in enumerate(zip(*found, strict=True)):
            said = "\n".join(text.strip() for text in texts if text and text.strip())
            yield Row(first + place, said or None)


class PictureOpener:
    """Row -> RGB picture, or None where its path leads to no file; what was not found is counted."""

    def __init__(self, tables: TableFolder) -> None:
        self._filesystem, self._root = filesystem_of(tables.location)
        self._file = tables.file("items")
        self.lost: list[str] = []
        """Paths that led nowhere."""

    def __call__(self, row: Row) -> Image.Image | None:
        """Raises DataError, naming the row, for bytes that are no picture."""
        data = self.read(row.raw)
        if data is None:
            return None
        try:
            with Image.open(io.BytesIO(data)) as opened:
                if opened.width * opened.height <= MEGAPIXELS * 1_000_000:
                    opened.load()
                    return rgb(upright(opened))
        except Exception:  # Pillow's decoders raise whatever broken bytes lead them to; the door's words are below
            checked_thumbnail(data, self._file, row.number)
            raise
        checked_thumbnail(data, self._file, row.number)
        raise AssertionError("the door refuses what is too large")

    def read(self, raw: Raw) -> bytes | None:
        """Bytes of a picture; a path is looked up in the dataset's folder unless it is absolute or a URI."""
        if raw is None or isinstance(raw, bytes):
            return raw
        if "://" in raw:
            filesystem, path = filesystem_of(raw)
        else:
            filesystem = self._filesystem
            path = raw if raw.startswith("/") else f"{self._root.rstrip('/')}/{raw}"
        try:
            found: bytes = filesystem.cat_file(path)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            self.lost.append(raw)
            return None
        except Exception as error:
            raise DataError(
                f"the picture {raw!r} cannot be read ({type(error).__name__}: {error}).",
                "See whether its store is up, and may be read; what is finished is kept.",
                file=self._file,
                column="image",
            ) from error
        return found


def thumbnail_png(data: bytes | None, file: str, row: int) -> bytes | None:
    """What the door keeps of a picture (its thumbnail) as a PNG: the same thumbnail is read of it again."""
    if data is None:
        return None
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(checked_thumbnail(data, file, row).transpose(1, 2, 0))).save(out, "PNG")
    return out.getvalue()
