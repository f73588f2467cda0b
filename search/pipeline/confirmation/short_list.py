"""The short list: the base recipe and a few of the front, retrained with fresh seeds and judged as ensembles."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusion_models.config import Flat
from search.analysis.front import costs, gates_passed, pareto_front
from search.pipeline.confirmation.seeds import SHORT_LIST_SEEDS
from search.run_store.job import Job, Role, TrialRecord
from spaces import Phase

SHORT_LIST = 3
"""Recipes of the front, beside the base recipe."""
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


def short_list(phase: Phase, searched: Sequence[TrialRecord], size: int = SHORT_LIST) -> list[TrialRecord]:
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


def candidates(chosen: Sequence[TrialRecord], trained: Sequence[TrialRecord]) -> list[Candidate]:
    """The short list with its finished trainings; a recipe needs two at least."""
    out = []
    for record in chosen:
        asked = [r for r in trained if r.name == record.trial_id]
        finished = sorted((r for r in asked if r.finished), key=lambda r: r.seed)
        if len(finished) > 1:
            out.append(
                Candidate(
                    trial_id=record.trial_id,
                    recipe=record.recipe,
                    trainings=tuple(r.trial_id for r in finished),
                    failed=len(asked) - len(finished),
                    is_base=record.name == BASE,
                )
            )
    return out
