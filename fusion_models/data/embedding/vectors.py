"""Embeds one column of raw rows, part after part. Rows without raw material get a stand-in, and are marked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from fusion_models.data.embedding.encoders import Encoder
from fusion_models.data.embedding.parts import PART_ROWS, Parts
from fusion_models.data.embedding.raw import Row
from fusion_models.data.errors import DataError
from fusion_models.work import heard_by, tell

THREADS = 4
"""Pictures opened at once, while Pillow lets go of the interpreter."""


@dataclass(frozen=True)
class Column:
    """What one column is made of."""

    file: str
    """Of the table, for errors."""
    name: str
    """Of the column that is written."""
    source: str
    """Of the column (or columns) that is read."""
    rows: Iterator[Row]
    opened: Callable[[Row], Any]
    """A row that holds something -> what the encoder takes; None where it turns out to hold nothing."""


def make_column(column: Column, encoder: Callable[[], Encoder[Any]], parts: Parts, batch: int) -> tuple[str, ...]:
    """Fill `parts`; those that are finished stay. Returns the encoder's notes.

    `encoder` is called where something is left to do, once. Raises DataError where the model gives anything but one
    finite vector of one width a row.
    """
    model: Encoder[Any] | None = None
    what = f"{column.name}: embedding {column.source}"
    with ThreadPoolExecutor(THREADS) as threads:
        for part in range(len(parts)):
            with heard_by(_nobody):  # the table's own progress would take turns with this one
                rows = list(islice(column.rows, PART_ROWS))
            if parts.has(part):
                continue
            model = model or encoder()
            found: list[npt.NDArray[np.float32]] = []
            missing = np.ones(len(rows), dtype=np.bool_)
            for start in range(0, len(rows), batch):
                tell(what, rows[0].number + start, parts.rows)
                some = rows[start : start + batch]
                things = list(threads.map(lambda row: None if row.raw is None else column.opened(row), some))
                kept = [(row, thing) for row, thing in zip(some, things, strict=True) if thing is not None]
                if kept:
                    found.append(_checked(model.encode([thing for _, thing in kept]), [r for r, _ in kept], column))
                    missing[[row.number - rows[0].number for row, _ in kept]] = False
            vectors = np.concatenate(found) if found else np.zeros((0, 0), np.float32)
            parts.write(part, vectors, missing)
    tell(what, parts.rows, parts.rows)
    return model.notes if model is not None else ()


def _checked(vectors: npt.NDArray[np.float32], rows: Sequence[Row], column: Column) -> npt.NDArray[np.float32]:
    if vectors.ndim != 2 or len(vectors) != len(rows) or not vectors.shape[1]:
        raise DataError(
            f"the model gives an array of shape {list(vectors.shape)} for {len(rows)} rows.",
            "Give a model with one vector a row.",
            file=column.file,
            column=column.source,
        )
    wrong = ~np.isfinite(vectors).all(axis=1)
    if wrong.any():
        raise DataError(
            "the model gives a vector that is not finite.",
            "Look at the row, or give another model.",
            file=column.file,
            column=column.source,
            row=rows[int(np.argmax(wrong))].number,
        )
    return vectors


def _nobody(what: str, done: int, total: int) -> None:
    """Hears nothing."""
