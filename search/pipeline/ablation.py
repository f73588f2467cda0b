"""Ablation: what each component of a recipe does, by taking it out and training again with fresh seeds.

Nothing here decides. The finalist is fixed and the test split is open before its ablation is measured there; any other
trial is measured on the validation split, so that nobody chooses a recipe by the test split.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from fusion_models.config import Flat, Recipe
from fusion_models.data.clusters import query_clusters
from fusion_models.evaluation import split_lists
from fusion_models.models.applicability import inapplicable
from fusion_models.quantities import Outputs
from search.analysis.effects import Kind, Measured, Status, effect_table, objective_arm
from search.execution.capacity import concurrency
from search.pipeline.confirmation.test_split import open_test_split
from search.pipeline.context import Run
from search.run_store.artifacts import OUTPUTS, WEIGHTS, read_outputs
from search.run_store.csv_tables import write_csv
from search.run_store.job import Job, Role, TrialRecord
from search.run_store.looks import DECIDING_SPLIT
from search.run_store.records import journal_records
from search.study.stages import FixedStage
from spaces import Phase, applies

LARGEST = 5
"""Components that are trained again with every seed."""
PAIRS_AMONG = 3
"""The components that matter most, whose pairs are taken out together."""
STAGE = "ablation"
SEEDS = tuple(30_000 + index for index in range(3))
"""Of each variation's trainings: none that chose or decided anything."""


@dataclass(frozen=True, kw_only=True)
class Variation:
    """A recipe with one component, or two, taken out."""

    kind: Kind
    removed: tuple[str, ...]
    recipe: Recipe

    @property
    def slug(self) -> str:
        """For trial ids: `unimodal-heads+balanced-tokens`."""
        return "+".join(re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") for name in self.removed)


def without(phase: Phase, recipe: Recipe, removed: Sequence[str]) -> Recipe:
    """The recipe with some of the phase's components taken out, or reset to the base recipe.

    What only made sense with them goes too: keys whose condition in the space no longer holds return to the base
    recipe, and terms that the changed model cannot have are off.
    """
    changes = {key: value for name in removed for key, value in phase.ablatable[name].items()}
    base = phase.base.flat()
    flat = recipe.updated(changes).flat()
    for key, span in phase.ranges.items():
        if key not in changes and span.when and not applies(span, flat, base):
            flat[key] = base[key]
    changed = Recipe.from_flat(flat)
    return changed.updated(dict.fromkeys(inapplicable(changed), 0.0))


def active(phase: Phase, recipe: Recipe) -> list[Variation]:
    """One variation for each component of the phase that the recipe holds."""
    found = [
        Variation(kind="single", removed=(name,), recipe=without(phase, recipe, (name,))) for name in phase.ablatable
    ]
    return [variation for variation in found if variation.recipe != recipe]


def expected_trainings(phase: Phase, seeds: int = len(SEEDS)) -> int:
    """About how many trainings an ablation takes, for the plan: most of the known points' components are active."""
    recipe = list(phase.known_recipes().values())[-1]
    components = len(active(phase, recipe))
    pairs = PAIRS_AMONG * (PAIRS_AMONG - 1) // 2 if components >= PAIRS_AMONG else 0
    screening = components if components > LARGEST else 0
    return screening + (min(components, LARGEST) + pairs) * seeds


class Extent(NamedTuple):
    """How much of an ablation is done."""

    components: int
    """Trained with every seed."""
    screened: bool
    """All others, and these to find them, once."""
    pairs_among: int


def affordable(components: int, trainings: float, *, seeds: int, largest: int, pairs_among: int) -> Extent:
    """What there is time for with about `trainings` in all: everything; no pairs; or some components and no more."""
    largest = min(components, largest)
    among = min(largest, pairs_among)
    singles = (components if components > largest else 0) + largest * seeds
    if trainings >= singles:
        whole = trainings >= singles + among * (among - 1) // 2 * seeds
        return Extent(largest, components > largest, pairs_among if whole else 0)
    return Extent(max(1, min(largest, int(trainings // seeds))), False, 0)


def ablation_complete(table: pd.DataFrame) -> bool:
    """Whether everything that an ablation set out to train was trained with every seed."""
    return bool(len(table)) and set(table["status"]) <= {"measured", "screened"}


@dataclass(frozen=True, kw_only=True)
class Intact:
    """The recipe that is taken apart, and its trainings as it stands."""

    trial_id: str
    recipe: Flat
    trainings: tuple[str, ...]
    items: Literal["all", "without cold"] = "all"
    """What they were trained on; so are the variations."""


def ablate(
    run: Run,
    intact: Intact,
    *,
    split: str = DECIDING_SPLIT,
    largest: int = LARGEST,
    pairs_among: int = PAIRS_AMONG,
    deadline: float | None = None,
) -> pd.DataFrame:
    """Train the recipe without each component, measure the changes, and write them (`effects.COLUMNS`).

    `split` is the deciding one for the finalist (`ablation.csv`), and `validation` for any other trial
    (`ablation-TRIAL.csv`). Of more than `largest` active components the largest are those whose removal changes the
    objectives most (each in units of its own span) in one training with the search's seed, on the validation split;
    that seed is none of those that the effects are measured with. With too little time before `deadline`
    (`time.monotonic()`), the phase's first components are trained and no pairs, so that what is measured is measured
    whole; after it nothing new is started, and what is missing says so. Ray must be running.
    """
    return _Ablation(run, intact, split, deadline).table(largest, pairs_among)


class _Ablation:
    """One ablation under way."""

    def __init__(self, run: Run, intact: Intact, split: str, deadline: float | None) -> None:
        self.run, self.intact, self.split, self.deadline = run, intact, split, deadline
        self.recipe = Recipe.from_flat(intact.recipe)
        self.objectives = [o.name for o in run.phase.objectives]
        self.lists = split_lists(run.data, "validation")
        known = {r.trial_id: r for r in journal_records(run.store.journal)}
        self.searched = known.get(intact.trial_id)
        self.stage = FixedStage(run.store.journal, STAGE, [], again=True)

    def table(self, largest: int, pairs_among: int) -> pd.DataFrame:
        singles = active(self.run.phase, self.recipe)
        largest, screened_first, pairs_among = affordable(
            len(singles), self._trainings_left(), seeds=len(SEEDS), largest=largest, pairs_among=pairs_among
        )
        screened = self._screen(singles) if screened_first else {}
        ordered = sorted(singles, key=lambda v: -self._distance(screened.get(v.removed[0], {})))
        chosen, rest = ordered[:largest], ordered[largest:]
        self._train(chosen)
        effects = {v: self._distance(self._validation_change(v)) for v in chosen}
        foremost = sorted(effects, key=lambda v: -effects[v])[:pairs_among]
        pairs = [self._pair(a, b) for a, b in combinations(foremost, 2)] if len(foremost) > 1 else []
        self._train(pairs)
        self._open_all([*chosen, *pairs])
        measured = [self._measured(v) for v in [*sorted(effects, key=lambda v: -effects[v]), *pairs]]
        measured += [
            self._blank(v, "screened" if v.removed[0] in screened else "not trained", screened.get(v.removed[0], {}))
            for v in rest
        ]
        table = effect_table(
            self.intact.trial_id,
            self.split,
            self._open(self.intact.trainings),
            measured,
            self.objectives,
            query_clusters(self.run.data, self.split),
        )
        name = "ablation.csv" if self.split == self.run.deciding else f"ablation-{self.intact.trial_id}.csv"
        write_csv(table, self.run.folder, name)
        return table

    def _trainings_left(self) -> float:
        """About how many trainings there is time for, as long as the intact recipe's took."""
        if self.deadline is None:
            return math.inf
        known = {r.trial_id: r.seconds for r in journal_records(self.run.store.journal)}
        each = float(np.mean([known[t] for t in self.intact.trainings])) / concurrency(self.run.options)
        return max(0.0, self.deadline - time.monotonic()) / each

    def _pair(self, a: Variation, b: Variation) -> Variation:
        removed = (a.removed[0], b.removed[0])
        return Variation(kind="pair", removed=removed, recipe=without(self.run.phase, self.recipe, removed))

    def _job(self, variation: Variation, seed: int, mark: str) -> Job:
        """Trainings for another split than the deciding one keep no weights, so they have ids of their own."""
        trial, split = self.intact.trial_id, "" if self.split == self.run.deciding else f"-{self.split}"
        return Job(
            trial_id=f"ablate-{trial}{split}-{variation.slug}-{mark}",
            name=f"{trial} without {' and '.join(variation.removed)}",
            recipe=variation.recipe.flat(),
            seed=seed,
            items=self.intact.items,
            role=Role("ablation"),
        )

    def _train(self, variations: Sequence[Variation]) -> None:
        """Variation by variation, so that what a deadline cuts off is missing whole."""
        self.stage.extend([self._job(v, seed, _mark(seed)) for v in variations for seed in SEEDS])
        self._train_stage()
        if self.split != self.run.deciding:
            self._drop_weights(self.stage.records())

    def _train_stage(self) -> None:
        end = self.deadline
        self.run.trainer.train([self.stage], deadline=None if end is None else lambda: end)

    def _screen(self, singles: Sequence[Variation]) -> dict[str, dict[str, float]]:
        """Component -> objective -> change in one training with the seed that the searched trial was trained with."""
        searched = self.searched
        if searched is None or not searched.finished:
            return {}
        jobs = {v.removed[0]: self._job(v, searched.seed, "screen") for v in singles}
        self.stage.extend(list(jobs.values()))
        self._train_stage()
        ended = self._ended()
        self._drop_weights([ended[job.trial_id] for job in jobs.values() if job.trial_id in ended])
        return {
            name: {
                o: ended[job.trial_id].numbers[o] - searched.numbers[o]
                for o in self.objectives
                if o in ended[job.trial_id].numbers and o in searched.numbers
            }
            for name, job in jobs.items()
            if job.trial_id in ended and ended[job.trial_id].finished
        }

    def _validation_change(self, variation: Variation) -> dict[str, float]:
        """Objective -> change of the mean over trainings on the validation split."""
        changes = {}
        before, after = (self._kept(ids) for ids in (self.intact.trainings, self._finished(variation)))
        for objective in self.objectives:
            pair = [objective_arm(trainings, objective) for trainings in (before, after)]
            if pair[0] is not None and pair[1] is not None:
                changes[objective] = float(np.nanmean(pair[1].mean) - np.nanmean(pair[0].mean))
        return changes

    def _distance(self, change: Mapping[str, float]) -> float:
        """How far a change leads, summed over the objectives, each as a share of its span."""
        spans = {o.name: abs(o.corner - o.reference) for o in self.run.phase.objectives}
        return sum(abs(value) / spans[name] for name, value in change.items())

    def _ended(self) -> dict[str, TrialRecord]:
        return {r.trial_id: r for r in self.stage.records() if r.state != "running"}

    def _finished(self, variation: Variation) -> list[str]:
        """Trial ids of the variation's finished trainings, by seed."""
        ended = self._ended()
        ids = [self._job(variation, seed, _mark(seed)).trial_id for seed in SEEDS]
        return [t for t in ids if t in ended and ended[t].finished]

    def _measured(self, variation: Variation) -> Measured:
        ids, ended = self._finished(variation), self._ended()
        asked = [self._job(variation, seed, _mark(seed)).trial_id for seed in SEEDS]
        status: Status = "measured" if len(ids) == len(SEEDS) else "in part"
        if not ids:
            status = "failed" if any(t in ended for t in asked) else "not trained"
        return Measured(
            kind=variation.kind,
            removed=variation.removed,
            changes=said_changes(self.recipe.flat(), variation.recipe.flat()),
            status=status,
            runs=self._open(ids),
        )

    def _blank(self, variation: Variation, status: Status, screened: Mapping[str, float]) -> Measured:
        changes = said_changes(self.recipe.flat(), variation.recipe.flat())
        return Measured(kind="single", removed=variation.removed, changes=changes, status=status, screened=screened)

    def _kept(self, ids: Sequence[str]) -> list[Outputs]:
        return [read_outputs(self._place(t) / OUTPUTS, self.lists) for t in ids]

    def _drop_weights(self, records: Sequence[TrialRecord]) -> None:
        """Of ablated trainings; what they said stays."""
        for record in records:
            (self._place(record.trial_id) / WEIGHTS).unlink(missing_ok=True)

    def _place(self, trial_id: str) -> Path:
        return self.run.folder.checkpoints / trial_id

    def _open_all(self, variations: Sequence[Variation]) -> None:
        """Side by side; what is opened here is read back afterwards."""
        if self.split == self.run.deciding:
            self._look([t for v in variations for t in self._finished(v)])

    def _open(self, ids: Sequence[str]) -> list[Outputs]:
        """What these trainings say of the split; weights of ablated trainings go once they are measured."""
        if self.split != self.run.deciding:
            return self._kept(ids)
        found = self._look(ids)
        self._drop_weights([r for r in self.stage.records() if r.trial_id in ids])
        return [found[t] for t in ids]

    def _look(self, ids: Sequence[str]) -> dict[str, Outputs]:
        run = self.run
        return open_test_split(run.folder, run.data, ids, split=self.split, call=run.trainer.call)()


def _mark(seed: int) -> str:
    return f"s{seed - SEEDS[0]}"


def said_changes(before: Flat, after: Flat) -> str:
    """`loss.unimodal 0.3 → 0; model.text_tokens 1 → 12`."""
    return "; ".join(f"{key} {_said(before[key])} → {_said(after[key])}" for key in before if before[key] != after[key])


def _said(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
