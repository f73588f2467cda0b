"""What a probe's trainings say of the suspect, as an arm."""

import numpy as np
import torch

from fusion_models.metrics.intervals.ensembles import arm_difference
from fusion_models.probes.scores import ProbeScores
from search.pipeline.confirmation.probing import MEMBERS, SEEDS, _arm


def probe(seed, trainings, queries=400, documents=8):
    """Trainings that know the labels alike well and err each in its own way."""
    random = np.random.default_rng(seed)
    labels = np.random.default_rng(0).integers(0, 3, (queries, documents)).astype(float)
    scores = labels + random.normal(scale=2.0, size=(trainings, queries, documents))
    return ProbeScores(
        scores=torch.tensor(scores),
        labels=torch.tensor(labels),
        v1=torch.zeros(queries, documents),
        valid=torch.ones(queries, documents, dtype=torch.bool),
        rows=np.arange(queries),
    )


def half_width(trainings):
    """Mean over draws of a difference that is 0 in truth."""
    widths = []
    for draw in range(12):
        one, other = (_arm(probe(2 * draw + side, trainings)) for side in (1, 2))
        interval = arm_difference(one, other, None, 0.975)
        widths.append((interval.high - interval.low) / 2)
    return float(np.mean(widths))


def test_more_trainings_than_members_tell_the_spread_of_a_probe():
    assert len(SEEDS) >= MEMBERS + 3  # with one spare training the limits are those of one or two degrees of freedom
    assert _arm(probe(0, len(SEEDS))).k == MEMBERS
    assert half_width(len(SEEDS)) < 0.75 * half_width(MEMBERS + 1)


def test_a_probe_with_two_trainings_is_read_one_by_one():
    assert _arm(probe(0, 2)).k == 1
