"""The plan of a run, said before its first training: how many trainings, and about how long."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from fusion_models.data import RankingDataset
from fusion_models.training import start, train_step
from search.ablation import expected_trainings
from search.confirmation import SHORT_LIST, proper_subsets
from search.context import Run
from search.progress import clock
from search.stages import Stage
from spaces import Phase

PROBE_STEPS = 4
EPOCH_FACTOR = 1.6
"""An epoch's evaluation on top of its steps, as a factor of the steps' time."""
STOPPED_EARLY = 0.45
"""Share of its epochs that a search with early stopping takes (see tests/search/test_rung_simulation.py)."""


def seconds_a_training(data: RankingDataset, phase: Phase) -> float:
    """Time of one training of the base recipe at its full length, from a few steps taken now on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        state = start(phase.base, data, seed=0)
        times = []
        config = phase.base.train
        for batch in data.batches("train", config.batch_queries, generator=state.generator):
            began = time.perf_counter()
            train_step(state.model, state.optimiser, batch, phase.base, progress=0.5, generator=state.generator)
            times.append(time.perf_counter() - began)
            if len(times) == PROBE_STEPS:
                break
    finally:
        torch.set_num_threads(threads)
    steps = len(data.rows("train")) / config.batch_queries
    return min(times) * steps * EPOCH_FACTOR * config.epochs


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
