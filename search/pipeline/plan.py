"""The plan of a run, said before its first training: how many trainings, and about how long."""

from __future__ import annotations

from collections.abc import Sequence

from search.monitoring.progress import clock
from search.pipeline.ablation import expected_trainings
from search.pipeline.confirmation.short_list import SHORT_LIST, proper_subsets
from search.pipeline.context import Run
from search.study.stages import Stage

STOPPED_EARLY = 0.45
"""Share of its epochs that a search with early stopping takes (see tests/search/study/test_rung_simulation.py)."""


def print_plan(run: Run, stages: Sequence[Stage], concurrent: int) -> float:
    """Say queries, trainings a stage, and the time they should take; returns the seconds of what follows `stages`."""
    data, phase = run.data, run.phase
    said = ", ".join(f"{len(data.rows(split)):,} {split}" for split in ("train", "validation"))
    run.console.print(
        f"{data.source}: queries {said}; the rest stays closed until a finalist is fixed", highlight=False
    )
    left = {stage.name: stage.left for stage in stages}
    seeds = run.options.seeds(phase)
    if seeds:
        left |= {"confirmation": SHORT_LIST * seeds, "refits": (len(proper_subsets()) + 2) * seeds}
        if run.options.ablation:
            left["ablation"] = expected_trainings(phase, seeds)
    trainings = float(sum(left.values()))
    if run.options.scheduler != "none":
        trainings -= (1.0 - STOPPED_EARLY) * left.get("search", 0)
    each = run.training_seconds / concurrent
    expected = each * trainings
    run.console.print(
        f"{sum(left.values())} trainings ({', '.join(f'{n} {name}' for name, n in left.items())}), "
        f"{concurrent} at once, of {phase.base.train.epochs} epochs at the most: about {clock(expected)}",
        highlight=False,
    )
    return each * sum(count for name, count in left.items() if name not in {stage.name for stage in stages})
