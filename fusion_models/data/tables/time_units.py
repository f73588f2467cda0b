"""Moments of time whose unit a file's layout decides: one unit for a table's parts, and INT96 without wrapping.

A moment is read as a number of units since its first day, so that two parts in two units would be two scales.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fusion_models.data.tables.columns import is_moment, is_number

INT96_UNIT: Any = "us"
"""Spark's, Hive's and Impala's older timestamps are 96 bits wide: as 64 bits of nanoseconds, years after 2262 wrap."""
_UNITS = ("s", "ms", "us", "ns")
_NANOS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_DAY = 86_400 * _NANOS["s"]
_FIRST = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

TIMES: dict[str, Any] = {
    str(kind): kind
    for kind in (
        pa.date32(),
        pa.date64(),
        *(pa.time32(unit) for unit in _UNITS[:2]),
        *(pa.time64(unit) for unit in _UNITS[2:]),
        *(make(unit) for make in (pa.timestamp, pa.duration) for unit in _UNITS),
    )
}
"""Types of moments and spans by their names, without zones: a zone changes no count."""

Ints = npt.NDArray[np.int64]


class MixedTimesError(ValueError):
    """Types of one column of which no type of time holds all."""


def joint_time(kinds: Sequence[Any]) -> Any | None:
    """The type of time that holds all moments of the plain types `kinds`; None where each is read by itself.

    Raises MixedTimesError where moments stand beside numbers, spans or moments of another kind.
    """
    found = list(dict.fromkeys(kind for kind in kinds if not pa.types.is_null(kind)))
    if len(found) < 2 or not any(map(is_moment, found)) or not all(is_moment(k) or is_number(k) for k in found):
        return None
    types = pa.types
    unit = max((getattr(kind, "unit", "s") for kind in found), key=_UNITS.index)
    if all(map(types.is_date, found)):
        return pa.date64()
    if all(map(types.is_duration, found)):
        return pa.duration(unit)
    if all(map(types.is_time, found)):
        return pa.time32(unit) if unit in _UNITS[:2] else pa.time64(unit)
    if all(types.is_date(kind) or types.is_timestamp(kind) for kind in found):
        zones = [kind.tz if types.is_timestamp(kind) else None for kind in found]
        if None not in zones or set(zones) == {None}:
            return pa.timestamp(unit, zones[0])
    raise MixedTimesError(", ".join(map(str, found)))


def named_time(kind: Any) -> str | None:
    """The name of a type of time, without its zone (`timestamp[us]`); None for other types."""
    return next((name for name, known in TIMES.items() if known == _zoneless(kind)), None)


def in_time(values: Any, name: str) -> Any:
    """Moments as the type of that name (see `named_time`); what is finer than its unit is cut off.

    Raises ArrowException where there is no such moment.
    """
    target, kind = TIMES[name], _zoneless(values.type)
    if values.type != kind:
        values = values.cast(pa.timestamp(kind.unit, "UTC")).cast(pa.int64()).cast(kind)
    return values.cast(target, safe=_UNITS.index(_unit(kind)) <= _UNITS.index(_unit(target)) and target != pa.date32())


def count_of(text: str, name: str) -> int:
    """The units of the type of that name from its first day to an ISO moment; what is finer than a unit is cut off.

    A zone is read, and UTC meant where there is none. Raises ValueError for other text, and for spans, which have no
    moments.
    """
    kind = TIMES[name]
    if pa.types.is_duration(kind):
        raise ValueError(f"{name} has no moments")
    if pa.types.is_time(kind):
        at = datetime.time.fromisoformat(text)
        moment = datetime.datetime.combine(_FIRST, at.replace(tzinfo=None), datetime.UTC)
    else:
        moment = datetime.datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=datetime.UTC) if moment.tzinfo is None else moment.astimezone(datetime.UTC)
    if pa.types.is_date(kind):
        moment = datetime.datetime.combine(moment.date(), datetime.time(), datetime.UTC)
    micros = (moment - _FIRST) // datetime.timedelta(microseconds=1)
    return micros * 1000 // (_DAY if pa.types.is_date32(kind) else _NANOS[_unit(kind)])


def _zoneless(kind: Any) -> Any:
    return pa.timestamp(kind.unit) if pa.types.is_timestamp(kind) else kind


def _unit(kind: Any) -> str:
    return getattr(kind, "unit", "ms" if pa.types.is_date64(kind) else "s")


def int96_columns(parquet: Any) -> set[str]:
    """Names of an open Parquet file's columns that are INT96."""
    columns = (parquet.schema.column(i) for i in range(len(parquet.schema.names)))
    return {column.path for column in columns if column.physical_type == "INT96"}


def first_finer(micros: Any, nanos: Any) -> int | None:
    """Row of the first INT96 moment that microseconds do not hold; None where they hold all.

    `micros`, `nanos`: the same rows in both units. Wrapped or not, the two differ by what was lost, modulo 2^64.
    """
    lost = _counts(nanos) - _counts(micros) * 1000  # int64 arrays wrap without a word
    return int(np.argmax(lost != 0)) if lost.any() else None


def _counts(column: Any) -> Ints:
    return np.asarray(pc.fill_null(column.cast(pa.int64()), 0).to_numpy(zero_copy_only=False), dtype=np.int64)
