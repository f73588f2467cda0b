"""Which search dimensions mattered for each objective: PED-ANOVA, beside what chance gives."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import optuna
import pandas as pd
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from search.run_store.csv_tables import write_csv
from search.run_store.folder import RunFolder
from spaces import Phase

TARGET_QUANTILE = 0.25
"""Important is what brings a trial among the best quarter; the method's own tenth would be two trials of twenty."""
FEWEST = 6
"""Finished trials below which nothing is said."""
SHUFFLES = 20


def write_importances(folder: RunFolder, phase: Phase, storage: BaseStorage, *, seed: int) -> pd.DataFrame:
    """importances.csv: objective, key, importance (each objective's sum to 1), chance_p95, trials.

    Finished trials alone: a stopped one has no values. `chance_p95` is the 95th percentile of the importances of all
    keys when the objective's values are shuffled over the trials. Empty with fewer than `FEWEST` finished trials.

    References: Watanabe, Bansal and Hutter 2023 (PED-ANOVA).
    """
    study = optuna.load_study(study_name="search", storage=storage)
    table = importance_table(study, [o.name for o in phase.objectives], generator=np.random.default_rng(seed))
    write_csv(table, folder, "importances.csv")
    return table


def importance_table(study: optuna.Study, objectives: list[str], *, generator: np.random.Generator) -> pd.DataFrame:
    """As `write_importances`, of any multi-objective study whose objectives have these names."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    columns = ["objective", "key", "importance", "chance_p95", "trials"]
    if len(trials) < FEWEST:
        return pd.DataFrame(columns=columns)
    rows = []
    for index, objective in enumerate(objectives):
        sign = 1.0 if study.directions[index] == optuna.study.StudyDirection.MINIMIZE else -1.0
        values = sign * np.array([trial.values[index] for trial in trials])
        found = _importances(study, trials, values)
        shuffled = [_importances(study, trials, generator.permutation(values)) for _ in range(SHUFFLES)]
        chance = float(np.quantile([v for draw in shuffled for v in draw.values()], 0.95))
        rows += [
            {"objective": objective, "key": key, "importance": value, "chance_p95": chance, "trials": len(trials)}
            for key, value in found.items()
        ]
    return pd.DataFrame(rows, columns=columns)


def _importances(study: optuna.Study, trials: list[FrozenTrial], values: np.ndarray) -> dict[str, float]:
    by_number = dict(zip((t.number for t in trials), values.tolist(), strict=True))
    target: Callable[[FrozenTrial], float] = lambda trial: by_number[trial.number]  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says of every call that low is good, which is how it is called
        return get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(target_quantile=TARGET_QUANTILE), target=target
        )
