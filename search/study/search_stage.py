"""The search as a stage: what the sampler proposes, what earlier runs found, and what is not run a second time."""

from __future__ import annotations

import dataclasses
import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from fusion_models.config import Flat, Recipe
from search.run_store.job import Job, Outcome, TrialRecord
from search.run_store.records import plain_outcome
from search.study.rungs import Entry
from search.study.samplers import InOrder, one_a_trial
from search.study.stages import REPEATS, SEARCH, TAKEN_OVER, Earlier, Stage
from spaces import Phase, parameters, project, suggest

REPEATED_PROPOSALS = 10
"""How often in a row the sampler may propose what has failed before, until a point is drawn at random."""

PREFIX = "t"
"""Of a search trial's id, before its number."""

LAG = 2
"""Times the trainings at once: so many trials back lie the results that a trial sees (docs/decisions/030)."""
SHORTEST_CAP, CAP, TRIALS_A_LAG = 4, 6, 6
"""The farthest that a trial looks back, however many train at once: a quarter of a short search's trials, from 4 to 6,
and one in 6 of a long one's."""


def lag_of(trials: int, at_once: int | None) -> int:
    """How many trials back a trial looks, in a search of so many; `at_once` None: as many as there come to be.

    No more than so many of its trials train at once: with more places than that most trials would see nothing, and the
    search would be a random one that never stops a trial.
    """
    most = max(SHORTEST_CAP, min(CAP, trials // 4), trials // TRIALS_A_LAG)
    return most if at_once is None else min(LAG * at_once, most)


def trials_to_fill(at_once: int) -> int:
    """The fewest trials of a search of which so many may train at once."""
    return next(trials for trials in itertools.count(1) if lag_of(trials, None) >= at_once)


def trial_number(trial_id: str) -> int:
    """The number of a search trial in its study."""
    return int(trial_id.removeprefix(PREFIX))


class SearchStage(Stage):
    """A study that samples a phase's space. The base recipe and the known points are asked first, then warm ones
    (`enqueue_warm`).

    Trials of earlier runs that lie in the space are taken over as told: they count beyond `trials`.

    With `lag`, what is proposed and which trials are stopped hangs on trial numbers alone, not on which training ends
    first (docs/decisions/030): trial n sees the results of the trials up to n - lag, in the order of their numbers.
    """

    def __init__(
        self,
        storage: BaseStorage,
        phase: Phase,
        *,
        sampler: str,
        trials: int,
        seed: int,
        earlier: Earlier | None = None,
    ) -> None:
        self.phase = phase
        self.seed = seed
        super().__init__(storage, SEARCH, directions=[o.direction for o in phase.objectives])
        self.needed = tuple(o.name for o in phase.objectives)
        if self.study.metric_names is None:  # for whoever opens the journal, such as optuna-dashboard
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                self.study.set_metric_names(list(self.needed))
        self.lag: int | None = None
        """At least 1; None: a trial sees all that has ended, whoever that is."""
        self.study.sampler = InOrder(one_a_trial(sampler, seed=seed, trials=trials), self.seen_by)
        self.total = trials
        self._failed = {_identity(r.recipe): r for r in reversed(self.records()) if r.state == "failed"}
        self.notes: list[str] = []
        """What became of warm points that do not lie in the space."""
        if earlier is not None:
            self._take_over(earlier)
        self.total += sum(TAKEN_OVER in t.user_attrs for t in self.study.get_trials(deepcopy=False))
        self.total = max(self.total, self.begun)  # of a search that goes on with fewer trials than it had begun
        self._enqueue_known(phase.known_recipes())

    @property
    def begun(self) -> int:
        """Trials that were handed out, those of earlier runs and one whose driver died while asking for it included."""
        return self._asked + sum("job" not in t.user_attrs for t in self._interrupted)

    def close(self, reason: str) -> list[str]:
        """Hand out no further trial, and tell interrupted ones as stopped for `reason`; returns their ids."""
        ended = []
        for frozen in [t for t in self._interrupted if "job" in t.user_attrs]:
            job = Job.from_plain(frozen.user_attrs["job"])
            self._trials[job.trial_id] = optuna.Trial(self.study, frozen._trial_id)
            self.tell(job, Outcome(state="stopped", reason=reason, epochs=0, numbers={}, seconds=math.nan))
            ended.append(job.trial_id)
        self._interrupted = []
        self.total = self._asked
        return ended

    def seen_by(self, number: int) -> int | None:
        """The highest number of the trials whose results trial `number` sees; None: whatever has ended."""
        return None if self.lag is None else number - self.lag

    def ready(self) -> bool:
        """Whether every trial that the next one sees has ended. A known point sees none."""
        if self.lag is None or self._interrupted or self._asked >= self.total:
            return True
        trials = self.study.get_trials(deepcopy=False)
        if any(trial.state is TrialState.WAITING for trial in trials):
            return True
        return all(trial.number > len(trials) - self.lag for trial in self._trials.values())

    def _take_over(self, earlier: Earlier) -> None:
        """Finished trials of earlier runs, each told in one write, so that a crash leaves it whole or not at all."""
        base = self.phase.base.flat()
        names = {tuple(sorted(r.flat().items())): name for name, r in self.phase.known_recipes().items()}
        told = {t.user_attrs["job"]["trial_id"] for t in self.study.get_trials(deepcopy=False) if "job" in t.user_attrs}
        for job in earlier.searched():
            if job.trial_id not in told:
                try:
                    point = optuna.trial.FixedTrial(parameters(self.phase.ranges, job.recipe, base))
                except ValueError:
                    continue
                if base | suggest(point, self.phase.ranges, base) != job.recipe or job.seed != self.seed:
                    continue
                name = names.get(tuple(sorted(job.recipe.items())))
                self._add_told(dataclasses.replace(job, name=name or job.name), point, earlier, known=name is not None)

    def _add_told(self, job: Job, point: optuna.trial.FixedTrial, earlier: Earlier, *, known: bool) -> None:
        outcome = earlier.outcome(job)
        if outcome is None or any(not math.isfinite(outcome.numbers.get(name, math.nan)) for name in self.needed):
            return
        attributes = {TAKEN_OVER: True, "job": job.plain(), "outcome": plain_outcome(outcome)}
        self.study.add_trial(
            optuna.create_trial(
                values=self.phase.objective_values(outcome.numbers),
                params=point.params,
                distributions=point.distributions,
                user_attrs=attributes | ({"name": job.name} if known else {}),
                constraints=self._constraints(outcome),
            )
        )
        self._asked += 1

    def _enqueue_known(self, recipes: Mapping[str, Recipe]) -> None:
        """Points that lie in the space are asked by name; a known point outside it is a mistake in the phase."""
        base = self.phase.base.flat()
        for name, recipe in recipes.items():
            self._enqueue(name, parameters(self.phase.ranges, recipe.flat(), base))

    def enqueue_warm(self, recipes: Mapping[str, Flat]) -> None:
        """Recipes of an earlier front, moved into the space where they lie outside it; those already there left out."""
        base = self.phase.base.flat()
        trials = self.study.get_trials(deepcopy=False)
        there = [r.flat() for r in self.phase.known_recipes().values()]
        there += [t.user_attrs["job"]["recipe"] for t in trials if TAKEN_OVER in t.user_attrs]
        for name, recipe in recipes.items():
            try:
                point = project(self.phase.ranges, recipe, base)
            except ValueError as error:
                self.notes.append(f"{name} is left out: {error}")
                continue
            moved = [key for key in point if point[key] != recipe.get(key)]
            if moved:
                self.notes.append(f"{name} is moved into the space ({', '.join(moved)})")
            if point not in there:
                there.append(point)
                self._enqueue(name, parameters(self.phase.ranges, point, base))

    def _enqueue(self, name: str, point: dict[str, Any]) -> None:
        if name not in {t.user_attrs.get("name") for t in self.study.get_trials(deepcopy=False)}:
            self.study.enqueue_trial(point, user_attrs={"name": name})

    def _next(self) -> Job | None:
        """What has failed is not run again, which a sampler may propose that forgets failures (TPE does).

        A proposal of the very same configuration is told as failed at once, and another one is asked for; from the
        tenth in a row on it is drawn at random. None, as well, where even ten of those have failed before, or where
        the next proposal must wait (`ready`).
        """
        sampler = self.study.sampler
        try:
            for repeats in range(2 * REPEATED_PROPOSALS):
                if repeats and not self.ready():
                    return None
                if repeats == REPEATED_PROPOSALS:
                    self.study.sampler = optuna.samplers.RandomSampler(seed=self.seed + self._asked)
                job = super()._next()
                failed = self._failed.get(_identity(job.recipe)) if job is not None else None
                if job is None or failed is None or not self._sees(job, failed):
                    return job
                self._refuse(job, failed)
        finally:
            self.study.sampler = sampler
        return None

    def _sees(self, job: Job, failed: TrialRecord) -> bool:
        seen = self.seen_by(trial_number(job.trial_id))
        return seen is None or trial_number(failed.trial_id) <= seen

    def _refuse(self, job: Job, failed: TrialRecord) -> None:
        trial = self._trials.pop(job.trial_id)
        reason = f"not run: the same configuration failed before, as {failed.trial_id} ({failed.state_reason})"
        outcome = Outcome(state="failed", reason=reason, epochs=0, numbers={}, seconds=0.0)
        trial.set_user_attr("outcome", plain_outcome(outcome))
        trial.set_user_attr(REPEATS, failed.trial_id)
        self._conclude(trial, outcome)
        self._asked -= 1

    def tell(self, job: Job, outcome: Outcome) -> TrialRecord:
        record = super().tell(job, outcome)
        if record.state == "failed":
            self._failed.setdefault(_identity(record.recipe), record)
        return record

    def _job(self, trial: optuna.Trial) -> Job:
        base = self.phase.base.flat()
        changes = suggest(trial, self.phase.ranges, base)
        return Job(
            trial_id=f"{PREFIX}{trial.number:04d}",
            name=trial.user_attrs.get("name", "sampled"),
            recipe=base | changes,
            seed=self.seed,
            latency=True,
        )

    def note_rungs(self, job: Job, entries: Sequence[Entry]) -> None:
        """Record how a running trial was judged; on return it is on disk."""
        trial = self._trials[job.trial_id]
        before = self._storage.get_trial(trial._trial_id).user_attrs.get("rungs", [])
        trial.set_user_attr("rungs", before + [entry.plain() for entry in entries])

    def rung_entries(self) -> list[Entry]:
        """Every judgement so far, trial by trial, the lowest rung first."""
        trials = self.study.get_trials(deepcopy=False)
        return [Entry.from_plain(plain) for trial in trials for plain in trial.user_attrs.get("rungs", [])]

    def _conclude(self, trial: optuna.Trial, outcome: Outcome) -> None:
        """Finished trials with their bounded objectives, stopped ones as PRUNED; both carry every constraint.

        A stopped trial also violates `unfinished`: without it Optuna would rank it above finished ones that miss a
        gate, and go on proposing what was stopped.
        """
        values = self.phase.objective_values(outcome.numbers)
        if outcome.state in ("finished", "stopped"):
            for name, violation in self._constraints(outcome).items():
                trial.set_constraint(name, violation)
        if outcome.state == "finished":
            self.study.tell(trial, values=values)
        else:
            self.study.tell(trial, state=TrialState.PRUNED if outcome.state == "stopped" else TrialState.FAIL)

    def _constraints(self, outcome: Outcome) -> dict[str, float]:
        return self.phase.constraints(outcome.numbers) | {"unfinished": 0.0 if outcome.state == "finished" else 1.0}


def _identity(recipe: Flat) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(recipe.items()))
