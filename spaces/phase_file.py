"""A phase from a TOML file that extends one of the roadmap's: a team's own thresholds, objectives, ranges and trials.

docs/phase-files.md describes the format, docs/phase.example.toml is one.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion_models.config import near
from fusion_models.metrics.ranking_metric import METRIC_NAMES, RankingMetric
from fusion_models.modalities import MODALITIES, SUSPECT
from fusion_models.quantities import objective_names, of_outputs, quantity
from spaces.naming import for_dataset
from spaces.phase import MOST_OBJECTIVES, Gate, Objective, Phase
from spaces.phases import ROADMAP_STEPS
from spaces.plain import ABOVE_ZERO, KINDS, condition_from_plain
from spaces.ranges import Choice, Range, parameters
from spaces.thresholds import Thresholds

TOP = (
    *("extends", "title", "trials", "confirm_seeds", "v1_reads", "base", "known", "ranges"),
    *("objectives", "gates", "resume_gates", "thresholds", "metric", "cutoff"),
)
FOR_VALIDATION = ("extends", "title", "gates", "resume_gates", "thresholds")
"""What a file may change of phase 4, which searches nothing and takes phase 3's space over."""
OFF = "off"
"""In a table of a gate, an objective, a range or a known point: leave it out."""

Table = Mapping[str, Any]


@dataclass(frozen=True)
class PhaseFile:
    """A file that has been read: which phase it extends, and the phase that comes of it."""

    path: str
    extends: str
    phase: Phase


def read_phase_file(path: str, modalities: tuple[str, ...] = MODALITIES, suspect: str = SUSPECT) -> PhaseFile:
    """The phase of a TOML file, for a dataset of these modalities with this suspect.

    Raises ValueError for a file that cannot be read, and for a key or value that is not allowed: it says where it
    stands, what it was, and what is allowed there.
    """
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"--phase-file {path} cannot be read: {error}") from error
    try:
        name = _extended(found)
        return PhaseFile(path, name, _extend(for_dataset(ROADMAP_STEPS[name], modalities, suspect), found))
    except ValueError as error:
        raise ValueError(f"--phase-file {path}: {error}") from None


def _extended(found: Table) -> str:
    _known_keys("", found, TOP)
    if "extends" not in found:
        raise ValueError(f"extends is missing: name the phase to start from ({', '.join(ROADMAP_STEPS)})")
    name = found["extends"]
    if name not in ROADMAP_STEPS:
        raise ValueError(f"extends = {name!r}: {near(str(name), list(ROADMAP_STEPS))}")
    return str(name)


def _extend(phase: Phase, found: Table) -> Phase:
    if not phase.trials:
        _known_keys("", found, FOR_VALIDATION)
    try:
        phase = phase.with_base(_keys("base", found.get("base", {})))
    except ValueError as error:
        raise ValueError(f"base: {error}") from None
    measured = gate_quantities(phase)
    quantities = [*measured, *(gate.quantity for gate in phase.gates if gate.quantity not in measured)]
    phase = dataclasses.replace(
        phase,
        title=_text("title", found.get("title", phase.title)),
        trials=_count("trials", found["trials"], 1) if "trials" in found else phase.trials,
        confirm_seeds=_count("confirm_seeds", found.get("confirm_seeds", phase.confirm_seeds), 2),
        v1_reads=_modalities("v1_reads", found.get("v1_reads", list(phase.v1_reads)), phase.base.model.of_dataset),
        metric=_metric(phase.metric, found),
        thresholds=_thresholds(phase.thresholds, _table("thresholds", found.get("thresholds", {}))),
        known=_known(phase, _table("known", found.get("known", {}))),
        ranges=_ranges(phase, _keys("ranges", found.get("ranges", {}))),
        objectives=_objectives(phase, _table("objectives", found.get("objectives", {}))),
        gates=_gates("gates", phase.gates, _table("gates", found.get("gates", {})), quantities),
        resume_gates=_resume_gates(phase, _table("resume_gates", found.get("resume_gates", {})), quantities),
    )
    _require_known_points(phase)
    return phase


def gate_quantities(phase: Phase) -> tuple[str, ...]:
    """What a gate may read: everything that confirmation measures with an interval."""
    return (*of_outputs(phase.base.model.of_dataset), "queries")


def _modalities(where: str, found: Any, known: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(found, list) or any(m not in known for m in found):
        raise ValueError(f"{where} = {found!r}: a list of {', '.join(known)}")
    return tuple(m for m in known if m in found)


def _metric(before: RankingMetric, found: Table) -> RankingMetric:
    kind = found.get("metric", before.kind)
    if kind not in METRIC_NAMES:
        raise ValueError(f"metric = {kind!r}: it is one of {', '.join(METRIC_NAMES)}")
    return RankingMetric(kind, _count("cutoff", found.get("cutoff", before.cutoff), 1))


def _thresholds(before: Thresholds, table: Table) -> Thresholds:
    _known_keys("thresholds", table, [field.name for field in dataclasses.fields(Thresholds)])
    return dataclasses.replace(before, **{key: _number(f"thresholds.{key}", value) for key, value in table.items()})


def _known(phase: Phase, tables: Table) -> dict[str, dict[str, Any]]:
    points = {name: dict(changes) for name, changes in phase.known.items()}
    for name, entry in tables.items():
        table = _unless_off(f"known.{name}", _keys(f"known.{name}", entry))
        if table is None:
            _known_keys("known", {name: 0}, points)
            del points[name]
        else:
            try:
                phase.base.updated(table)
            except ValueError as error:
                raise ValueError(f"known.{name}: {error}") from None
            points[name] = table
    return points


def _ranges(phase: Phase, tables: Table) -> dict[str, Range]:
    ranges, keys = dict(phase.ranges), list(phase.base.flat())
    for key, entry in tables.items():
        where = f"ranges.{key}"
        _known_keys("ranges", {key: 0}, keys)
        table = _unless_off(where, _table(where, entry))
        if table is None:
            _known_keys("ranges", {key: 0}, ranges)
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
    _known_keys(where, table, [*fields, "kind"])
    said = {name: getattr(before, name) for name in fields} if type(before) is cls else {}
    said |= {name: value for name, value in table.items() if name != "when"}
    if "when" in table:
        said["when"] = _when(where, _table(f"{where}.when", table["when"]), phase)
    missing = [name for name in ("low", "high", "values") if name in fields and name not in said]
    if missing:
        raise ValueError(f"{where}.{missing[0]} is missing")
    if cls is Choice:
        if not isinstance(said["values"], list | tuple) or not said["values"]:
            raise ValueError(f"{where}.values = {said['values']!r}: a list of at least one value")
        said["values"] = tuple(said["values"])
        ends = list(said["values"])
    else:
        low, high = (_number(f"{where}.{name}", said[name]) for name in ("low", "high"))
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
        try:
            read = phase.base.updated({key: value}).flat()[key]
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if read != value or isinstance(read, str) != isinstance(value, str):
            raise ValueError(f"{where}: {value!r} is no value of {key}, which would read it as {read!r}")
    return cls(**said)


def _when(where: str, table: Table, phase: Phase) -> dict[str, Any]:
    _known_keys(f"{where}.when", table, list(phase.base.flat()))
    for key, allowed in table.items():
        if allowed != ABOVE_ZERO and not isinstance(allowed, list):
            raise ValueError(f"{where}.when.{key} = {allowed!r}: a list of values, or {ABOVE_ZERO!r}")
    return {key: condition_from_plain(allowed) for key, allowed in table.items()}


def _objectives(phase: Phase, tables: Table) -> tuple[Objective, ...]:
    roadmap = for_dataset(ROADMAP_STEPS["phase1"], phase.base.model.of_dataset, phase.suspect)
    objectives = {objective.name: objective for objective in (*phase.objectives, *roadmap.objectives)}
    names = [objective.name for objective in phase.objectives]
    allowed = objective_names(phase.base.model.modalities)
    for name, entry in tables.items():
        where = f"objectives.{name}"
        _known_keys("objectives", {name: 0}, allowed)
        _known_keys(where, _table(where, entry), ("direction", "bound", "reference", OFF))
        table = _unless_off(where, entry)
        if table is None:
            names = [kept for kept in names if kept != name]
            continue
        if table.get("direction", "maximize") not in ("maximize", "minimize"):
            raise ValueError(f"{where}.direction = {table['direction']!r}: maximize or minimize")
        numbers: dict[str, Any] = {
            key: _number(f"{where}.{key}", table[key]) for key in ("bound", "reference") if key in table
        }
        if name not in objectives:
            objectives[name] = _new_objective(where, name, table | numbers, phase.base.model.modalities)
        else:
            objectives[name] = dataclasses.replace(objectives[name], **(table | numbers))
        _require_order(where, objectives[name])
        names += [] if name in names else [name]
    if not 1 <= len(names) <= MOST_OBJECTIVES:
        raise ValueError(f"objectives: a search has 1 to {MOST_OBJECTIVES}, got {len(names)}: {', '.join(names)}")
    return tuple(objectives[name] for name in names)


def _new_objective(where: str, name: str, table: Table, modalities: tuple[str, ...]) -> Objective:
    """One that no phase of the roadmap has: where it may start, and which way is better unless the quantity says so."""
    ways = {"higher": "maximize", "lower": "minimize"}
    told = dict(table)
    if "reference" not in told:
        raise ValueError(f"{where}.reference is missing: a value worse than any worth having")
    way = ways.get(quantity(name, modalities).direction)
    if "direction" not in told and way is None:
        raise ValueError(f"{where}.direction is missing: maximize or minimize")
    return Objective(name=name, **({"direction": way} | told))


def _require_order(where: str, objective: Objective) -> None:
    better = 1.0 if objective.direction == "maximize" else -1.0
    if objective.bound is not None and better * (objective.bound - objective.reference) <= 0.0:
        raise ValueError(
            f"{where}.bound = {objective.bound:g}: it must be better than reference = {objective.reference:g}, "
            f"where to {objective.direction} is better"
        )


def _gates(where: str, before: Collection[Gate], tables: Table, quantities: Collection[str]) -> tuple[Gate, ...]:
    gates = {gate.name: gate for gate in before}
    for name, entry in tables.items():
        place = f"{where}.{name}"
        _known_keys(place, _table(place, entry), ("at_least", "at_most", "quantity", "steers", "needs", OFF))
        table = _unless_off(place, entry)
        if table is None:
            _known_keys(where, {name: 0}, gates)
            del gates[name]
            continue
        known = gates.get(name)
        quantity = table.pop("quantity", known.quantity if known is not None else name)
        if quantity not in quantities:
            raise ValueError(
                f"{place} reads {quantity!r}, which is no quantity: {near(str(quantity), list(quantities))}"
            )
        sides = [side for side in ("at_least", "at_most") if side in table]
        if len(sides) > 1 or (known is None and not sides):
            raise ValueError(f"{place}: give one of at_least and at_most")
        fields: dict[str, Any] = dict.fromkeys(("at_least", "at_most")) if sides else {}
        fields |= {side: _number(f"{place}.{side}", table.pop(side)) for side in sides}
        fields["quantity"] = quantity
        if table.get("needs", "") not in ("", "attention", "images", "test split"):
            raise ValueError(f"{place}.needs = {table['needs']!r}: attention, images, test split or nothing")
        if not isinstance(table.get("steers", True), bool):
            raise ValueError(f"{place}.steers = {table['steers']!r}: true or false")
        if known is not None:
            gates[name] = dataclasses.replace(known, **(fields | table))
        else:
            gates[name] = Gate(name=name, **(fields | table))
    return tuple(gates.values())


def _resume_gates(phase: Phase, tables: Table, quantities: Collection[str]) -> tuple[Gate, ...]:
    """They are named by what they read: `[resume_gates.visual_masking_drop]`."""
    names = {gate.quantity: gate.name for gate in phase.resume_gates}
    _known_keys("resume_gates", tables, names)
    return _gates("resume_gates", phase.resume_gates, {names[key]: entry for key, entry in tables.items()}, quantities)


def _require_known_points(phase: Phase) -> None:
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


def _known_keys(where: str, table: Collection[str], allowed: Collection[str]) -> None:
    for key in table:
        if key not in allowed:
            place = f"{where}.{key}" if where else str(key)
            raise ValueError(f"{place} is unknown; {near(str(key), list(allowed))}")


def _unless_off(where: str, table: Table) -> dict[str, Any] | None:
    """What a table says, or None where it says `off = true` and so nothing else."""
    off = table.get(OFF, False)
    if not isinstance(off, bool):
        raise ValueError(f"{where}.off = {off!r}: true or false")
    if off and len(table) > 1:
        raise ValueError(f"{where}: what is off has no other key")
    return None if off else {key: value for key, value in table.items() if key != OFF}


def _table(where: str, found: Any) -> Table:
    if not isinstance(found, dict):
        raise ValueError(f"{where} = {found!r}: it must be a table, [{where}]")
    return found


def _keys(where: str, found: Any) -> dict[str, Any]:
    """A table by recipe keys, written `"model.width" = 64` or, since TOML reads a dot so, `model.width = 64`."""
    out: dict[str, Any] = {}
    for key, value in _table(where, found).items():
        nested = key in ("model", "loss", "train") and isinstance(value, dict)
        out |= {f"{key}.{name}": inner for name, inner in value.items()} if nested else {key: value}
    return out


def _text(where: str, found: Any) -> str:
    if not isinstance(found, str) or not found.strip():
        raise ValueError(f"{where} = {found!r}: it must be text")
    return found


def _count(where: str, found: Any, least: int) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or found < least:
        raise ValueError(f"{where} = {found!r}: it must be a whole number of at least {least}")
    return found


def _number(where: str, found: Any) -> float:
    if not isinstance(found, int | float) or isinstance(found, bool) or not math.isfinite(found):
        raise ValueError(f"{where} = {found!r}: it must be a number")
    return float(found)
