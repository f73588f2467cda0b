"""Finished vectors on disk, some hundred rows a file: each is written whole, and never made twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fusion_models.data.errors import DataError
from fusion_models.files import whole

PART_ROWS = 512
"""Rows a file: what a crash costs at the most."""

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


class Parts:
    """The parts of one column, in a folder of its own that a resumed command finds again."""

    def __init__(self, folder: Path, rows: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.rows = rows
        """Of the whole column."""

    def __len__(self) -> int:
        return -(-self.rows // PART_ROWS)

    def has(self, part: int) -> bool:
        """Whether it is finished."""
        return self._path(part).exists()

    def write(self, part: int, vectors: Floats, missing: Bools) -> None:
        """`vectors` `[n - missing, D]` of the rows that have one, `missing` `[n]` which have none."""
        with whole(self._path(part)) as staging, staging.open("wb") as file:
            np.savez(file, vectors=vectors, missing=missing)

    def read(self, part: int) -> tuple[Floats, Bools]:
        """What was written."""
        with np.load(self._path(part), allow_pickle=False) as found:
            return found["vectors"], found["missing"]

    def joined(self, weight: npt.NDArray[np.int64], column: str, file: str) -> tuple[Any, Bools]:
        """`[rows, D]` float32, mapped, and `[rows]` which are stand-ins: the mean over rows, counted `weight` times.

        Raises DataError where no row has a vector, or rows are missing and none that counts has one.
        """
        missing = np.concatenate([self.read(part)[1] for part in range(len(self))])
        if missing.all():
            raise DataError("no row has anything to embed.", "Fill the column.", file=file, column=column)
        width = next(v.shape[1] for part in range(len(self)) if len(v := self.read(part)[0]))
        target = np.lib.format.open_memmap(self._folder / "joined.npy", "w+", np.float32, (self.rows, width))
        total, counted = np.zeros(width, dtype=np.float64), 0
        for part in range(len(self)):
            vectors, absent = self.read(part)
            first = part * PART_ROWS
            rows = first + np.flatnonzero(~absent)
            if not len(rows):
                continue
            target[rows] = vectors
            total += weight[rows] @ vectors.astype(np.float64)
            counted += int(weight[rows].sum())
        if missing.any():
            if not counted:
                raise DataError(
                    f"row {int(np.argmax(missing))} has nothing to embed, and no row of the training split has: there "
                    "is no mean to stand in for it.",
                    "Fill the column.",
                    file=file,
                    column=column,
                )
            target[np.flatnonzero(missing)] = (total / counted).astype(np.float32)
        target.flush()
        return target, missing

    def _path(self, part: int) -> Path:
        return self._folder / f"{part:06d}.npz"
