"""How long a training takes here, from a few of its steps or from those that have ended, and how long an epoch may."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable

import torch

from fusion_models.data import RankingDataset
from fusion_models.training import start, train_step
from search.options import RunOptions
from search.run_store.job import TrialRecord
from spaces import Phase

SHORTEST_LIMIT = 600.0
TIMES_EXPECTED = 50.0
"""A searched recipe may cost ten times the base one, on a machine that others load, and the last epoch measures too."""
PROBE_STEPS = 4
FEWEST_FOUND, LAST_FOUND = 3, 20
"""How many finished trainings say how long one takes."""
EPOCH_FACTOR = 1.6
"""An epoch's evaluation on top of its steps, as a factor of the steps' time."""


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
            train_step(state, batch, progress=0.5)
            times.append(time.perf_counter() - began)
            if len(times) == PROBE_STEPS:
                break
    finally:
        torch.set_num_threads(threads)
    steps = len(data.rows("train")) / config.batch_queries
    return min(times) * steps * EPOCH_FACTOR * config.epochs


def seconds_found(records: Iterable[TrialRecord], planned: float) -> float:
    """Time of one training, beside as many as train at once here: the median of the last that finished.

    `planned`, which is one processor's alone, until a few have: a GPU, workers or neighbours make it another.
    """
    own = [r.seconds for r in records if r.finished and r.taken_over is None and math.isfinite(r.seconds)]
    return planned if len(own) < FEWEST_FOUND else statistics.median(own[-LAST_FOUND:])


def epoch_limit(options: RunOptions, phase: Phase, training_seconds: float) -> float:
    """Seconds: the option, or fifty times what an epoch of the base recipe should take, ten minutes at the least."""
    if options.epoch_limit_seconds is not None:
        return options.epoch_limit_seconds
    return max(SHORTEST_LIMIT, TIMES_EXPECTED * training_seconds / phase.base.train.epochs)
