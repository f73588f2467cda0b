"""What a probe's trainings say of the suspect, as an arm; what they take."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fusion_models.data import open_dataset
from fusion_models.metrics.intervals.ensembles import arm_difference
from fusion_models.probes import no_power, power
from fusion_models.probes.scores import ProbeScores
from search.options import RunOptions
from search.pipeline.confirmation import deciding, probing
from search.pipeline.confirmation.deciding import _affordable
from search.pipeline.confirmation.probing import MEMBERS, PROBES, SEEDS, RunProbes, _arm
from spaces import PHASES


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
    assert (
        min(SEEDS.values()) >= MEMBERS + 3
    )  # with one spare training the limits are those of one or two degrees of freedom
    assert _arm(probe(0, min(SEEDS.values()))).k == MEMBERS
    assert half_width(min(SEEDS.values())) < 0.75 * half_width(MEMBERS + 1)


def test_a_probe_with_two_trainings_is_read_one_by_one():
    assert _arm(probe(0, 2)).k == 1


@pytest.fixture
def run():
    """Of 100 seconds that are left, in which trainings of 10 seconds run one at a time."""
    return SimpleNamespace(
        options=RunOptions(phase="phase3", max_concurrent=1),
        phase=PHASES["phase3"],
        data=open_dataset("planted?queries=60&candidates=6"),
        trainer=SimpleNamespace(keeps_processes=False, training_seconds=10.0),
        deadline=time.monotonic() + 100.0,
    )


def test_the_time_of_the_probes_is_kept_before_the_deadline(run, monkeypatch):
    asked = []
    for module in (probing, deciding):
        monkeypatch.setattr(module, "concurrency", lambda options: 1)
    monkeypatch.setattr(probing, "ticket_for", lambda data: None)
    monkeypatch.setattr(probing, "_power", lambda opened, name, *given: (asked.append(name) or no_power(name, ""), 5.0))
    probes = RunProbes(run, cold=False)
    assert probes.seconds() == 0.0  # no archive rule asks for them
    assert _affordable(run, 9, probes)
    probes.begin_power()
    probes.begin_power()
    assert probes.seconds() == pytest.approx(5.0 * sum(SEEDS.values()))  # 75 s, one at a time
    assert _affordable(run, 2, probes)
    assert not _affordable(run, 3, probes)
    assert asked == list(PROBES)  # each once


def test_a_probe_s_power_says_what_it_took(run, monkeypatch):
    monkeypatch.setattr(power, "LOOKS", (2,))

    def opened():
        time.sleep(0.2)
        raise ValueError("cannot be opened here")

    with pytest.raises(ValueError, match="cannot be opened here"):
        probing._power(opened, "LambdaMART", "visual", True)
    found, seconds = probing._power(lambda: run.data, "LambdaMART", "visual", True)
    assert found.probe == "LambdaMART"
    assert len(found.plants) == 2
    assert 0.0 < seconds < 30.0
