"""What may vary, phase by phase: base recipe, ranges, objectives, gates, ablatable components."""

from spaces.phase import Gate, Objective, Phase
from spaces.phases import PHASE4, PHASES, ROADMAP_STEPS
from spaces.ranges import Choice, Float, Int, Range, Weight, applies, parameters, project, suggest

__all__ = [
    "PHASE4",
    "PHASES",
    "ROADMAP_STEPS",
    "Choice",
    "Float",
    "Gate",
    "Int",
    "Objective",
    "Phase",
    "Range",
    "Weight",
    "applies",
    "parameters",
    "project",
    "suggest",
]
