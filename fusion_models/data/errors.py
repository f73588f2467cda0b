"""The error of a dataset that breaks its contract."""

from __future__ import annotations


class DataError(ValueError):
    """What is wrong with a dataset, where (file, column, row counted from 0), and what to do about it.

    `problem` and `remedy` are sentences; the message puts the place in front of them.
    """

    def __init__(
        self,
        problem: str,
        remedy: str = "",
        *,
        file: str | None = None,
        column: str | None = None,
        row: int | None = None,
    ) -> None:
        self.file, self.column, self.row = file, column, row
        place = [file or ""]
        place += [f"column {column!r}"] if column is not None else []
        place += [f"row {row}"] if row is not None else []
        where = ", ".join(part for part in place if part)
        super().__init__(": ".join(part for part in (where, " ".join(s for s in (problem, remedy) if s)) if part))
