"""The Tune scheduler of a run: early stopping for its search, and the end of idle trials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from search.execution.failures import FailureWatch
from search.execution.moasha import MultiObjectiveAsha


class StageScheduler(FailureWatch):
    """Hands a job's results to `early_stopping` while there is one, and stops an idle trial that is needed.

    A search comes and goes while the experiment lasts; Tune's scheduler is one.
    """

    _supports_buffered_results = False

    def __init__(self, may_idle: Callable[[str], bool]) -> None:
        """`may_idle`: whether the idle trial of that Tune id is to go on waiting."""
        super().__init__()
        self.early_stopping: MultiObjectiveAsha | None = None
        self._may_idle = may_idle

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its scheduler into a snapshot that is never read: nothing goes into it."""
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> StageScheduler:
        return self

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The first job or call that waits. Never an idle trial: it would take the process that a job is meant for."""
        waiting = (t for t in tune_controller.get_trials() if t.status == Trial.PENDING and not is_idle(t))
        return next(waiting, None)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """What becomes of a trial that goes on by itself."""
        if is_idle(trial):
            return str(TrialScheduler.CONTINUE if self._may_idle(trial.trial_id) else TrialScheduler.STOP)
        if _has_job(trial) and self.early_stopping is not None:
            return self.early_stopping.on_trial_result(tune_controller, trial, result)
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """A trial ended by itself."""
        if _has_job(trial) and self.early_stopping is not None:
            self.early_stopping.on_trial_complete(tune_controller, trial, result)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """A process died: Tune calls this before each retry as well."""
        super().on_trial_error(tune_controller, trial)
        if _has_job(trial) and self.early_stopping is not None:
            self.early_stopping.on_trial_error(tune_controller, trial)

    def why_stopped(self, trial_id: str) -> str:
        """Why a trial of the journal was stopped."""
        reason = self.early_stopping.reason(trial_id) if self.early_stopping is not None else ""
        return reason or "stopped early by the scheduler"


def is_idle(trial: Trial) -> bool:
    """A trial that has nothing to do but to keep its process."""
    return not _has_job(trial) and trial.config.get("remote_call") is None


def _has_job(trial: Trial) -> bool:
    return trial.config.get("job") is not None
