"""What a run's journal says of its trainings: Optuna's trials read as records of this project."""

from __future__ import annotations

import math
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from search.run_store.job import Job, Outcome, State, TrialRecord

_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
}


def journal_records(storage: BaseStorage) -> list[TrialRecord]:
    """Every trial that was handed out, of every stage in the journal, opened by this process or not."""
    names = optuna.get_all_study_names(storage)
    return [record for name in names for record in study_records(optuna.load_study(study_name=name, storage=storage))]


def study_records(study: optuna.Study) -> list[TrialRecord]:
    """Every trial of one stage that was handed out, by number; one that was handed out again as it is now."""
    trials = study.get_trials(deepcopy=False)
    last = {t.user_attrs["job"]["trial_id"]: t for t in trials if "job" in t.user_attrs}
    return [trial_record(study.study_name, trial) for trial in last.values()]


def trial_record(stage: str, trial: FrozenTrial) -> TrialRecord:
    """One trial of `stage` that was handed out; what has not ended yet has no numbers."""
    job = Job.from_plain(trial.user_attrs["job"])
    outcome = trial.user_attrs.get("outcome", {})
    return TrialRecord(
        trial_id=job.trial_id,
        stage=stage,
        name=job.name,
        state=_STATES[trial.state],
        state_reason=outcome.get("state_reason", ""),
        epochs=outcome.get("epochs", 0),
        seed=job.seed,
        recipe=job.recipe,
        numbers=outcome.get("numbers", {}),
        seconds=outcome.get("seconds", float("nan")),
        items=job.items,
        role=job.role,
        failure=outcome.get("failure"),
        taken_over=outcome.get("taken_over"),
    )


def plain_outcome(outcome: Outcome) -> dict[str, Any]:
    """An outcome as the journal keeps it, for `trial_record` to read: JSON knows no NaN."""
    return {
        "numbers": {k: v for k, v in outcome.numbers.items() if math.isfinite(v)},
        "state_reason": outcome.reason,
        "epochs": outcome.epochs,
        "seconds": outcome.seconds,
        "failure": outcome.failure,
        "taken_over": outcome.taken_over,
    }
