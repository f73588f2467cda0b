"""What the trainings that have ended say of those to come, and what hangs on it."""

import math
import time
from types import SimpleNamespace

import pytest

from search.options import RunOptions
from search.pipeline import search_step
from search.pipeline.confirmation import deciding
from search.pipeline.training_time import FEWEST_FOUND, LAST_FOUND, seconds_found
from search.run_store.job import TrialRecord

PLANNED = 100.0


def records(seconds, *, state="finished", taken_over=None):
    return [
        TrialRecord(
            stage="search",
            trial_id=f"t{place:04d}",
            name="sampled",
            recipe={},
            seed=0,
            state=state,
            state_reason="",
            failure=None,
            epochs=1,
            numbers={},
            seconds=value,
            taken_over=taken_over,
        )
        for place, value in enumerate(seconds)
    ]


@pytest.mark.parametrize(
    ("found", "seconds"),
    [
        (records([]), PLANNED),
        (records([5.0] * (FEWEST_FOUND - 1)), PLANNED),
        (records([4.0, 5.0, 90.0]), 5.0),
        (records([4.0, math.nan, 90.0]), PLANNED),
        (records([5.0] * 9, state="stopped"), PLANNED),
        (records([5.0] * 9, taken_over="phase1"), PLANNED),  # of another machine, perhaps
        (records([900.0] * 30 + [5.0] * LAST_FOUND), 5.0),
    ],
)
def test_a_few_finished_trainings_say_how_long_one_takes(found, seconds):
    assert seconds_found(found, PLANNED) == seconds


@pytest.fixture
def run(monkeypatch):
    """Of a budget of 1,000 seconds; trainings were planned with 100 s each, four at once."""
    monkeypatch.setattr(deciding, "concurrency", lambda options: 4)
    told = {}
    trainer = SimpleNamespace(training_seconds=PLANNED, seconds_found=lambda *stages: told.get(stages, PLANNED))
    began = time.monotonic()
    return SimpleNamespace(
        options=RunOptions(phase="phase3", time_budget="1000s"),
        trainer=trainer,
        began=began,
        deadline=began + 1_000.0,
        told=told,
    )


@pytest.mark.parametrize(("seconds", "after"), [(100.0, 700.0), (10.0, 970.0), (400.0, 500.0)])
def test_the_search_ends_where_what_follows_it_still_fits(run, monkeypatch, seconds, after):
    deadline = search_step._search_deadline(run, 300.0)
    assert deadline() == pytest.approx(run.began + 700.0)
    run.told["search",] = seconds
    monkeypatch.setattr(search_step, "LOOK_SECONDS", 0.0)
    assert deadline() == pytest.approx(run.began + after)


@pytest.mark.parametrize(("seconds", "fit"), [(100.0, 36), (10.0, 360), (400.0, 9)])
def test_further_trainings_fit_by_what_those_of_the_deciding_arms_took(run, seconds, fit):
    run.told["deciding",] = seconds
    probes = SimpleNamespace(seconds=lambda: 0.0)
    assert deciding._affordable(run, fit, probes)
    assert not deciding._affordable(run, fit * 5 // 4, probes)
