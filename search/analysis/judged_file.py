"""judged.json: all that a decision read, so that it can be taken again from the run folder alone."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from math import inf, nan
from pathlib import Path
from typing import Any

from fusion_models.files import write_whole
from search.analysis.judged import Evidence

FILE = "judged.json"


def write_judged(evidence: Evidence, folder: Path) -> None:
    """Write the evidence; numbers that are not finite as text, which every reader of JSON takes."""
    write_whole(folder / FILE, json.dumps(_plain(evidence), indent=1, allow_nan=False) + "\n")


def read_judged(folder: Path) -> Evidence:
    """The evidence that `write_judged` kept. Raises ValueError where there is none."""
    path = folder / FILE
    if not path.exists():
        raise ValueError(f"{folder} has no {FILE}: run the phase again with --fresh")
    found: Evidence = _read(Evidence, json.loads(path.read_text()))
    return found


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (inf, -inf)):
        return str(value)
    return value


def _read(kind: Any, value: Any) -> Any:
    """`value` as `kind`, a dataclass, a mapping, a tuple, an optional or a plain type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _read(next(a for a in arguments if a is not type(None)), value)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _read(hints[name], item) for name, item in value.items()})  # type: ignore[operator]
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return {key: _read(arguments[1], item) for key, item in value.items()}
    if origin is tuple:
        kinds = arguments[:1] * len(value) if len(arguments) == 2 and arguments[1] is Ellipsis else arguments
        return tuple(_read(each, item) for each, item in zip(kinds, value, strict=True))
    if kind is float:
        return {"nan": nan, "inf": inf, "-inf": -inf}[value] if isinstance(value, str) else float(value)
    return value
