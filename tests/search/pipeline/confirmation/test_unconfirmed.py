"""A run that confirmed nothing says why, and what to give."""

import pytest

from search.options import RunOptions
from search.pipeline.confirmation.unconfirmed import seconds_to_search, why_unconfirmed
from search.run_store.job import TrialRecord
from spaces import PHASES


def record(state: str, reason: str = "") -> TrialRecord:
    return TrialRecord(
        trial_id="t0", stage="search", name="base", state=state, state_reason=reason, epochs=0, seed=0, recipe={}
    )


def why(searched=(), confirmed=(), seconds=100.0, **options):
    return why_unconfirmed(RunOptions(phase="phase3", **options), searched, confirmed, needed_seconds=seconds)


def test_a_budget_too_small_is_named_with_what_would_do() -> None:
    said = why(time_budget="5s")
    assert said.startswith("nothing was searched within --time-budget 5s: no trial finished")
    assert "give at least 4m (then --fresh), or leave it out" in said  # half of it is the search's
    assert why([record("running"), record("stopped")], time_budget="5s") == said
    assert "give at least 1m" in why(time_budget="5s", seconds=3.0)


@pytest.mark.parametrize("budget", [None, "5s"])
def test_trials_that_failed_are_the_reason(budget: str | None) -> None:
    said = why([record("failed", "out of memory: 3 GiB")], time_budget=budget)
    assert said == (
        "no trial of the search finished, so nothing was confirmed: out of memory: 3 GiB (trials.csv has every reason)"
    )


def test_skipped_confirmation_and_a_short_list_that_failed_are_told_apart() -> None:
    assert why([record("finished")], confirm_seeds=0).startswith("nothing was confirmed: --confirm-seeds 0 skips it")
    said = why([record("finished")], [record("failed", "disk full")])
    assert said.endswith("no recipe of the short list has two finished trainings (disk full)")


def test_the_time_counts_references_and_named_recipes_side_by_side() -> None:
    phase = PHASES["phase3"]
    alone = seconds_to_search(phase, training_seconds=2.0, at_once=1)
    assert alone == 2.0 * (15 + len(phase.known_recipes()))
    assert seconds_to_search(phase, training_seconds=2.0, at_once=2) == alone / 2
