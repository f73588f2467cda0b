"""What may vary and what must hold, phase by phase: base recipe, ranges, objectives, gates, ablatable components.

`phase` says what a phase is, `phases` has the roadmap's as data, `naming` gives them to a dataset of other modalities,
`thresholds` has the numbers that no gate holds; `phase_file` reads a team's own (`file_space` what it says of the
space, `toml_values` single values), `own` puts somebody's own module into one, `plain` writes one down, `departures`
tells how it differs. May use `fusion_models`; knows nothing of a study.
"""

from spaces.departures import departures
from spaces.file_space import require_known_points
from spaces.naming import for_dataset
from spaces.own import from_weights, with_own_model
from spaces.phase import RESUME_GATES, Gate, Objective, Phase
from spaces.phase_file import PhaseFile, read_phase_file
from spaces.phases import PHASE4, PHASES, ROADMAP_STEPS
from spaces.plain import phase_from_plain, phase_to_plain
from spaces.ranges import Choice, Float, Range, Weight, applies, parameters, project, suggest
from spaces.thresholds import Thresholds

__all__ = [
    "PHASE4",
    "PHASES",
    "RESUME_GATES",
    "ROADMAP_STEPS",
    "Choice",
    "Float",
    "Gate",
    "Objective",
    "Phase",
    "PhaseFile",
    "Range",
    "Thresholds",
    "Weight",
    "applies",
    "departures",
    "for_dataset",
    "from_weights",
    "parameters",
    "phase_from_plain",
    "phase_to_plain",
    "project",
    "read_phase_file",
    "require_known_points",
    "suggest",
    "with_own_model",
]
