"""Multi-objective asynchronous successive halving as a Tune scheduler (the order and the rule are in `rungs`)."""

from __future__ import annotations

import math
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from search.run_store.job import Job, below
from search.study.rungs import Rungs
from search.study.search_stage import SearchStage, trial_number

REDUCTION_FACTOR = 3
SAMPLED = "sampled"
"""Name of a job that the sampler proposed: no other is ever stopped."""


def grace_period(max_t: int) -> int:
    """Epochs that every trial gets: a sixth of a full training, rounded up: 10 and 12 epochs have rungs at 2 and 6."""
    return max(1, -(-max_t // (2 * REDUCTION_FACTOR)))


class MultiObjectiveAsha(FIFOScheduler):  # type: ignore[misc]
    """Stops sampled trials of one search that are not among the best third at a rung.

    The phase's known recipes stand at the rungs as well, since a sampled trial must be worth more than they are, but
    run to their end; jobs of other stages pass unseen. Objectives that epochs do not measure decide nothing here. Every
    judgement goes into the journal before it is acted on, so that an interrupted run goes on with the same rungs.
    """

    _supports_buffered_results = False

    def __init__(self, stage: SearchStage, *, brackets: int = 1) -> None:
        super().__init__()
        max_t = stage.phase.base.train.epochs
        self._stage = stage
        self._objectives = stage.phase.epoch_objectives
        self._compared = {SAMPLED, *stage.phase.known_recipes()}
        self._rungs = Rungs(
            max_t,
            grace_period=grace_period(max_t),
            reduction_factor=REDUCTION_FACTOR,
            brackets=brackets,
            seed=stage.seed,
        )
        self._rungs.restore(stage.rung_entries())

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its scheduler into a snapshot that is never read: nothing goes into it."""
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> MultiObjectiveAsha:
        return self

    @property
    def levels(self) -> tuple[int, ...]:
        """Epochs at which trials are compared, over all brackets."""
        return self._rungs.levels

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Judge a trial at the rung it has reached; Tune hands results over flattened (`numbers/ndcg_gain`)."""
        job = Job.from_plain(trial.config["job"])
        if job.name not in self._compared:
            return str(TrialScheduler.CONTINUE)
        self._report(job, int(result["epochs"]), below(result, "numbers"))
        last = self._rungs.last(job.trial_id)
        stopped = last is not None and not last.kept and job.name == SAMPLED
        return str(TrialScheduler.STOP if stopped else TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """A trial that ended by itself takes its final numbers to the rungs above; one that failed has none."""
        job = Job.from_plain(trial.config["job"])
        outcome = result.get("outcome")
        if job.name in self._compared and outcome is not None:
            self._report(job, self._rungs.max_t, below(result, "numbers") if outcome == "finished" else {})

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """A process died: Tune calls this before each retry as well, and only the last death is a failure."""
        job = Job.from_plain(trial.config["job"])
        if job.name in self._compared and not trial.should_recover():
            self._report(job, self._rungs.max_t, {})

    def _report(self, job: Job, epochs: int, numbers: dict[str, float]) -> None:
        phase = self._stage.phase
        costs = [
            (-1.0 if o.direction == "maximize" else 1.0) * o.bounded(numbers.get(o.name, math.nan))
            for o in self._objectives
        ]
        number, violations = trial_number(job.trial_id), list(phase.constraints(numbers).values())
        seen = self._stage.seen_by(number)
        entries = self._rungs.report(job.trial_id, epochs, costs, violations, number=number, seen=seen)
        if entries:
            self._stage.note_rungs(job, entries)

    def reason(self, trial_id: str) -> str:
        """Why a trial of the journal was stopped; empty before its first rung."""
        last = self._rungs.last(trial_id)
        if last is None:
            return ""
        return (
            f"stopped early at the rung of {last.level} epochs: not among the best 1 in {REDUCTION_FACTOR} "
            f"of the {last.among} trials it was compared with there"
        )

    def debug_string(self) -> str:
        """One line for Tune's status."""
        return "multi-objective asynchronous successive halving"
