"""Values of a phase file: each is what it must be, or a ValueError that says where it stands and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from fusion_models.config import near

OFF = "off"
"""In a table of a gate, an objective, a range or a known point: leave it out."""

MOST = 10**9
"""Of anything that is counted."""
MOST_NUMBER = 10**18
"""Of whole numbers that stand for any number."""

Table = Mapping[str, Any]


def require_known_keys(where: str, table: Collection[str], allowed: Collection[str]) -> None:
    """Raise ValueError for a key that is not allowed, naming near ones."""
    for key in table:
        if key not in allowed:
            place = f"{where}.{key}" if where else str(key)
            raise ValueError(f"{place} is unknown; {near(str(key), list(allowed))}")


def unless_off(where: str, table: Table) -> dict[str, Any] | None:
    """What a table says, or None where it says `off = true` and so nothing else."""
    off = table.get(OFF, False)
    if not isinstance(off, bool):
        raise ValueError(f"{where}.off = {off!r}: true or false")
    if off and len(table) > 1:
        raise ValueError(f"{where}: what is off has no other key")
    return None if off else {key: value for key, value in table.items() if key != OFF}


def table_at(where: str, found: Any) -> Table:
    """A table, `[where]`."""
    if not isinstance(found, dict):
        raise ValueError(f"{where} = {found!r}: it must be a table, [{where}]")
    return found


def recipe_keys(where: str, found: Any) -> dict[str, Any]:
    """A table by recipe keys, written `"model.width" = 64` or, since TOML reads a dot so, `model.width = 64`."""
    out: dict[str, Any] = {}
    for key, value in table_at(where, found).items():
        nested = key in ("model", "loss", "train", "own") and isinstance(value, dict)
        out |= {f"{key}.{name}": inner for name, inner in value.items()} if nested else {key: value}
    return out


def text_at(where: str, found: Any) -> str:
    """A text that says something."""
    if not isinstance(found, str) or not found.strip():
        raise ValueError(f"{where} = {found!r}: it must be text")
    return found


def count_at(where: str, found: Any, least: int) -> int:
    """A whole number of at least `least`."""
    if not isinstance(found, int) or isinstance(found, bool) or found < least:
        raise ValueError(f"{where} = {found!r}: it must be a whole number of at least {least}")
    if found > MOST:
        raise ValueError(f"{where} is too large: it must be a whole number of at most {MOST}")
    return found


def number_at(where: str, found: Any) -> float:
    """A finite number."""
    if isinstance(found, int) and not isinstance(found, bool) and abs(found) > MOST_NUMBER:
        raise ValueError(f"{where} is too large: it must be a number of at most {MOST_NUMBER:.0e}")
    if not isinstance(found, int | float) or isinstance(found, bool) or not math.isfinite(found):
        raise ValueError(f"{where} = {found!r}: it must be a number")
    return float(found)


def one_of(where: str, found: Any, allowed: Collection[str], said: str = "it is one of {}") -> str:
    """A text among those allowed; `said`: how they are told."""
    if not isinstance(found, str) or found not in allowed:
        raise ValueError(f"{where} = {found!r}: {said.format(', '.join(allowed))}")
    return found


def name_at(where: str, found: str) -> str:
    """The name of a table, which says something."""
    if not found.strip():
        raise ValueError(f"{where}: {found!r} is no name")
    return found
