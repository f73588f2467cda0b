"""A phase as plain values and back, so that a run carries what it was asked: JSON in, the very same phase out."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Mapping
from typing import Any

from fusion_models.config import Recipe
from fusion_models.metrics.ranking_metric import RankingMetric
from spaces.phase import Gate, Objective, Phase
from spaces.ranges import Choice, Float, Positive, Range, Weight
from spaces.thresholds import Thresholds

KINDS: dict[str, type[Range]] = {"float": Float, "choice": Choice, "weight": Weight}
"""What a range is called where it is written down."""
_NAMES = {cls: name for name, cls in KINDS.items()}
ABOVE_ZERO = "above 0"
"""How the condition `Positive` is written down."""


def phase_to_plain(phase: Phase) -> dict[str, Any]:
    """Everything that a phase says, in values that JSON knows; `phase_from_plain` gives the same phase again."""
    return {
        "name": phase.name,
        "title": phase.title,
        "base": phase.base.flat(),
        "reference": dict(phase.reference),
        "known": {name: dict(changes) for name, changes in phase.known.items()},
        "ranges": {key: range_to_plain(span) for key, span in phase.ranges.items()},
        "objectives": [dataclasses.asdict(objective) for objective in phase.objectives],
        "gates": [dataclasses.asdict(gate) for gate in phase.gates],
        "resume_gates": [dataclasses.asdict(gate) for gate in phase.resume_gates],
        "ablatable": {name: dict(changes) for name, changes in phase.ablatable.items()},
        "trials": phase.trials,
        "confirm_seeds": phase.confirm_seeds,
        "suspect": phase.suspect,
        "v1_reads": list(phase.v1_reads),
        "metric": dataclasses.asdict(phase.metric),
        "thresholds": dataclasses.asdict(phase.thresholds),
        "late": phase.late,
    }


def phase_from_plain(plain: Mapping[str, Any]) -> Phase:
    """The phase that `phase_to_plain` wrote down. Raises ValueError where something is missing, unknown or amiss."""
    expected = {field.name for field in dataclasses.fields(Phase)}
    if set(plain) != expected:
        odd = ", ".join(sorted(expected ^ set(plain)))
        raise ValueError(
            f"this is not a phase as this version of fusion-search writes it down: {odd} missing or unknown"
        )
    try:
        return Phase(
            name=plain["name"],
            title=plain["title"],
            base=Recipe.from_flat(plain["base"]),
            reference=dict(plain["reference"]),
            known={name: dict(changes) for name, changes in plain["known"].items()},
            ranges={key: range_from_plain(span) for key, span in plain["ranges"].items()},
            objectives=tuple(Objective(**objective) for objective in plain["objectives"]),
            gates=tuple(Gate(**gate) for gate in plain["gates"]),
            resume_gates=tuple(Gate(**gate) for gate in plain["resume_gates"]),
            ablatable={name: dict(changes) for name, changes in plain["ablatable"].items()},
            trials=plain["trials"],
            confirm_seeds=plain["confirm_seeds"],
            suspect=plain["suspect"],
            v1_reads=tuple(plain["v1_reads"]),
            metric=RankingMetric(**plain["metric"]),
            thresholds=Thresholds(**plain["thresholds"]),
            late=plain["late"],
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"this is not a phase as this version of fusion-search writes it down: {error}") from error


def range_to_plain(span: Range) -> dict[str, Any]:
    """`{"kind": "float", "low": 0.1, ...}`."""
    out: dict[str, Any] = {"kind": _NAMES[type(span)]}
    for field in dataclasses.fields(span):
        value = getattr(span, field.name)
        if field.name == "when":
            out["when"] = {key: _condition_to_plain(allowed) for key, allowed in value.items()}
        else:
            out[field.name] = list(value) if isinstance(value, tuple) else value
    return out


def range_from_plain(plain: Mapping[str, Any]) -> Range:
    """The range that `range_to_plain` wrote down."""
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in plain.items() if key != "kind"
    }
    fields["when"] = {key: condition_from_plain(allowed) for key, allowed in plain.get("when", {}).items()}
    return KINDS[plain["kind"]](**fields)


def condition_from_plain(allowed: Any) -> Container[Any]:
    """The values under which a range is asked: `above 0`, or a list of them."""
    return Positive() if allowed == ABOVE_ZERO else tuple(allowed)


def _condition_to_plain(allowed: Container[Any]) -> Any:
    if isinstance(allowed, Positive):
        return ABOVE_ZERO
    if not isinstance(allowed, tuple):
        raise TypeError(f"a condition is Positive() or a tuple of values, not {allowed!r}")
    return list(allowed)
