"""The error of a dataset that breaks its contract."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class DataError(ValueError):
    """What is wrong with a dataset, where (file, column, row counted from 0), and what to do about it.

    `problem` and `remedy` are sentences; the message puts the place in front of them, in one line.
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
        self.problem, self.remedy = problem, remedy
        self.file, self.column, self.row = file, column, row
        place = [file or ""]
        place += [f"column {column!r}"] if column is not None else []
        place += [f"row {row}"] if row is not None else []
        where = ", ".join(part for part in place if part)
        said = ": ".join(part for part in (where, " ".join(s for s in (problem, remedy) if s)) if part)
        super().__init__(" ".join(said.split()))

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (self.problem, self.remedy, self.file, self.column, self.row)


def _rebuilt(problem: str, remedy: str, file: str | None, column: str | None, row: int | None) -> DataError:
    return DataError(problem, remedy, file=file, column=column, row=row)


@contextmanager
def foreign_errors(
    what: str, remedy: str, *, file: str | None = None, only: type[Exception] = Exception
) -> Iterator[None]:
    """What another library raises in here, in one line: `what` cannot be done, its own first line, and the remedy.

    DataError passes through. Every library that opens files has exceptions of its own (Arrow, fsspec, botocore), which
    share no base but Exception; `only`: the base of those that are meant.
    """
    try:
        yield
    except DataError:
        raise
    except only as error:
        said = (str(error).strip().splitlines() or [""])[0].rstrip(".")
        reason = f"{type(error).__name__}: {said}" if said else type(error).__name__
        raise DataError(f"{what} ({reason}).", remedy, file=file) from error
