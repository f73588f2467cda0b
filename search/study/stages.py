"""Stages of a run as Optuna studies in one journal. Here: what all have in common, and a fixed list of trainings.

A stage hands out jobs and takes outcomes; it knows nothing of Ray. A trial that ran when the driver died keeps its
number and its parameters: opening the stage again hands it out first, to go on from its checkpoint.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from search.run_store.job import Job, Outcome, TrialRecord
from search.run_store.journal import together
from search.run_store.records import plain_outcome, study_records, trial_record

SEARCH = "search"
"""The name of the search's study in a run's journal."""
TAKEN_OVER = "taken over"
"""Attribute of a search trial that an earlier run trained."""
REPEATS = "repeats"
"""Attribute of a trial that was not run: the trial of the same configuration that had failed before."""


class Earlier(Protocol):
    """What earlier runs on the same data have already trained (see `search/study/taken_over.py`)."""

    def searched(self) -> Sequence[Job]:
        """Search trials that finished, as jobs of this run."""

    def outcome(self, job: Job) -> Outcome | None:
        """How the very same training ended, its files now lying under `job.trial_id`; None where there was none."""


class Stage:
    """A study whose trials are trainings. Subclasses say how a fresh trial gets its job."""

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        *,
        directions: Sequence[Literal["minimize", "maximize"]],
        sampler: Any = None,
    ) -> None:
        self.name = name
        self.needed: tuple[str, ...] = ("ndcg",)
        self.total = 0
        self._storage = storage
        self.study = optuna.create_study(
            storage=storage, study_name=name, directions=directions, sampler=sampler, load_if_exists=True
        )
        self._interrupted = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        trials = self.study.get_trials(deepcopy=False)
        self._asked = sum("job" in t.user_attrs and not refused(t) for t in trials)
        self._trials: dict[str, optuna.Trial] = {}

    def ready(self) -> bool:
        """Whether `ask` may be called now; not where the next training hangs on one that has not ended yet."""
        return True

    def ask(self) -> Job | None:
        """The next training, interrupted ones first; None where all `total` have been handed out."""
        with together(self._storage):
            return self._next()

    def _next(self) -> Job | None:
        if self._interrupted:
            frozen = self._interrupted.pop(0)
            trial = optuna.Trial(self.study, frozen._trial_id)
            if "job" in frozen.user_attrs:
                job = Job.from_plain(frozen.user_attrs["job"])
                self._trials[job.trial_id] = trial
                return job
            return self._hand_out(trial)  # killed while it was being asked: what it already had stands
        if self._asked >= self.total:
            return None
        return self._hand_out(self.study.ask())

    @property
    def left(self) -> int:
        """Trainings that have not ended yet, begun or not."""
        trials = self.study.get_trials(deepcopy=False)
        return self.total - sum("job" in t.user_attrs and t.state.is_finished() and not refused(t) for t in trials)

    def _hand_out(self, trial: optuna.Trial) -> Job:
        self._asked += 1
        job = self._job(trial)
        trial.set_user_attr("job", job.plain())
        self._trials[job.trial_id] = trial
        return job

    def _job(self, trial: optuna.Trial) -> Job:
        raise NotImplementedError

    def tell(self, job: Job, outcome: Outcome) -> TrialRecord:
        """Record how `job` ended; on return it is on disk."""
        missing = [name for name in self.needed if not math.isfinite(outcome.numbers.get(name, math.nan))]
        if outcome.state == "finished" and missing:  # such as the correlation of constant scores
            reason = f"finished without a number for {', '.join(missing)}"
            outcome = dataclasses.replace(outcome, state="failed", reason=reason)
        trial = self._trials.pop(job.trial_id)
        with together(self._storage):
            trial.set_user_attr("outcome", plain_outcome(outcome))
            self._conclude(trial, outcome)
        return trial_record(self.name, self._storage.get_trial(trial._trial_id))

    def _conclude(self, trial: optuna.Trial, outcome: Outcome) -> None:
        if outcome.state == "finished":
            self.study.tell(trial, values=[outcome.numbers["ndcg"]])
        else:
            self.study.tell(trial, state=TrialState.PRUNED if outcome.state == "stopped" else TrialState.FAIL)

    def records(self) -> list[TrialRecord]:
        """Every trial that was handed out, by number."""
        return study_records(self.study)


def refused(trial: FrozenTrial) -> bool:
    """Whether a trial was told as failed without a training, since its configuration had failed before."""
    return trial.state.is_finished() and REPEATS in trial.user_attrs


def planned_jobs(storage: BaseStorage, name: str) -> list[Job]:
    """Every training of a fixed list in a journal, begun or not; unlike a stage that is opened, it writes nothing."""
    if name not in optuna.get_all_study_names(storage):
        return []
    trials = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
    plain = [trial.user_attrs["planned"] for trial in trials]
    return [Job.from_plain(job) for job in {job["trial_id"]: job for job in plain}.values()]


class FixedStage(Stage):
    """A list of trainings that is known before the first one starts; those done earlier are taken over.

    With `again`, those that are asked for, and failed by their machine before this stage was opened, are handed out
    once more: under the same id, by the same seed, so that they come to what they would have come to then.
    """

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        jobs: Sequence[Job],
        *,
        earlier: Earlier | None = None,
        again: bool = False,
    ) -> None:
        super().__init__(storage, name, directions=["maximize"], sampler=optuna.samplers.RandomSampler(seed=0))
        trials = self.study.get_trials(deepcopy=False)
        last = {t.user_attrs["planned"]["trial_id"]: t for t in trials}
        self._known = set(last)
        self._again = {trial_id for trial_id, trial in last.items() if again and self._by_the_machine(trial)}
        self._earlier = earlier
        self.total = len(trials)
        self.extend(jobs)

    def extend(self, jobs: Sequence[Job]) -> None:
        """Add trainings to the end of the list; those that it has already stay as they are."""
        for job in jobs:
            if job.trial_id in self._known and job.trial_id not in self._again:
                continue
            self._known.add(job.trial_id)
            self._again.discard(job.trial_id)
            self.total += 1
            planned = {"planned": job.plain()}
            done = self._earlier.outcome(job) if self._earlier is not None else None
            if done is None:
                self.study.enqueue_trial({}, user_attrs=planned)
            else:
                told = planned | {"job": job.plain(), "outcome": plain_outcome(done)}
                self.study.add_trial(optuna.create_trial(values=[done.numbers["ndcg"]], user_attrs=told))
                self._asked += 1

    def planned(self) -> list[Job]:
        """Every training of the list, whether it was begun or not."""
        return planned_jobs(self._storage, self.name)

    def _by_the_machine(self, trial: FrozenTrial) -> bool:
        return "job" in trial.user_attrs and trial_record(self.name, trial).by_the_machine

    def _job(self, trial: optuna.Trial) -> Job:
        return Job.from_plain(trial.user_attrs["planned"])
