"""What a phase file says of the space: known points, ranges, and settings of somebody's own module.

Where a key or a value is not allowed, each raises ValueError: where it stands, what it was, and what is allowed there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from fusion_models.models.own import own_model
from spaces.phase import Phase
from spaces.plain import ABOVE_ZERO, KINDS, condition_from_plain
from spaces.ranges import Choice, Range, parameters
from spaces.toml_values import Table, number_at, recipe_keys, require_known_keys, table_at, unless_off

OWN = "own."
"""How a setting of a module of somebody's own begins as a key."""


def parted(found: Table, space: Collection[str] | None) -> tuple[Table, dict[str, dict[str, Any]]]:
    """The file without what it says of a module of somebody's own, and that: its settings and the keys of `space`.

    Raises ValueError where it says something, and there is no module (`space` is None).
    """

    def theirs(key: str, entry: Any = None) -> bool:
        when = entry.get("when") if isinstance(entry, dict) else None
        asked = recipe_keys("when", when) if isinstance(when, dict) else {}
        return any(k.startswith(OWN) for k in (key, *asked)) or key in (space or ())

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
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def known_points(phase: Phase, tables: Table) -> dict[str, dict[str, Any]]:
    """The phase's known points, changes to the base recipe by name, as the file's tables have them."""
    points = {name: dict(changes) for name, changes in phase.known.items()}
    for name, entry in tables.items():
        table = unless_off(f"known.{name}", recipe_keys(f"known.{name}", entry))
        if table is None:
            require_known_keys("known", {name: 0}, points)
            del points[name]
        else:
            require_settings(f"known.{name}", phase, table)
            points[name] = table
    return points


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
    return ranges


def _range(where: str, key: str, before: Range | None, table: Table, phase: Phase) -> Range:
    table = dict(table)
    kind = table.pop("kind", None)
    if kind is not None and kind not in KINDS:
        raise ValueError(f"{where}.kind = {kind!r}: it is one of {', '.join(KINDS)}")
    cls = KINDS[kind] if kind is not None else type(before) if before is not None else None
    if cls is None:
        raise ValueError(
            f"{where}.kind is missing, as {key} is not searched in {phase.name}: one of {', '.join(KINDS)}"
        )
    fields = [field.name for field in dataclasses.fields(cls)]
    require_known_keys(where, table, [*fields, "kind"])
    said = {name: getattr(before, name) for name in fields} if type(before) is cls else {}
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
        ends = list(said["values"])
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
        ends = [low, high]
    for value in ends:
        require_settings(where, phase, {key: value})
        read = phase.base.updated({key: value}).flat()[key]
        if read != value or isinstance(read, str) != isinstance(value, str):
            raise ValueError(f"{where}: {value!r} is no value of {key}, which would read it as {read!r}")
    return cls(**said)


def _when(where: str, table: Table, phase: Phase) -> dict[str, Any]:
    require_known_keys(f"{where}.when", table, list(phase.base.flat()))
    for key, allowed in table.items():
        if allowed != ABOVE_ZERO and not isinstance(allowed, list):
            raise ValueError(f"{where}.when.{key} = {allowed!r}: a list of values, or {ABOVE_ZERO!r}")
    return {key: condition_from_plain(allowed) for key, allowed in table.items()}


def require_known_points(phase: Phase) -> None:
    """What is asked first must lie in the space that is searched."""
    base = phase.base.flat()
    for name, recipe in phase.known_recipes().items():
        try:
            parameters(phase.ranges, recipe.flat(), base)
        except ValueError as error:
            advice = (
                "set it under [base] too" if name == "base" else f"set off = true under [known.{name}], or widen it"
            )
            raise ValueError(f"the known point {name!r} lies outside of the ranges ({error}): {advice}") from None
