"""Confirmation: the short list retrained with fresh seeds, and one finalist fixed before the test split is opened.

Step (a) reads the validation split alone and ends with `finalist.json` on disk. Step (b), `test_split`, opens
the test split for what was fixed here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from fusion_models.config import MODALITIES, Flat, Recipe
from fusion_models.files import write_whole
from fusion_models.metrics import Interval
from search.analysis.front import costs, gates_passed, pareto_front
from search.run_store.folder import RunFolder, now
from search.run_store.job import Job, Role, TrialRecord
from spaces import Phase

SHORT_LIST = 3
FRESH_SEEDS = 10_000
"""Confirmation seeds start here, far from any that the search used."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One recipe of the short list, over its confirmation trainings."""

    trial_id: str
    """Of the search trial that it comes from."""
    recipe: Flat
    trainings: tuple[str, ...]
    """Trial ids of its finished confirmation trainings, one a seed."""
    seeds: tuple[int, ...] = ()
    """Their seeds, ascending, as `trainings`."""
    failed: int = 0
    """Seeds asked for whose training did not finish."""


def short_list(phase: Phase, searched: Sequence[TrialRecord], size: int = SHORT_LIST) -> list[TrialRecord]:
    """Up to `size` front trials: the best first, then each the farthest from those already chosen.

    Gates come first: a trial that passes fewer is taken only when none that passes more is left. Distance is Euclidean
    on rank-normalised objectives, so that no objective's scale decides.
    """
    phase = _with_resume_gates(phase)
    front = pareto_front(phase, searched)
    if not front:
        return []
    points = costs(phase, front)
    ranks = points.argsort(axis=0).argsort(axis=0) / max(1, len(front) - 1)
    passed = np.array([gates_passed(phase, record)[0] for record in front])
    chosen = [0]
    while len(chosen) < min(size, len(front)):
        left = np.setdiff1d(np.arange(len(front)), chosen)
        left = left[passed[left] == passed[left].max()]
        distance = np.linalg.norm(ranks[left, None] - ranks[None, chosen], axis=-1).min(axis=1)
        chosen.append(int(left[distance.argmax()]))
    return [front[index] for index in chosen]


def _with_resume_gates(phase: Phase) -> Phase:
    """The phase with every gate that its decision reads: what is chosen here is judged by them all."""
    return dataclasses.replace(phase, gates=(*phase.gates, *phase.resume_gates))


def confirmation_jobs(chosen: Sequence[TrialRecord], seeds: int) -> list[Job]:
    """Every recipe of the short list with the same fresh seeds."""
    return [
        Job(
            trial_id=f"confirm-{record.trial_id}-s{seed}",
            name=record.trial_id,
            recipe=record.recipe,
            seed=FRESH_SEEDS + seed,
            role=Role("confirm"),
        )
        for record in chosen
        for seed in range(seeds)
    ]


def candidates(records: Sequence[TrialRecord]) -> list[Candidate]:
    """The finished confirmation trainings, grouped by the search trial they come from; needs two seeds at least."""
    out = []
    for name in dict.fromkeys(r.name for r in records):
        asked = [r for r in records if r.name == name]
        finished = sorted((r for r in asked if r.finished), key=lambda r: r.seed)
        if len(finished) > 1:
            out.append(
                Candidate(
                    trial_id=name,
                    recipe=finished[0].recipe,
                    trainings=tuple(r.trial_id for r in finished),
                    seeds=tuple(r.seed for r in finished),
                    failed=len(asked) - len(finished),
                )
            )
    return out


def fix_finalist(
    folder: RunFolder, phase: Phase, measured: Mapping[str, Mapping[str, Interval]], found: Sequence[Candidate]
) -> Candidate | None:
    """Choose one finalist by its validation means and write `finalist.json`; one that is already there stands.

    Best: no seed that failed to train (a recipe that sometimes breaks is no recipe), then most gates passed, then the
    smallest sum of relative misses; of those within one standard error of it, the largest gain (the one-standard-error
    rule; Breiman et al. 1984, "Classification and Regression Trees", 3.4.3): which of them misses a gate by a hair less
    is noise. `measured` has each candidate's quantities on validation, over its seeds.
    """
    path = folder.path / "finalist.json"
    if path.exists():
        known = json.loads(path.read_text())["trial_id"]
        return next((c for c in found if c.trial_id == known), None)
    if not found:
        return None

    best = _choose(_with_resume_gates(phase), measured, found)
    said = {
        "trial_id": best.trial_id,
        "recipe": best.recipe,
        "chosen_on": "validation",
        "fixed": now(),
        "of": [c.trial_id for c in found],
    }
    write_whole(path, json.dumps(said, indent=1) + "\n")
    return best


def _choose(phase: Phase, measured: Mapping[str, Mapping[str, Interval]], found: Sequence[Candidate]) -> Candidate:
    standing = {c.trial_id: _standing(phase, measured[c.trial_id]) for c in found}
    most = min((c.failed, -standing[c.trial_id].passed) for c in found)
    left = [c for c in found if (c.failed, -standing[c.trial_id].passed) == most]
    least = min((standing[c.trial_id] for c in left), key=lambda s: s.missed)
    tied = [c for c in left if standing[c.trial_id].missed <= least.missed + least.error]
    return max(tied, key=lambda c: standing[c.trial_id].gain)


@dataclass(frozen=True)
class _Standing:
    passed: int
    missed: float
    """Sum over the gates of how far the mean misses, in thresholds."""
    error: float
    """Standard error of `missed`: gates of one quantity err together, quantities independently."""
    gain: float


def _standing(phase: Phase, found: Mapping[str, Interval]) -> _Standing:
    violations = phase.constraints({name: interval.mean for name, interval in found.items()})
    missed, errors = 0.0, dict[str, float]()
    for gate in phase.gates:
        if violations.get(gate.name, 0.0) > 0.0:
            unit = abs(gate.threshold) or 1.0
            missed += violations[gate.name] / unit
            error = found[gate.quantity].standard_error if gate.quantity in found else 0.0
            errors[gate.quantity] = errors.get(gate.quantity, 0.0) + (error if np.isfinite(error) else 0.0) / unit
    passed = sum(v <= 0.0 for v in violations.values())
    return _Standing(passed, missed, float(np.linalg.norm(list(errors.values()))), found["ndcg_gain"].mean)


def subset_name(modalities: Sequence[str]) -> str:
    """`text+metadata`, in the one order that is used everywhere."""
    return "+".join(m for m in MODALITIES if m in modalities)


def proper_subsets(modalities: Sequence[str] = MODALITIES) -> list[tuple[str, ...]]:
    """The non-empty proper subsets of the modalities: six of three."""
    return [subset for size in range(1, len(modalities)) for subset in combinations(modalities, size)]


def refit_jobs(finalist: Candidate, base: Recipe) -> list[Job]:
    """The finalist retrained on each proper subset of its modalities, and the base recipe with and without the image.

    With the seeds that the finalist finished with, so that every difference is between trainings of one seed.
    """
    recipe = Recipe.from_flat(finalist.recipe)
    subsets, whole = proper_subsets(recipe.model.modalities), base.model.modalities
    wanted = [(f"refit {subset_name(s)}", recipe.restricted(s), Role("refit", s)) for s in subsets]
    without_image = tuple(m for m in whole if m != "visual")
    wanted += [("base", base, Role("base", whole))]
    wanted += [(f"base {subset_name(without_image)}", base.restricted(without_image), Role("base", without_image))]
    return [
        Job(
            trial_id=f"{name.replace(' ', '-')}-s{seed - FRESH_SEEDS}",
            name=name,
            recipe=wanted_recipe.flat(),
            seed=seed,
            role=role,
        )
        for name, wanted_recipe, role in wanted
        for seed in finalist.seeds
    ]
