"""Why a run confirmed nothing, and what to give for it to confirm something: for the decision of such a run."""

from __future__ import annotations

import math
from collections.abc import Sequence

from search.options import RunOptions
from search.pipeline.baselines import reference_seeds
from search.run_store.job import TrialRecord
from spaces import Phase

SKIPPED = "nothing was confirmed: --confirm-seeds 0 skips it, so no gate has been measured"
SEARCH_SHARE = 2
"""Half of a time budget is the search's own (`search_step`)."""


def why_unconfirmed(
    options: RunOptions,
    searched: Sequence[TrialRecord],
    confirmed: Sequence[TrialRecord],
    *,
    needed_seconds: float,
) -> str:
    """One sentence for `Decision.reasons`.

    Args:
        searched: trials of the search.
        confirmed: trainings of the short list.
        needed_seconds: about how long what comes before the first finished trial takes (`seconds_to_search`).
    """
    if options.confirm_seeds == 0:
        return SKIPPED
    if not any(record.finished for record in searched):
        return _not_searched(options, searched, needed_seconds)
    reason = next((r.state_reason for r in confirmed if r.state_reason), "no training of it has ended")
    return f"nothing was confirmed: no recipe of the short list has two finished trainings ({reason})"


def _not_searched(options: RunOptions, searched: Sequence[TrialRecord], needed_seconds: float) -> str:
    failed = [record for record in searched if record.state == "failed"]
    if options.time_budget is not None and not failed:
        return (
            f"nothing was searched within --time-budget {options.time_budget}: no trial finished, so none was "
            f"confirmed and no gate has been measured; give at least {budget_for(needed_seconds)} (then --fresh), or "
            "leave it out"
        )
    reason = failed[0].state_reason if failed else "none was begun"
    return f"no trial of the search finished, so nothing was confirmed: {reason} (trials.csv has every reason)"


def budget_for(needed_seconds: float) -> str:
    """The least --time-budget, in whole minutes, whose own share for the search holds so many seconds."""
    return f"{max(1, math.ceil(SEARCH_SHARE * needed_seconds / 60.0))}m"


def seconds_to_search(phase: Phase, *, training_seconds: float, at_once: int) -> float:
    """Reference rankers and the recipes that are asked by name, `at_once` of them side by side."""
    references = reference_seeds(phase) * len(phase.base.model.modalities)
    return (references + len(phase.known_recipes())) * training_seconds / max(1, at_once)
