"""The pseudo-runs of `benchmarks/level_and_power.py`: drawn from scores whose truth is known, without a training."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from level_and_power import summary, table
from pseudo_runs import BEFORE, Design, draw, intervals, phase3_gates
from recorded_trainings import BLIND, WORLDS, Recorded, Size, read, record

ARMS = ("finalist", "without visual", "without text", "without metadata", "base", "base without visual")


def recorded(trainings: int = 12, queries: int = 250, length: int = 6) -> Recorded:
    """Rankers that see the label with noise: the same for all trainings of an arm, and each one's own."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, (queries, length)).astype(np.float64)
    labels[:, 0] = 2.0
    scores = {}
    for place, name in enumerate((*ARMS, f"finalist{BLIND}")):
        of_recipe = generator.normal(size=(queries, length)) * (1 + 0.2 * place)
        own = generator.normal(size=(trainings, queries, length)) * generator.uniform(0.6, 1.4, (trainings, 1, 1))
        scores[name] = (labels + of_recipe + own).astype(np.float32)
    v1 = labels + 2 * generator.normal(size=labels.shape)
    return Recorded(WORLDS[0], scores, labels, v1, np.ones(labels.shape, dtype=bool))


@pytest.fixture(autouse=True)
def _few_subsets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pseudo_runs.ALL_SUBSETS", 60)
    monkeypatch.setattr("pseudo_runs.MOST_SUBSETS", 10)


def test_a_run_holds_what_a_verdict_reads_and_the_same_draws_give_the_same_runs() -> None:
    world, design = recorded(), Design(5, 80, members=4)
    runs, again = (list(draw(world, design, 11, np.random.default_rng(3))) for _ in range(2))
    assert len(runs) == 11
    for run, other in zip(runs, again, strict=True):
        assert set(run.arms) == set(ARMS)
        assert all((one.n, one.k, len(one.mean)) == (5, 4, 80) for one in run.arms.values())
        np.testing.assert_array_equal(run.arms["base"].mean, other.arms["base"].mean)
        assert set(intervals(run)) == set(run.truth)
    # Two samples of queries to one choice of trainings.
    assert runs[0].truth == runs[1].truth != runs[2].truth
    assert runs[0].truth["image refit gain"] > 0


def test_intervals_cover_the_truth_that_a_run_is_held_against() -> None:
    covered: dict[str, list[bool]] = {}
    for run in draw(recorded(), Design(5, 100, members=2), 120, np.random.default_rng(4)):
        for name, interval in intervals(run).items():
            covered.setdefault(name, []).append(interval.low <= run.truth[name] <= interval.high)
    rates = {name: float(np.mean(hits)) for name, hits in covered.items() if name != BEFORE}
    assert all(0.86 <= rate <= 1.0 for rate in rates.values()), rates
    assert 0.92 <= np.mean(list(rates.values())) <= 0.99


def test_a_table_counts_verdicts_and_its_summary_reads_every_quantity() -> None:
    rows = table(recorded(), Design(5, 60), 20, 0, lambda run: "GO" if run.arms["base"].mean.mean() > 0 else "PAUSE")
    assert "GO 100.0 %" in rows[-1]
    assert len({row.count("|") for row in rows}) == 1
    said = summary(rows)
    assert len(said) == len(rows) - 1
    assert all("coverage" in line for line in said)


def test_a_design_needs_more_trainings_recorded_than_it_takes() -> None:
    with pytest.raises(ValueError, match="more than the 5 that are recorded"):
        next(draw(recorded(5), Design(5, 60), 1, np.random.default_rng(0)))


def test_recording_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, size = WORLDS[0], Size(trainings=1, train_queries=32, held_out=30)
    monkeypatch.setattr("recorded_trainings.VALIDATION", 20)
    monkeypatch.setattr("recorded_trainings.QUICK", {"model.layers": 1, "train.epochs": 1})
    steps = record(world, size, tmp_path)
    first = [next(steps) for _ in range(2)]
    steps.close()
    rest = list(record(world, size, tmp_path))
    assert (len(first), len(rest)) == (2, 4)
    assert list(record(world, size, tmp_path)) == []
    found = read(world, size, tmp_path)
    assert {name: scores.shape for name, scores in found.scores.items()} == dict.fromkeys(
        (*ARMS, f"finalist{BLIND}"), (1, 30, 12)
    )
    assert found.valid.all()
    with pytest.raises(FileNotFoundError, match="no training is recorded"):
        read(WORLDS[1], size, tmp_path)


def test_phase3s_gates_are_met_by_a_v2_that_needs_every_modality_and_by_no_other() -> None:
    world, generator = recorded(queries=400), np.random.default_rng(1)
    deviations = dict.fromkeys(ARMS, 0.8) | {"without metadata": 1.6, "without text": 1.6, "without visual": 1.6}
    scores = {
        name: (world.labels + deviation * generator.normal(size=(12, *world.labels.shape))).astype(np.float32)
        for name, deviation in (deviations | {f"finalist{BLIND}": 2.5}).items()
    }
    healthy = dataclasses.replace(world, scores=scores)

    def verdicts(of: Recorded) -> set[str]:
        return {phase3_gates(run) for run in draw(of, Design(5, 400, members=2), 4, np.random.default_rng(5))}

    assert verdicts(healthy) == {"every gate drawn"}
    better = (world.labels + 0.5 * generator.normal(size=(12, *world.labels.shape))).astype(np.float32)
    for arm in (f"finalist{BLIND}", "without visual", "without text", "base"):
        assert verdicts(dataclasses.replace(healthy, scores=scores | {arm: better})) == {"not every gate"}, arm
    assert verdicts(dataclasses.replace(healthy, v1=world.labels)) == {"not every gate"}
