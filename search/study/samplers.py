"""The samplers a search can use, by name, and one that makes any of them depend on trial numbers alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container, Sequence
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from search.study.stages import TAKEN_OVER


def _startup(trials: int) -> int:
    """Random trials before the model is asked."""
    return max(4, min(10, trials // 3))


def _tpe(seed: int, trials: int) -> BaseSampler:
    """Each parameter by itself, as is Optuna's default with several objectives.

    The joint model draws in on one corner of the front: as many trainings, less hypervolume (docs/search-benchmark.md).
    """
    return TPESampler(seed=seed, n_startup_trials=_startup(trials), multivariate=False, constant_liar=True)


def _population(trials: int) -> int:
    """NSGA's population: at Optuna's 50 a short run is random search."""
    return max(8, trials // 4)


SAMPLERS: dict[str, Callable[[int, int], BaseSampler]] = {
    "tpe": _tpe,
    "nsga2": lambda seed, trials: NSGAIISampler(seed=seed, population_size=_population(trials)),
    "nsga3": lambda seed, trials: NSGAIIISampler(seed=seed, population_size=_population(trials)),
    "gp": lambda seed, trials: GPSampler(seed=seed, n_startup_trials=_startup(trials)),
    "random": lambda seed, trials: RandomSampler(seed=seed),
}


def build_sampler(name: str, *, seed: int, trials: int) -> BaseSampler:
    """A sampler for a study of about `trials` trials. Raises ValueError for an unknown name."""
    if name not in SAMPLERS:
        raise ValueError(f"unknown sampler {name!r}; choose one of {', '.join(SAMPLERS)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return SAMPLERS[name](seed, trials)


def one_a_trial(name: str, *, seed: int, trials: int) -> Callable[[int], BaseSampler]:
    """A sampler for each trial's number, seeded by it: an interrupted search draws what it would have drawn.

    So none keeps anything from proposal to proposal; GP's fits from the same start each time. Raises ValueError as
    `build_sampler`.
    """
    build_sampler(name, seed=seed, trials=trials)

    def build(number: int) -> BaseSampler:
        return build_sampler(name, seed=int(np.random.SeedSequence([seed, number]).generate_state(1)[0]), trials=trials)

    return build


class SeenStudy(Study):
    """A study as trial `number` sees it: trials after `seen` are under way, whatever has become of them."""

    def __init__(self, study: Study, number: int, seen: int | None) -> None:
        vars(self).update(vars(study))
        known = study._get_trials(deepcopy=False, states=None, use_cache=False)
        self._known = [t if seen is None or t.number <= seen else _under_way(t) for t in known if t.number <= number]

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return [trial for trial in self._known if states is None or trial.state in states]


def _under_way(trial: FrozenTrial) -> FrozenTrial:
    """The trial as it was while it ran, without any result; one that was taken over never ran, and stays."""
    if trial.state is TrialState.WAITING or TAKEN_OVER in trial.user_attrs:
        return trial
    return FrozenTrial(
        number=trial.number,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=trial.datetime_start,
        datetime_complete=None,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=trial.user_attrs,
        system_attrs=trial.system_attrs,
        intermediate_values={},
        trial_id=trial._trial_id,
    )


class InOrder(BaseSampler):
    """Proposes trial n by a sampler of its own, from the trials that it is to see.

    So what is proposed does not depend on which training ends first, nor on whether the search was interrupted.
    """

    def __init__(self, build: Callable[[int], BaseSampler], seen_by: Callable[[int], int | None]) -> None:
        """`build`: the sampler of a trial's number; `seen_by`: the last trial whose result it sees, None for all."""
        self._build, self._seen_by = build, seen_by
        self._last: tuple[int, BaseSampler, SeenStudy] | None = None

    def _of(self, study: Study, number: int) -> tuple[BaseSampler, SeenStudy]:
        if self._last is None or self._last[0] != number:
            self._last = number, self._build(number), SeenStudy(study, number, self._seen_by(number))
        return self._last[1:]

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Ask the trial's own sampler; so do the three below."""
        sampler, seen = self._of(study, trial.number)
        sampler.before_trial(seen, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As Optuna says."""
        sampler, seen = self._of(study, trial.number)
        return sampler.infer_relative_search_space(seen, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As Optuna says."""
        sampler, seen = self._of(study, trial.number)
        return sampler.sample_relative(seen, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As Optuna says."""
        sampler, seen = self._of(study, trial.number)
        return sampler.sample_independent(seen, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Tell a sampler like the trial's own."""
        self._build(trial.number).after_trial(study, trial, state, values)
