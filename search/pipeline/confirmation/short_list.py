"""The short list: the base recipe and a few of the front, retrained with fresh seeds and judged as ensembles.

Members are its fidelity, as epochs are the search's: more recipes get a first training than get a second and a third.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np

from fusion_models.config import Flat
from search.analysis.front import costs, gates_passed, pareto_front
from search.run_store.job import Job, Role, TrialRecord
from search.study.seeds import SHORT_LIST_SEEDS
from spaces import Phase

FIRST_RUNG = 5
"""Recipes of the front that get a first fresh training, beside the base recipe."""
SHORT_LIST = 3
"""Those of them that get more, and are judged as ensembles."""
FEWEST_TRAININGS = 2
"""Of a recipe that is judged: one training says nothing of how far another would lie from it."""
BASE = "base"
"""The base recipe's name among the search's trials."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One recipe of the short list, over its trainings."""

    trial_id: str
    """Of the search trial that it comes from."""
    recipe: Flat
    trainings: tuple[str, ...]
    """Trial ids of its finished trainings, one a seed, by seed."""
    failed: int = 0
    """Seeds asked for whose training did not finish."""
    is_base: bool = False
    left_out: bool = False
    """Whether a rung ended for it before its last training; then it is not the finalist."""


def short_list(phase: Phase, searched: Sequence[TrialRecord], size: int = FIRST_RUNG) -> list[TrialRecord]:
    """Up to `size` front trials (the best first, then each the farthest from those chosen), then the base recipe.

    Gates come first: a trial that passes fewer is taken only when none that passes more is left. Distance is Euclidean
    on rank-normalised objectives, so that no objective's scale decides. The base recipe, the V2 that the team has,
    stands on every short list and is judged like the others.
    """
    phase = dataclasses.replace(phase, gates=(*phase.gates, *phase.resume_gates))
    front = pareto_front(phase, searched)
    base = [r for r in searched if r.name == BASE and r.finished][:1]
    if not front:
        return base
    points = costs(phase, front)
    ranks = points.argsort(axis=0).argsort(axis=0) / max(1, len(front) - 1)
    passed = np.array([gates_passed(phase, record)[0] for record in front])
    chosen = [0]
    while len(chosen) < min(size, len(front)):
        left = np.setdiff1d(np.arange(len(front)), chosen)
        left = left[passed[left] == passed[left].max()]
        distance = np.linalg.norm(ranks[left, None] - ranks[None, chosen], axis=-1).min(axis=1)
        chosen.append(int(left[distance.argmax()]))
    found = [front[index] for index in chosen]
    return found + [record for record in base if record not in found]


def short_list_jobs(chosen: Sequence[TrialRecord], seeds: int) -> list[Job]:
    """Every recipe of the short list with the same fresh seeds."""
    return [
        Job(
            trial_id=f"confirm-{record.trial_id}-s{seed}",
            name=record.trial_id,
            recipe=record.recipe,
            seed=SHORT_LIST_SEEDS + seed,
            role=Role("confirm"),
        )
        for record in chosen
        for seed in range(seeds)
    ]


def short_list_trainings(seeds: int) -> int:
    """The most that the rungs ask for, the base recipe's included."""
    return (FIRST_RUNG + 1) * min(seeds, 1) + (SHORT_LIST + 1) * max(0, seeds - 1)


def candidates(
    chosen: Sequence[TrialRecord],
    trained: Sequence[TrialRecord],
    *,
    least: int = FEWEST_TRAININGS,
    left_out: Container[str] = (),
) -> list[Candidate]:
    """The short list with its finished trainings, of which a recipe needs `least`; trial ids of those `left_out`."""
    out = []
    for record in chosen:
        asked = [r for r in trained if r.name == record.trial_id]
        finished = sorted((r for r in asked if r.finished), key=lambda r: r.seed)
        if len(finished) >= least:
            out.append(
                Candidate(
                    trial_id=record.trial_id,
                    recipe=record.recipe,
                    trainings=tuple(r.trial_id for r in finished),
                    failed=len(asked) - len(finished),
                    is_base=record.name == BASE,
                    left_out=record.trial_id in left_out,
                )
            )
    return out


def of_first_seeds(trained: Sequence[TrialRecord], count: int) -> list[TrialRecord]:
    """Those with the first `count` of the short list's seeds."""
    return [record for record in trained if record.seed < SHORT_LIST_SEEDS + count]


def as_it_was(chosen: Sequence[TrialRecord], trained: Sequence[TrialRecord]) -> list[Candidate]:
    """The short list of a finalist that stands: who got fewer trainings than others was left out by a rung."""
    asked = Counter(record.name for record in trained)
    most = max(asked.values(), default=0)
    return candidates(chosen, trained, left_out={name for name, count in asked.items() if count < most})
