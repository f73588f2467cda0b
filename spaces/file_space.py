"""What a phase file says of the space: known points, ranges, and settings of somebody's own module.

Where a key or a value is not allowed, each raises ValueError: where it stands, what it was, and what is allowed there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Container, Mapping
from typing import Any

from fusion_models.config import Flat
from fusion_models.models.own import own_model
from fusion_models.models.variants import fusion_class
from spaces.phase import OWN_NAMES, Phase
from spaces.plain import ABOVE_ZERO, KINDS, condition_from_plain
from spaces.ranges import Choice, Positive, Range, Weight, parameters
from spaces.toml_values import (
    OFF,
    Table,
    name_at,
    number_at,
    one_of,
    recipe_keys,
    require_known_keys,
    table_at,
    unless_off,
)

OWN = "own."
"""How a setting of a module of somebody's own begins as a key."""


def parted(found: Table, space: Collection[str] | None) -> tuple[Table, dict[str, dict[str, Any]]]:
    """The file without what it says of a module of somebody's own, and that: its settings and the keys of `space`.

    Raises ValueError where it says something, and there is no module (`space` is None).
    """

    def theirs(key: str, entry: Any = None) -> bool:
        when = entry.get("when") if isinstance(entry, dict) else None
        asked = recipe_keys("when", when) if isinstance(when, dict) else {}
        return any(k.startswith(OWN) or k in (space or ()) for k in (key, *asked))

    out: dict[str, dict[str, Any]] = {"base": {}, "known": {}, "ranges": {}}
    ours = dict(found)
    for where in ("base", "ranges"):
        table = recipe_keys(where, found.get(where, {}))
        out[where] = {key: entry for key, entry in table.items() if theirs(key, entry)}
        if out[where]:
            ours[where] = {key: entry for key, entry in table.items() if key not in out[where]}
    for name, entry in table_at("known", found.get("known", {})).items():
        point = recipe_keys(f"known.{name}", entry)
        unless_off(f"known.{name}", point)
        own = {key: value for key, value in point.items() if theirs(key)}
        if own:
            out["known"][name] = own
            ours["known"] = {**ours["known"], name: {key: value for key, value in point.items() if key not in own}}
    said = [f"{where}.{key}" for where in ("base", "ranges") for key in out[where]]
    said += [f"known.{name}.{key}" for name, point in out["known"].items() for key in point]
    if said and space is None:
        raise ValueError(f"{said[0]} is a setting of a module of your own: name that by --model")
    return ours, out


def around_own(phase: Phase, theirs: Mapping[str, Mapping[str, Any]]) -> Phase:
    """The phase around a module of somebody's own, with what the file says of its settings and its `SPACE`."""
    require_settings("base", phase, theirs["base"])
    phase = phase.with_base(theirs["base"])
    known = {name: dict(point) for name, point in phase.known.items()}
    for name, point in theirs["known"].items():
        require_settings(f"known.{name}", phase, point)
        known[name] = known.get(name, {}) | dict(point)
    phase = dataclasses.replace(phase, known=known, ranges=ranges_of(phase, theirs["ranges"]))
    require_known_points(phase)
    return phase


def require_settings(where: str, phase: Phase, changes: Mapping[str, Any]) -> None:
    """Raise ValueError for a key that the recipe has not, and for a value that it or its own module refuses."""
    try:
        recipe = phase.base.updated(changes)
        if any(key.startswith(OWN) for key in changes):
            own_model(recipe.model.variant).settings_of(recipe)
        if "model.variant" in changes:
            fusion_class(recipe.model.variant)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def known_points(phase: Phase, tables: Table) -> dict[str, dict[str, Any]]:
    """The phase's known points, changes to the base recipe by name, as the file's tables have them."""
    points = {name: dict(changes) for name, changes in phase.known.items()}
    for name, entry in tables.items():
        where = f"known.{name_at('known', name)}"
        table = unless_off(where, recipe_keys(where, entry))
        if name in OWN_NAMES:
            remedy = "say under [base] what it starts from" if name == "base" else "give another name"
            raise ValueError(f"{where}: the search has a trial {name!r} of its own: {remedy}")
        if table is None:
            require_known_keys("known", {name: 0}, points)
            del points[name]
        else:
            require_settings(where, phase, table)
            points[name] = table
    return points


def left_out(tables: Table) -> list[str]:
    """The keys whose range is `off`."""
    return [key for key, entry in tables.items() if isinstance(entry, dict) and entry.get(OFF) is True]


def ranges_of(phase: Phase, tables: Table) -> dict[str, Range]:
    """The phase's ranges, by key, as the file's tables have them."""
    ranges, keys = dict(phase.ranges), list(phase.base.flat())
    for key, entry in tables.items():
        where = f"ranges.{key}"
        require_known_keys("ranges", {key: 0}, keys)
        table = unless_off(where, table_at(where, entry))
        if table is None:
            require_known_keys("ranges", {key: 0}, ranges)
            del ranges[key]
        else:
            ranges[key] = _range(where, key, ranges.get(key), table, phase)
    for key in tables:
        if key in ranges:
            _require_asked(f"ranges.{key}", phase, ranges, key)
    return ranges


def _require_asked(where: str, phase: Phase, ranges: Mapping[str, Range], key: str) -> None:
    """Raise ValueError for a range that is never asked, and for one that holds what the recipe refuses."""
    span, conditions = ranges[key], Flat()
    for asked, allowed in span.when.items():
        met = _met(phase.base.flat()[asked], ranges.get(asked), allowed)
        if not met:
            said = "is searched for others" if asked in ranges else f"stays {phase.base.flat()[asked]!r}, as it is not"
            said += "" if asked in ranges else " searched"
            raise ValueError(f"{where}.when.{asked} = {_plain(allowed)!r} never holds: {asked} {said}")
        conditions[asked] = met[0]
    for value in span.values if isinstance(span, Choice) else (span.low, span.high):  # type: ignore[attr-defined]
        _require_value(where, phase, key, value, conditions)


def _met(base: Any, span: Range | None, allowed: Container[Any]) -> list[Any]:
    """Values of a condition's key that it allows: the base recipe's where that may stand, and those of its range.

    A number of a continuous range is never just one that a list names.
    """
    found = [] if span is not None and not span.when else [base]
    if isinstance(span, Choice) or (span is not None and isinstance(allowed, Positive)):
        found += span.samples()
    elif isinstance(span, Weight):
        found.append(0.0)
    return [value for value in found if value in allowed]


def _require_value(where: str, phase: Phase, key: str, value: Any, conditions: Flat | None = None) -> None:
    """Raise ValueError for a value that the recipe refuses, or would read as another one."""
    changes = (conditions or {}) | {key: value}
    require_settings(where, phase, changes)
    read = phase.base.updated(changes).flat()[key]
    if read != value or isinstance(read, str) != isinstance(value, str):
        raise ValueError(f"{where}: {value!r} is no value of {key}, which would read it as {read!r}")


def _range(where: str, key: str, before: Range | None, table: Table, phase: Phase) -> Range:
    table = dict(table)
    kind = table.pop("kind", None)
    if kind is not None:
        one_of(f"{where}.kind", kind, KINDS)
    cls = KINDS[kind] if kind is not None else type(before) if before is not None else None
    if cls is None:
        raise ValueError(
            f"{where}.kind is missing, as {key} is not searched in {phase.name}: one of {', '.join(KINDS)}"
        )
    fields = [field.name for field in dataclasses.fields(cls)]
    require_known_keys(where, table, [*fields, "kind"])
    said = {name: getattr(before, name) for name in (fields if type(before) is cls else ["when"]) if before is not None}
    said |= {name: value for name, value in table.items() if name != "when"}
    if "when" in table:
        said["when"] = _when(where, table_at(f"{where}.when", table["when"]), phase)
    missing = [name for name in ("low", "high", "values") if name in fields and name not in said]
    if missing:
        raise ValueError(f"{where}.{missing[0]} is missing")
    if cls is Choice:
        if not isinstance(said["values"], list | tuple) or not said["values"]:
            raise ValueError(f"{where}.values = {said['values']!r}: a list of at least one value")
        said["values"] = tuple(said["values"])
    else:
        low, high = (number_at(f"{where}.{name}", said[name]) for name in ("low", "high"))
        said |= {"low": low, "high": high}
        if not isinstance(phase.base.flat()[key], float):
            raise ValueError(f'{where}: {key} takes no fractions: give kind = "choice" and values')
        if not isinstance(said.get("log", False), bool):
            raise ValueError(f"{where}.log = {said['log']!r}: true or false")
        if not low < high:
            raise ValueError(f"{where}.low = {low:g}: it must be below high = {high:g}")
        if low <= 0.0 and said.get("log", cls is KINDS["weight"]):
            raise ValueError(f"{where}.low = {low:g}: it must be above 0 on a log scale")
    return cls(**said)


def _when(where: str, table: Table, phase: Phase) -> dict[str, Any]:
    require_known_keys(f"{where}.when", table, list(phase.base.flat()))
    for key, allowed in table.items():
        place = f"{where}.when.{key}"
        if allowed != ABOVE_ZERO and not isinstance(allowed, list):
            raise ValueError(f"{place} = {allowed!r}: a list of values, or {ABOVE_ZERO!r}")
        for value in allowed if isinstance(allowed, list) else ():
            _require_value(place, phase, key, value)
    return {key: condition_from_plain(allowed) for key, allowed in table.items()}


def _plain(allowed: Any) -> Any:
    return ABOVE_ZERO if isinstance(allowed, Positive) else list(allowed)


def require_known_points(phase: Phase, *, of_file: bool = True) -> None:
    """What is asked first must lie in the space that is searched; `of_file`: say how a phase file mends it."""
    base = phase.base.flat()
    for name, recipe in phase.known_recipes().items():
        flat = recipe.flat()
        aside = [key for key in flat if key not in phase.ranges and flat[key] != base[key]]
        if aside:
            said = f"the known point {name!r} sets {aside[0]}, which {phase.name} does not search"
            advice = f'give it a range, [ranges."{aside[0]}"], or set it under [base]' if of_file else "give it a range"
            raise ValueError(f"{said}: {advice}")
        try:
            parameters(phase.ranges, flat, base)
        except ValueError as error:
            advice = (
                "set it under [base] too" if name == "base" else f"set off = true under [known.{name}], or widen it"
            )
            said = f"the known point {name!r} lies outside of the ranges ({error})"
            raise ValueError(f"{said}: {advice if of_file else 'widen them'}") from None
