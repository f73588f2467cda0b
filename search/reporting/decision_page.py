"""decision.md: the verdict, why, and every gate, for a ticket. One template for a phase, for phase 4, for a roadmap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2
import pandas as pd

from fusion_models.integrity import Check
from fusion_models.markdown import plain_text
from search.analysis.decision import Decision
from search.analysis.gates import GateResult
from search.analysis.roadmap_decision import RoadmapDecision, bound, side
from search.experiment.rollout import RolloutPlan
from search.reporting.words import bounds, interval, meaning, measured, metric_text, number, wanted
from search.run_store.looks import Look
from spaces import PHASE4, Phase, departures

GATE_WORDS = {"measured": measured, "bounds": bounds, "wanted": wanted}
"""What a row says of a gate, as the page does."""


def decision_text(
    phase: Phase,
    decision: Decision,
    decided_on: str,
    look: Look | None = None,
    *,
    weighted: bool = False,
    audited: bool = False,
) -> str:
    """decision.md of one phase, with its metric, whether queries are weighted, and thresholds not the roadmap's."""
    given: dict[str, Any] = {"measured_by": metric_text(phase, weighted=weighted)}
    given |= {"meaning": meaning(decision.verdict, phase.name, audited=audited)}
    given |= {"title": phase.title, "decision": decision, "decided_on": decided_on, "look": look}
    return _render("decision.md.j2", **given, departures=departures(phase))


def release_text(phase: Phase, checks: Sequence[Check], latency: pd.DataFrame | None, plan: RolloutPlan | None) -> str:
    """What decision.md of phase 4 has beside its gates: integrity, latency and the plan of a rollout."""
    return _render("release.md.j2", metric=phase.metric.name, checks=checks, latency=latency, plan=plan)


def roadmap_text(decision: RoadmapDecision) -> str:
    """decision.md of a roadmap: the verdict, the phases in a row, and why."""
    held = [rule for rule in decision.archive_rules if rule["holds"]]
    return _render("roadmap.md.j2", decision=decision, held=held, meaning=meaning(decision.verdict, PHASE4.name))


def _render(template: str, **values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("search.reporting"),
        autoescape=False,  # Markdown for a ticket, no HTML
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"bound": bound, "side": side, "cell": _cell, "text": plain_text}
    environment.filters |= {name: _of_gate(said) for name, said in GATE_WORDS.items()} | {"number": number}
    environment.globals["interval"] = interval
    return environment.get_template(template).render(**values)


def _of_gate(said: Callable[[Mapping[str, Any]], str]) -> Callable[[GateResult], str]:
    return lambda gate: said(vars(gate))


def _cell(value: object) -> str:
    return ("–" if value != value else f"{value:.4g}") if isinstance(value, float) else plain_text(value)
