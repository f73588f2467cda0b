"""A phase from a TOML file that extends one of the roadmap's: a team's own thresholds, objectives, ranges and trials.

docs/phase-files.md describes the format, docs/phase.example.toml is one.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from fusion_models.config import near
from fusion_models.metrics.ranking_metric import METRIC_NAMES, MetricKind, RankingMetric
from fusion_models.modalities import MODALITIES, SUSPECT
from fusion_models.models.own import OwnModelError, own_model
from fusion_models.quantities import objective_names, of_outputs, quantity
from spaces.file_space import (
    around_own,
    known_points,
    left_out,
    parted,
    ranges_of,
    require_known_points,
    require_settings,
)
from spaces.naming import for_dataset
from spaces.own import own_ranges, with_own_model
from spaces.phase import MOST_OBJECTIVES, Gate, Objective, Phase
from spaces.phases import ROADMAP_STEPS
from spaces.thresholds import Thresholds
from spaces.toml_values import (
    OFF,
    Table,
    count_at,
    name_at,
    number_at,
    one_of,
    recipe_keys,
    require_known_keys,
    table_at,
    text_at,
    unless_off,
)

TOP = (
    *("extends", "title", "trials", "confirm_seeds", "v1_reads", "base", "known", "ranges"),
    *("objectives", "gates", "resume_gates", "thresholds", "metric", "cutoff"),
)
FOR_VALIDATION = ("extends", "title", "gates", "resume_gates", "thresholds")
"""What a file may change of phase 4, which searches nothing and takes phase 3's space over."""


NEEDS = ("", "attention", "images", "test split")


@dataclass(frozen=True)
class Measured:
    """What gates may read, and what every training of a search measures."""

    quantities: list[str]
    searched: list[str]


@dataclass(frozen=True)
class PhaseFile:
    """A file that has been read: which phase it extends, and the phase that comes of it."""

    path: str
    extends: str
    phase: Phase


def read_phase_file(
    path: str,
    modalities: tuple[str, ...] = MODALITIES,
    suspect: str = SUSPECT,
    *,
    model: str | None = None,
    alone: bool = False,
) -> PhaseFile:
    """The phase of a TOML file, for a dataset of these modalities with this suspect.

    It stands around somebody's own module where `model` names one (`alone`: its `SPACE` alone is searched), and may
    then name that module's settings as `own.NAME`.

    Raises ValueError for a file that cannot be read, and for a key or value that is not allowed: it says where it
    stands, what it was, and what is allowed there.
    """
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # of TOML, of its encoding, of numbers too long
        raise ValueError(f"--phase-file {path} cannot be read: {error}") from error
    try:
        name = _extended(found)
        phase = for_dataset(ROADMAP_STEPS[name], modalities, suspect)
        ours, theirs = parted(found, own_ranges(own_model(model), phase) if model is not None else None)
        phase = _extend(phase, ours)
        if model is not None:
            phase = around_own(with_own_model(phase, model, alone=alone), theirs)
        return PhaseFile(path, name, phase)
    except OwnModelError:
        raise
    except ValueError as error:
        raise ValueError(f"--phase-file {path}: {error}") from None


def _extended(found: Table) -> str:
    require_known_keys("", found, TOP)
    if "extends" not in found:
        raise ValueError(f"extends is missing: name the phase to start from ({', '.join(ROADMAP_STEPS)})")
    name = found["extends"]
    return one_of("extends", name, ROADMAP_STEPS, near(str(name), list(ROADMAP_STEPS)))


def _extend(phase: Phase, found: Table) -> Phase:
    if not phase.trials:
        require_known_keys("", found, FOR_VALIDATION)
    base = recipe_keys("base", found.get("base", {}))
    require_settings("base", phase, base)
    phase = phase.with_base(base)
    ranges = recipe_keys("ranges", found.get("ranges", {}))
    found_ranges = ranges_of(phase, ranges)
    phase = dataclasses.replace(phase.fixing(left_out(ranges), phase.base), reference=phase.reference)
    measured = _measured(phase)
    phase = dataclasses.replace(
        phase,
        title=text_at("title", found.get("title", phase.title)),
        trials=count_at("trials", found["trials"], 1) if "trials" in found else phase.trials,
        confirm_seeds=count_at("confirm_seeds", found.get("confirm_seeds", phase.confirm_seeds), 2),
        v1_reads=_modalities("v1_reads", found.get("v1_reads", list(phase.v1_reads)), phase.base.model.of_dataset),
        metric=_metric(phase.metric, found),
        thresholds=_thresholds(phase.thresholds, table_at("thresholds", found.get("thresholds", {}))),
        known=known_points(phase, table_at("known", found.get("known", {}))),
        ranges=found_ranges,
        objectives=_objectives(phase, table_at("objectives", found.get("objectives", {}))),
        gates=_gates("gates", phase.gates, table_at("gates", found.get("gates", {})), measured),
        resume_gates=_resume_gates(phase, table_at("resume_gates", found.get("resume_gates", {})), measured),
    )
    require_known_points(phase)
    return phase


def gate_quantities(phase: Phase) -> tuple[str, ...]:
    """What a gate may read: everything that confirmation measures with an interval."""
    return (*of_outputs(phase.base.model.of_dataset), "queries")


def _measured(phase: Phase) -> Measured:
    known = gate_quantities(phase)
    further = [gate.quantity for gate in phase.gates if gate.quantity not in known]
    return Measured([*known, *further], objective_names(phase.base.model.modalities))


def _modalities(where: str, found: Any, known: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(found, list) or any(m not in known for m in found):
        raise ValueError(f"{where} = {found!r}: a list of {', '.join(known)}")
    return tuple(m for m in known if m in found)


def _metric(before: RankingMetric, found: Table) -> RankingMetric:
    kind = one_of("metric", found.get("metric", before.kind), METRIC_NAMES)
    return RankingMetric(cast(MetricKind, kind), count_at("cutoff", found.get("cutoff", before.cutoff), 1))


def _thresholds(before: Thresholds, table: Table) -> Thresholds:
    require_known_keys("thresholds", table, [field.name for field in dataclasses.fields(Thresholds)])
    return dataclasses.replace(before, **{key: number_at(f"thresholds.{key}", value) for key, value in table.items()})


def _objectives(phase: Phase, tables: Table) -> tuple[Objective, ...]:
    roadmap = for_dataset(ROADMAP_STEPS["phase1"], phase.base.model.of_dataset, phase.suspect)
    objectives = {objective.name: objective for objective in (*phase.objectives, *roadmap.objectives)}
    names = [objective.name for objective in phase.objectives]
    allowed = objective_names(phase.base.model.modalities)
    for name, entry in tables.items():
        where = f"objectives.{name}"
        require_known_keys("objectives", {name: 0}, allowed)
        require_known_keys(where, table_at(where, entry), ("direction", "bound", "reference", OFF))
        table = unless_off(where, entry)
        if table is None:
            names = [kept for kept in names if kept != name]
            continue
        one_of(
            f"{where}.direction", table.get("direction", "maximize"), ("maximize", "minimize"), "maximize or minimize"
        )
        numbers: dict[str, Any] = {
            key: number_at(f"{where}.{key}", table[key]) for key in ("bound", "reference") if key in table
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


def _gates(where: str, before: Collection[Gate], tables: Table, measured: Measured) -> tuple[Gate, ...]:
    gates = {gate.name: gate for gate in before}
    for name, entry in tables.items():
        place = f"{where}.{name_at(where, name)}"
        require_known_keys(place, table_at(place, entry), ("at_least", "at_most", "quantity", "steers", "needs", OFF))
        table = unless_off(place, entry)
        if table is None:
            require_known_keys(where, {name: 0}, gates)
            del gates[name]
        else:
            gates[name] = _gate(place, name, gates.get(name), table, measured)
    return tuple(gates.values())


def _gate(place: str, name: str, known: Gate | None, table: dict[str, Any], measured: Measured) -> Gate:
    quantity = table.pop("quantity", known.quantity if known is not None else name)
    quantities = measured.quantities
    if quantity not in quantities:
        raise ValueError(f"{place} reads {quantity!r}, which is no quantity: {near(str(quantity), list(quantities))}")
    sides = [side for side in ("at_least", "at_most") if side in table]
    if len(sides) > 1 or (known is None and not sides):
        raise ValueError(f"{place}: give one of at_least and at_most")
    fields: dict[str, Any] = dict.fromkeys(("at_least", "at_most")) if sides else {}
    fields |= {side: number_at(f"{place}.{side}", table.pop(side)) for side in sides}
    fields["quantity"] = quantity
    one_of(f"{place}.needs", table.get("needs", ""), NEEDS, "attention, images, test split or nothing")
    if known is None or known.quantity != quantity:
        fields["steers"] = quantity in measured.searched
    if not isinstance(table.get("steers", True), bool):
        raise ValueError(f"{place}.steers = {table['steers']!r}: true or false")
    if table.get("steers") and quantity not in measured.searched:
        raise ValueError(f"{place}.steers = true: no training of a search measures {quantity}, so leave steers out")
    fields |= table
    return dataclasses.replace(known, **fields) if known is not None else Gate(name=name, **fields)


def _resume_gates(phase: Phase, tables: Table, measured: Measured) -> tuple[Gate, ...]:
    """They are named by what they read: `[resume_gates.visual_masking_drop]`."""
    names = {gate.quantity: gate.name for gate in phase.resume_gates}
    require_known_keys("resume_gates", tables, names)
    return _gates("resume_gates", phase.resume_gates, {names[key]: entry for key, entry in tables.items()}, measured)
