"""The log: a journal line before each answer leaves, whole Parquet files later.

A replica appends to its journal with one `write` a line, so a kill of the process loses nothing that was written: the
kernel has it. (A kill of the machine loses what the kernel had not put on disk, about 30 seconds.) A journal holds two
lines a decision: `answer` before V1's answer leaves, `shadow` when V2's outcome is known. It is locked while its
replica lives; whoever gets the lock (the archive, a reader after a crash) turns it into one Parquet file under its
name, written beside and renamed. A decision whose `shadow` line is missing says `lost`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fusion_models.files import whole
from fusion_models.work.foreign import first_line

SCHEMA = pa.schema(
    [
        ("at", pa.timestamp("us", tz="UTC")),
        ("request_id", pa.string()),
        ("unit", pa.string()),
        ("query_id", pa.string()),
        ("items", pa.list_(pa.string())),
        ("v1_scores", pa.list_(pa.float64())),
        ("v1_order", pa.list_(pa.int32())),
        ("answer_ms", pa.float64()),
        ("v2_status", pa.string()),
        ("v2_scores", pa.list_(pa.float64())),
        ("v2_ms", pa.float64()),
        ("request", pa.string()),
    ]
)


@dataclass
class _Volume:
    path: Path
    handle: int
    opened: float
    rows: int = 0
    pending: int = 0
    retired: bool = False


@dataclass(frozen=True)
class Ticket:
    """Where a decision's second line belongs."""

    volume: _Volume
    number: int


@dataclass
class Journal:
    """One replica's journal. A failing disk never fails an answer: it is counted in `errors`."""

    folder: Path
    rows: int = 10_000
    """Decisions after which a new volume is begun."""
    seconds: float = 60.0
    """Age at which a new volume is begun."""
    errors: int = 0
    _volume: _Volume | None = field(default=None, repr=False)

    def answer(self, at: float, request_id: str, order: list[int], answer_ms: float, request: str) -> Ticket | None:
        """Write the first line of a decision; None where it could not be written. `request`: one line of JSON."""
        try:
            volume = self._current()
            number = volume.rows
            head = json.dumps({"n": number, "at": at, "id": request_id, "order": order, "ms": answer_ms})
            _append(volume.handle, f'{head[:-1]}, "request": {request}}}\n')
        except OSError:
            self.errors += 1
            return None
        volume.rows += 1
        volume.pending += 1
        return Ticket(volume, number)

    def shadow(self, ticket: Ticket | None, status: str, scores: list[float] | None = None, ms: float = 0.0) -> None:
        """Write the second line."""
        if ticket is None:
            return
        volume = ticket.volume
        try:
            _append(
                volume.handle, json.dumps({"v2": ticket.number, "status": status, "scores": scores, "ms": ms}) + "\n"
            )
        except OSError:
            self.errors += 1
        volume.pending -= 1
        self._close_if_done(volume)

    def retire_old(self) -> None:
        """Begin a new volume where the current one is old enough; to be called now and then, for quiet hours."""
        volume = self._volume
        if volume is not None and (volume.rows >= self.rows or time.monotonic() - volume.opened >= self.seconds):
            volume.retired, self._volume = True, None
            self._close_if_done(volume)

    def close(self) -> None:
        """Let go of the current volume; decisions under way then say `lost`."""
        if self._volume is not None:
            os.close(self._volume.handle)
            self._volume = None

    def _current(self) -> _Volume:
        self.retire_old()
        if self._volume is None:
            self._volume = self._open()
        return self._volume

    def _open(self) -> _Volume:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:8]}.jsonl"
        draft = self.folder / f".{name}"
        handle = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o640)
        fcntl.flock(handle, fcntl.LOCK_EX)  # before it has its name: nobody takes it for a dead replica's
        draft.rename(self.folder / name)
        return _Volume(self.folder / name, handle, time.monotonic())

    def _close_if_done(self, volume: _Volume) -> None:
        if volume.retired and volume.pending == 0:
            os.close(volume.handle)


def archive(folder: Path) -> int:
    """Turn every journal whose replica has let go of it into a Parquet file; returns how many."""
    return sum(_archive(path) for path in sorted(folder.glob("[0-9]*.jsonl")))


def holds_decisions(folder: Path) -> bool:
    """Whether a log has begun there."""
    return any(folder.glob("[0-9]*.parquet")) or any(folder.glob("[0-9]*.jsonl"))


def read_decisions(folder: Path) -> pa.Table:
    """Every decision of a log, journals not yet archived included, in the order of `at`.

    Raises ValueError where the folder holds no log, or a file of it cannot be read.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; a log is what `python -m search.shadow serve` writes")
    parts = {path.stem: _read_journal(path) for path in sorted(folder.glob("[0-9]*.jsonl"))}
    for path in sorted(folder.glob("[0-9]*.parquet")):
        try:
            parts[path.stem] = pq.read_table(path, schema=SCHEMA)  # a journal archived meanwhile counts once
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"{path} cannot be read ({first_line(error)}): take it out of the log") from error
    if not parts:
        raise ValueError(f"{folder} holds no decision yet (no .parquet and no .jsonl file)")
    return pa.concat_tables(parts.values()).sort_by("at")


def write_decisions(table: pa.Table, path: Path) -> None:
    """Write a Parquet file whole: beside, to the disk, then renamed."""
    with whole(path) as draft, draft.open("wb") as sink:
        pq.write_table(table, sink, compression="zstd")
        sink.flush()
        os.fsync(sink.fileno())


def _archive(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            table = _read_journal(path)
            if len(table):
                write_decisions(table, path.with_suffix(".parquet"))
            path.unlink(missing_ok=True)
            return bool(len(table))
        return False
    finally:
        os.close(handle)


def _append(handle: int, line: str) -> None:
    data = line.encode()
    written = os.write(handle, data)
    if written != len(data):
        os.write(handle, b"\n")  # a full disk cut it: end the torn line, so that the next one stands alone
        raise OSError("the journal's disk is full")


def _read_journal(path: Path) -> pa.Table:
    answers: dict[int, dict[str, Any]] = {}
    outcomes: dict[int, dict[str, Any]] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in _lines(path):
            if "v2" in line:
                outcomes[line["v2"]] = line
            else:
                answers[line["n"]] = line
    lost = {"status": "lost", "scores": None, "ms": None}
    return pa.Table.from_pylist([_row(a, outcomes.get(n, lost)) for n, a in answers.items()], schema=SCHEMA)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as lines:
        for line in lines:
            with contextlib.suppress(ValueError):  # the last line of a replica that died in its write
                yield json.loads(line)


def _row(answer: dict[str, Any], outcome: dict[str, Any]) -> dict[str, Any]:
    request = answer["request"]
    return {
        "at": int(answer["at"] * 1e6),
        "request_id": answer["id"],
        "unit": request.get("unit"),
        "query_id": (request.get("query") or {}).get("id"),
        "items": [c["item"] for c in request["candidates"]],
        "v1_scores": [c["v1_score"] for c in request["candidates"]],
        "v1_order": answer["order"],
        "answer_ms": answer["ms"],
        "v2_status": outcome["status"],
        "v2_scores": outcome["scores"],
        "v2_ms": outcome["ms"],
        "request": json.dumps(request),
    }
