"""The arms that decide: finalist and base recipe, whole and without a modality, each by trainings of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from fusion_models.config import Recipe
from fusion_models.models.variants import share_kind_of
from search.analysis.judged import FEWEST_TRAININGS
from search.run_store.job import Job, Role, TrialRecord
from search.study.seeds import deciding_seed
from spaces import Phase

STAGE = "deciding"
Of = Literal["finalist", "base"]
_NUMBER = re.compile(r"-v(\d+)-d\d+$")
"""Of a trial id as `trial_id` makes it, where the finalist's trainings are no first ones."""


@dataclass(frozen=True, order=True)
class ArmKey:
    """Whose recipe, built with which modalities."""

    of: Of
    modalities: tuple[str, ...]

    @property
    def slug(self) -> str:
        """For trial ids: `finalist-text+metadata`."""
        return f"{self.of}-{'+'.join(self.modalities)}"


@dataclass(frozen=True, kw_only=True)
class ArmPlan:
    """Which arms are trained, and the recipe of each."""

    recipes: Mapping[ArmKey, Recipe]
    whole: ArmKey
    """The finalist's recipe with all of its modalities."""
    base: ArmKey
    """The base recipe; the same arm where it is the finalist."""
    suspect: str
    arms: int = 1
    """As of `Finalist`: the finalist's trainings of another verdict have other trial ids."""

    def without(self, modality: str, of: Of = "finalist") -> ArmKey:
        """The arm that leaves one modality out; it need not be among those trained."""
        whole = self.whole if of == "finalist" else self.base
        return ArmKey(whole.of, tuple(m for m in whole.modalities if m != modality))


def plan_arms(phase: Phase, recipe: Recipe, *, is_base: bool, archive_open: bool = True, arms: int = 1) -> ArmPlan:
    """The finalist without each modality; base, with and without the suspect (the last while ARCHIVE can still hold).

    Where the finalist's variant has no attention and the phase gates shares, every subset of its modalities, for the
    refitted Shapley shares that those gates read.
    """
    own = recipe.model.modalities
    whole = ArmKey("finalist", own)
    recipes = {whole: recipe}
    shares = any(gate.needs == "attention" for gate in phase.gates)
    subsets = proper_subsets(own) if shares and not has_attention(recipe) else leave_one_out(own)
    recipes |= {ArmKey("finalist", s): restricted(phase, recipe, s) for s in subsets}
    base = whole if is_base else ArmKey("base", phase.base.model.modalities)
    if not is_base:
        recipes[base] = phase.base
        if archive_open:
            left = tuple(m for m in base.modalities if m != phase.suspect)
            recipes[ArmKey("base", left)] = restricted(phase, phase.base, left)
    return ArmPlan(recipes=recipes, whole=whole, base=base, suspect=phase.suspect, arms=arms)


def restricted(phase: Phase, recipe: Recipe, modalities: tuple[str, ...]) -> Recipe:
    """The recipe built with these modalities; without one that V1 reads it loses V1's score too.

    Else no text could ever earn anything: V1's score would tell what the text tells.
    """
    return recipe.restricted(modalities, v1_reads=phase.v1_reads)


def has_attention(recipe: Recipe) -> bool:
    """Whether the variant's shares are attention."""
    return share_kind_of(recipe.model.variant) == "attention"


def leave_one_out(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Every subset that lacks one modality."""
    return [tuple(m for m in modalities if m != gone) for gone in modalities] if len(modalities) > 1 else []


def proper_subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """The non-empty proper subsets of the modalities, smallest first: six of three."""
    return [subset for size in range(1, len(modalities)) for subset in combinations(modalities, size)]


def fewest_trainings(members: int) -> int:
    """Fresh trainings of an arm from which an ensemble's seed variance can be told: one more than its members."""
    return max(FEWEST_TRAININGS, members + 1)


def arm_jobs(phase: Phase, plan: ArmPlan, counts: Mapping[ArmKey, int], *, cold: bool) -> list[Job]:
    """The first `counts` trainings of each arm; `cold`: without the items that cold lists are read on."""
    return [
        Job(
            trial_id=trial_id(key, index, plan.arms),
            name=key.slug.replace("-", " "),
            recipe=plan.recipes[key].flat(),
            seed=deciding_seed(phase.name, index),
            items="without cold" if cold else "all",
            role=Role("refit" if key.of == "finalist" else "base", key.modalities),
        )
        for key, count in counts.items()
        for index in range(count)
    ]


def trial_id(key: ArmKey, index: int, arms: int = 1) -> str:
    """Of deciding training `index` of an arm; `arms` as of `Finalist`. The base recipe's serve every verdict."""
    own = f"-v{arms}" if arms > 1 and key.of == "finalist" else ""
    return f"{key.slug}{own}-d{index}"


def arms_of_others(phase: Phase, recipe: Recipe, planned: Iterable[Job]) -> set[int]:
    """Numbers (`Finalist.arms`) under which trainings of another finalist's recipe were planned.

    A further verdict that was given up leaves such ones: their ids stand for that recipe.
    """
    own = recipe.model.modalities

    def mine(job: Job) -> bool:
        kept = job.role.modalities
        if not set(kept) <= set(own):
            return False
        return job.to_recipe() == (recipe if kept == own else restricted(phase, recipe, kept))

    others = [job.trial_id for job in planned if job.role.kind == "refit" and not mine(job)]
    return {int(found[1]) if (found := _NUMBER.search(trial_id)) else 1 for trial_id in others}


def finished_trainings(
    plan: ArmPlan, counts: Mapping[ArmKey, int], records: Iterable[TrialRecord]
) -> dict[ArmKey, list[str]]:
    """Arm -> trial ids of its finished trainings, by seed."""
    ended = {record.trial_id for record in records if record.finished}
    return {
        key: [t for index in range(counts.get(key, 0)) if (t := trial_id(key, index, plan.arms)) in ended]
        for key in plan.recipes
    }
