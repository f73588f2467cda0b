"""The samplers a search can use, by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, RandomSampler, TPESampler


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
