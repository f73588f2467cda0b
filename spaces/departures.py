"""Which thresholds of a phase are not the roadmap's: they are one team's numbers, and a reader must see them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from fusion_models.metrics.ranking_metric import NDCG_10
from spaces.naming import for_dataset
from spaces.phase import Gate, Phase
from spaces.phases import ROADMAP_STEPS
from spaces.thresholds import Thresholds


def departures(phase: Phase) -> list[str]:
    """`ndcg_gain: at least 0.01 (the roadmap: at least 0.02)`: every gate, threshold and metric not the roadmap's.

    Empty for a phase whose gates are the roadmap's; a phase of another name is compared with nothing, so all its gates
    are told.
    """
    named = ROADMAP_STEPS.get(phase.name)
    if named is not None:
        named = for_dataset(named, phase.base.model.of_dataset, phase.suspect)
        named = named.with_shares_of(phase.base.model.modalities)
    pairs = ((phase.gates, named.gates if named else ()), (phase.resume_gates, named.resume_gates if named else ()))
    roadmaps = named.metric if named else NDCG_10
    changed = phase.metric != roadmaps
    lines = [f"measured by {phase.metric.name} (the roadmap: {roadmaps.name})"] if changed else []
    lines += [line for here, there in pairs for line in _changed(here, there)]
    mine, roadmap = dataclasses.asdict(phase.thresholds), dataclasses.asdict(Thresholds())
    return lines + [
        f"{name.replace('_', ' ')}: {value:g} (the roadmap: {roadmap[name]:g})"
        for name, value in mine.items()
        if value != roadmap[name]
    ]


def _changed(here: Sequence[Gate], there: Sequence[Gate]) -> list[str]:
    before, now = {gate.name: gate for gate in there}, {gate.name: gate for gate in here}
    out = []
    for name, gate in now.items():
        if name not in before:
            out.append(f"{name}: {_said(gate)} (the roadmap has no such gate)")
        elif before[name] != gate:
            out.append(f"{name}: {_said(gate)} (the roadmap: {_said(before[name])})")
    return [*out, *(f"{name}: left out (the roadmap: {_said(before[name])})" for name in before if name not in now)]


def _said(gate: Gate) -> str:
    side = "at least" if gate.at_least is not None else "at most"
    measured = f"{gate.quantity} " if gate.quantity not in gate.name.lower().replace(" ", "_") else ""
    return f"{measured}{side} {gate.threshold:g}"
