"""Guardrails: what must not get worse while an experiment runs, how it is read, and how many units that takes.

`reading` declares and reads them, `bounded` has exact limits for units in a known range, `watch` sizes them. May use
the modules beside this package that know no guardrail: `estimate`, `sequential`, `strata`, `sizes`, `sample_ratio`.
"""

from search.experiment.guardrails.reading import (
    GO_ON,
    GUARDRAILS,
    LEAST_EVENTS,
    STOP,
    Arm,
    Guardrail,
    GuardrailReading,
    Status,
    events,
    events_a_unit,
    family_level,
    interval_level,
    limits,
    may_ramp,
    read_guardrails,
    should_stop,
)

__all__ = [
    "GO_ON",
    "GUARDRAILS",
    "LEAST_EVENTS",
    "STOP",
    "Arm",
    "Guardrail",
    "GuardrailReading",
    "Status",
    "events",
    "events_a_unit",
    "family_level",
    "interval_level",
    "limits",
    "may_ramp",
    "read_guardrails",
    "should_stop",
]
