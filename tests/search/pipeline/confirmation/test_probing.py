"""What a probe's trainings say of the suspect, as an arm; what they take."""

import dataclasses
import io
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console

from fusion_models.data import open_dataset
from fusion_models.metrics.intervals.ensembles import arm_difference
from fusion_models.probes import no_power, power
from fusion_models.probes.scores import ProbeScores
from search.options import RunOptions
from search.pipeline.confirmation import deciding, probing
from search.pipeline.confirmation.deciding import _affordable
from search.pipeline.confirmation.probing import (
    MEMBERS,
    PROBES,
    SEEDS,
    Probes,
    RunProbes,
    _arm,
    looks,
    most_trainings,
    seeds,
)
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
    assert SEEDS >= MEMBERS + 3  # with one spare training the limits are those of one or two degrees of freedom
    assert _arm(probe(0, SEEDS)).k == MEMBERS
    assert half_width(SEEDS) < 0.75 * half_width(MEMBERS + 1)


def test_a_probe_with_two_trainings_is_read_one_by_one():
    assert _arm(probe(0, 2)).k == 1


@pytest.fixture
def run(monkeypatch):
    """Of 1,000 seconds that are left, in which trainings of 100 seconds run one at a time."""
    for module in (probing, deciding):
        monkeypatch.setattr(module, "concurrency", lambda options: 1)
    monkeypatch.setattr(probing, "ticket_for", lambda data: None)
    return SimpleNamespace(
        options=RunOptions(phase="phase3", max_concurrent=1),
        phase=PHASES["phase3"],
        data=open_dataset("planted?queries=60&candidates=6"),
        trainer=SimpleNamespace(keeps_processes=False, training_seconds=100.0, seconds_found=lambda *stages: 100.0),
        deadline=time.monotonic() + 1_000.0,
    )


def test_the_time_of_the_probes_is_kept_before_the_deadline(run, monkeypatch):
    asked = []

    def power_of(opened, name, *given):
        asked.append(name)
        return dataclasses.replace(no_power(name, ""), seconds=40.0)

    monkeypatch.setattr(probing, "_power", power_of)
    probes = RunProbes(run, cold=False)
    assert probes.seconds() == 0.0  # no archive rule asks for them
    assert _affordable(run, 9, probes)
    probes.begin_power()
    probes.begin_power()
    assert probes.seconds() == pytest.approx(40.0 * 3 * SEEDS)  # 600 s, one at a time
    assert _affordable(run, 3, probes)
    assert not _affordable(run, 5, probes)
    assert asked == list(PROBES)  # each once


def test_a_probe_whose_process_dies_costs_itself_and_time_is_kept_for_it(run, monkeypatch):
    def dies(opened, name, *given):
        raise RuntimeError("its process ended three times")

    monkeypatch.setattr(probing, "_power", dies)
    probes = RunProbes(run, cold=False)
    probes.begin_power()
    assert probes.seconds() == pytest.approx(100.0 * 3 * SEEDS)  # as long as the base recipe trains
    assert probes.left_out() == []
    console = Console(file=io.StringIO(), width=200)
    monkeypatch.setattr(probing, "_pair", dies)
    assert Probes(lambda: run.data, run.phase).begin("validation", console)() == []
    assert console.file.getvalue().count("failed and is not counted: its process ended three times") == len(PROBES)


def test_a_probe_s_power_says_what_a_training_takes(run, monkeypatch):
    monkeypatch.setattr(probing, "looks", lambda data: (3,))
    clock = iter(range(100))
    monkeypatch.setattr(power.time, "monotonic", lambda: float(next(clock)))
    found = probing._power(lambda: run.data, "LambdaMART", "visual", True)
    assert found.probe == "LambdaMART"
    assert len(found.plants) == 3
    assert found.seconds == 1.0  # the clock goes on by one at each look: planting is not counted


def test_small_data_have_more_trainings_of_the_trees_and_more_plants(run, monkeypatch):
    assert (seeds("LambdaMART", run.data), seeds("network on products", run.data)) == (2 * SEEDS, SEEDS)
    assert most_trainings(run.data) == 2 * (3 * SEEDS + 2 * 8)
    monkeypatch.setattr(probing, "SMALL", 100)
    assert (seeds("LambdaMART", run.data), looks(run.data)) == (SEEDS, (3,))
    assert most_trainings(run.data) == 2 * (2 * SEEDS + 2 * 3)
