"""From what the deciding trainings and the rivals said to the evidence that the decision reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from fusion_models.metrics import Interval
from fusion_models.metrics.intervals.ensembles import Arm, arm_difference
from fusion_models.metrics.intervals.query_intervals import query_interval
from fusion_models.quantities import Lists, Outputs, drop_name, ensemble, quantity, standardised
from fusion_models.quantities.outputs import Values
from search.analysis.archive import rules_read
from search.analysis.judged import ArchiveEvidence, Lead, Probe
from search.analysis.measure import (
    Clusters,
    linear_interval,
    mean_interval,
    mean_ndcg,
    quantity_interval,
    recipe_arm,
    tuned_sum,
)
from search.analysis.shapley import shapley_shares
from search.pipeline.baselines import TUNED_V1, Reference, ReferenceRole, by_role
from search.pipeline.confirmation.arms import ArmKey, ArmPlan
from spaces import Phase

Trained = Mapping[ArmKey, Sequence[Outputs]]
"""What each arm's trainings said of one split, by seed."""


DECIDING: tuple[ReferenceRole, ...] = (*TUNED_V1, "trees", "blind trees", "sum with v1")
"""References that a gate or a rule may read."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What validation chose between rivals, so that the deciding split is read for one of them alone."""

    blind: str
    """The strongest ranker without the suspect."""
    weight: float = 0.0
    """Of V1's score, where the strongest one is a refit with V1 added."""
    tuned_v1: str = ""
    better_is_base: bool = False
    """Whether the base recipe, and not the finalist, is read by the rules on the gain and on the tuned V1."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A recipe of the short list: its trial, and what its trainings there said of the split. They saw every item."""

    trial_id: str
    runs: Sequence[Outputs]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything on one split that evidence is made of."""

    phase: Phase
    plan: ArmPlan
    members: int
    trained: Trained
    references: Sequence[Reference]
    clusters: Clusters = None
    given: bool = False
    """A ranker of somebody else's: where it has one training, its leads are its own, over queries alone."""

    @cached_property
    def arms(self) -> Mapping[ArmKey, Arm]:
        """Of every recipe that has two trainings at least, all as ensembles of one size."""
        several = {key: runs for key, runs in self.trained.items() if len(runs) > 1}
        size = max(1, min([self.members, *(len(runs) - 1 for runs in several.values())]))
        return {key: recipe_arm(runs, size) for key, runs in several.items()}

    def lead(self, other: Arm | Values, level: float = 0.95) -> Interval | None:
        """nDCG of the finalist's recipe less another's; None with fewer than two trainings, unless it was given."""
        whole = self.arms.get(self.plan.whole)
        if whole is not None:
            return arm_difference(whole, other, self.clusters, level)
        if not self.given:
            return None
        mine = self.artefact.ndcg
        if isinstance(other, Arm):
            return _negative(arm_difference(other, mine, self.clusters, level))
        return mean_interval(mine - other, self.artefact.lists.uneven, clusters=self.clusters, level=level)

    @property
    def size(self) -> int:
        """Members of the ensembles that are compared."""
        whole = self.arms.get(self.plan.whole)
        return whole.k if whole is not None else self.members

    @property
    def artefact(self) -> Outputs:
        """The ranker that would be released: the lowest deciding seeds of the finalist."""
        return ensemble(self.trained[self.plan.whole][: self.members])

    @property
    def base(self) -> Outputs | None:
        """The base recipe as an ensemble of as many."""
        found = self.trained.get(self.plan.base, ())
        return ensemble(found[: self.members]) if found else None


def _negative(interval: Interval) -> Interval:
    """Of the difference the other way round."""
    variance = replace(interval.variance, skew=-interval.variance.skew)
    return replace(interval, mean=-interval.mean, low=-interval.high, high=-interval.low, variance=variance)


def refit_gains(found: Measured, level: float = 0.95) -> dict[str, Interval]:
    """Modality -> nDCG of the finalist's recipe minus that of the same recipe without it, ensembles on both sides."""
    whole, out = found.arms.get(found.plan.whole), {}
    for modality in found.plan.whole.modalities:
        other = found.arms.get(found.plan.without(modality))
        if whole is not None and other is not None:
            out[modality] = arm_difference(whole, other, found.clusters, level)
    return out


def base_refit_gain(found: Measured, level: float = 0.95) -> Interval | None:
    """What the suspect is worth to the base recipe."""
    base, blind = found.arms.get(found.plan.base), found.arms.get(found.plan.without(found.plan.suspect, "base"))
    return arm_difference(base, blind, found.clusters, level) if base is not None and blind is not None else None


def shapley(found: Measured, nothing: Values, level: float = 0.95) -> dict[str, Interval]:
    """Shares of the refitted Shapley values, where every subset was trained; `nothing` `[Q]`: nDCG without any."""
    own = found.plan.whole.modalities
    arms = {frozenset(key.modalities): a for key, a in found.arms.items() if key.of == "finalist"}
    return shapley_shares(own, arms, nothing, clusters=found.clusters, level=level)


def rival_leads(found: Measured, level: float = 0.95) -> dict[str, Lead | None]:
    """Role -> lead of the finalist's recipe over the base recipe, over LambdaMART, over the weighted sum with V1."""
    out: dict[str, Lead | None] = {"base": None, "trees": None, "sum": None}
    if found.plan.whole not in found.arms and not found.given:
        return out
    if found.plan.base == found.plan.whole:
        out["base"] = Lead(rival="the base recipe, which is the finalist", interval=Interval(0.0, 0.0, 0.0))
    elif found.plan.base in found.arms:
        found_lead = found.lead(found.arms[found.plan.base], level)
        if found_lead is not None:
            out["base"] = Lead(rival="the base recipe", interval=found_lead, with_suspect=False)
    for role, wanted in (("trees", "trees"), ("sum", "sum with v1")):
        reference = by_role(found.references, wanted)  # type: ignore[arg-type]
        if reference is not None:
            out[role] = _lead(found, reference, level)
    return out


def _lead(found: Measured, reference: Reference, level: float) -> Lead | None:
    other = arm_of_reference(reference, found.size)
    interval = found.lead(other, level) if other is not None else None
    if interval is None:
        return None
    return Lead(rival=reference.name, interval=interval, with_suspect=reference.sees_suspect)


def arm_of_reference(reference: Reference, members: int) -> Arm | Values | None:
    """Ensembles of as many; V1's own values a query. None where too few trainings are left to tell how they vary."""
    if reference.role == "v1":
        return reference.outputs.ndcg
    return recipe_arm(reference.trainings, members) if len(reference.trainings) > members else None


def fewest_of(arms: Iterable[int], phase: Phase, references: Sequence[Reference]) -> int:
    """The fewest trainings behind anything that decides: `arms` have so many; references of a late phase their own."""
    read = [len(r.trainings) for r in references if r.role in DECIDING and r.measured]
    return min([*arms, *(read if phase.late else [])])


def choose_rivals(found: Measured) -> Chosen:
    """On validation: the strongest blind ranker, the strongest tuned V1, and the better of finalist and base."""
    blind = {name: mean_ndcg(outputs) for name, outputs in _blind(found).items()}
    best = max(blind, key=lambda name: blind[name], default="")
    tuned = {r.name: mean_ndcg(r.outputs) for r in found.references if r.role in TUNED_V1 and r.measured}
    base = found.base
    return Chosen(
        blind=best,
        weight=_v1_weight(found) if best == REFIT_WITH_V1 else 0.0,
        tuned_v1=max(tuned, key=lambda name: tuned[name]) if tuned else "",
        better_is_base=base is not None and mean_ndcg(base) > mean_ndcg(found.artefact),
    )


REFIT = "the same recipe without it"
REFIT_WITH_V1 = f"{REFIT} + V1's score"
BASE_REFIT = "the base recipe without it"


def _blind(found: Measured) -> dict[str, Outputs]:
    """Name -> every ranker that does not read the suspect, as an ensemble; refits also with V1's score added."""
    blind = [r for r in found.references if r.role in (*TUNED_V1, "blind trees") and not r.sees_suspect]
    out = {r.name: r.outputs for r in blind if r.measured}
    runs = found.trained.get(found.plan.without(found.plan.suspect), ())
    if runs:
        refit = ensemble(runs[: found.members])
        out[REFIT] = refit
        if found.plan.suspect not in found.phase.v1_reads:  # else V1's score would bring the suspect in
            with_v1 = _adding_v1(refit.lists, _v1_weight(found))
            out[REFIT_WITH_V1] = Outputs(lists=refit.lists, scores=with_v1(refit.scores))
    base = found.trained.get(found.plan.without(found.plan.suspect, "base"), ())
    if base:
        out[BASE_REFIT] = ensemble(base[: found.members])
    return out


def _v1_weight(found: Measured) -> float:
    """Of V1's score beside the refit without the suspect, tuned on these lists (validation's)."""
    runs = found.trained.get(found.plan.without(found.plan.suspect), ())
    if not runs:
        return 0.0
    refit = ensemble(runs[: found.members])
    return tuned_sum({"refit": refit.scores, "V1": refit.lists.v1}, refit.lists).weights["V1"]


def _adding_v1(lists: Lists, weight: float) -> Callable[[Values], Values]:
    """Scores `[Q, L]` -> the same with V1's score added at this weight."""
    v1 = standardised(lists.v1, lists)
    return lambda scores: (1.0 - weight) * standardised(scores, lists) + weight * v1


def blind_lead(found: Measured, chosen: Chosen, level: float = 0.95) -> Lead | None:
    """The finalist's recipe against the strongest ranker without the suspect, which validation chose."""
    reference = next((r for r in found.references if r.name == chosen.blind), None)
    if reference is not None:
        return _lead(found, reference, level)
    other = _blind_arm(found, chosen)
    interval = found.lead(other, level) if other is not None else None
    return Lead(rival=chosen.blind, interval=interval) if interval is not None else None


def _blind_arm(found: Measured, chosen: Chosen) -> Arm | None:
    """The refit that was chosen, as ensembles of as many; with V1's score it varies by its trainings as without."""
    key = found.plan.without(found.plan.suspect, "base" if chosen.blind == BASE_REFIT else "finalist")
    arm = found.arms.get(key)
    if arm is None or chosen.blind not in (REFIT, REFIT_WITH_V1, BASE_REFIT):
        return None
    if chosen.blind != REFIT_WITH_V1:
        return arm
    runs = found.trained[key]
    return recipe_arm(runs, arm.k, _adding_v1(runs[0].lists, chosen.weight))


def archive_evidence(
    found: Measured,
    chosen: Chosen,
    probes: Sequence[tuple[str, Arm, Arm, bool]],
    alpha: float,
    *,
    listed: Listed | None = None,
) -> ArchiveEvidence:
    """Intervals at the level of an archive rule: a phase's rules share one side of this look's `alpha`.

    `probes`: name, arm with the suspect, arm without it, and whether the probe counts. `listed`: the best of the short
    list, where it is neither the finalist nor the base recipe.
    """
    level = 1.0 - alpha / rules_read(found.phase)
    base = found.base
    better = base if chosen.better_is_base and base is not None else found.artefact
    tuned = next((r for r in found.references if r.name == chosen.tuned_v1), None)
    over_tuned = _better_over(found, chosen, tuned, level) if tuned is not None else None
    drop = quantity(drop_name(found.plan.suspect), (found.plan.suspect,))
    return ArchiveEvidence(
        refit_gain=refit_gains(found, level).get(found.plan.suspect),
        base_refit_gain=refit_gains(found, level).get(found.plan.suspect)
        if found.plan.base == found.plan.whole
        else base_refit_gain(found, level),
        probes=tuple(
            Probe(name=name, gain=arm_difference(with_it, without, found.clusters, level), counts=counts)
            for name, with_it, without, counts in probes
        ),
        ndcg_gain=quantity_interval(quantity("ndcg_gain"), better, clusters=found.clusters, level=level),
        over_tuned_v1=over_tuned,
        best_listed=listed.trial_id if listed is not None else "",
        best_listed_gain=listed_gain(found, listed, level) if listed is not None else None,
        best_listed_over_tuned_v1=_listed_over(found, listed, tuned, level),
        base_drop=quantity_interval(drop, base, clusters=found.clusters, level=level) if base is not None else None,
        drop_rise=_rise(found, base, level),
    )


def listed_gain(found: Measured, listed: Listed, level: float) -> Interval | None:
    """Gain over V1 of a recipe of the short list, by its two or three trainings; None where it has fewer.

    Its spread is that of ensembles of one fewer. The estimate is no less than all of them together gain: smaller
    ensembles gain less, and a rule that ends V2 must not hold for that.
    """
    if len(listed.runs) < 2:
        return None
    together = ensemble(listed.runs)
    interval = arm_difference(recipe_arm(listed.runs, found.size), together.lists.v1_ndcg, found.clusters, level)
    more = max(0.0, quantity("ndcg_gain").estimate(together) - interval.mean)
    return replace(interval, mean=interval.mean + more, low=interval.low + more, high=interval.high + more)


def _listed_over(found: Measured, listed: Listed | None, tuned: Reference | None, level: float) -> Interval | None:
    """The same over the tuned V1, ensembles of as many on both sides."""
    if listed is None or tuned is None or len(listed.runs) < 2:
        return None
    mine = recipe_arm(listed.runs, found.size)
    other = arm_of_reference(tuned, mine.k)
    return arm_difference(mine, other, found.clusters, level) if other is not None else None


def _better_over(found: Measured, chosen: Chosen, tuned: Reference, level: float) -> Interval | None:
    """Lead over the tuned V1 of whichever recipe is the better one: the finalist is chosen for its gates."""
    base = found.arms.get(found.plan.base) if chosen.better_is_base else None
    if base is not None:
        other = arm_of_reference(tuned, base.k)
        return arm_difference(base, other, found.clusters, level) if other is not None else None
    lead = _lead(found, tuned, level)
    return lead.interval if lead is not None else None


def _rise(found: Measured, base: Outputs | None, level: float) -> Interval | None:
    """The artefact's masking drop less the base ensemble's, over the same queries."""
    if base is None:
        return None
    drop = quantity(drop_name(found.plan.suspect), (found.plan.suspect,))
    mine, theirs = drop.influence(found.artefact), drop.influence(base)
    if mine is None or theirs is None:
        return None
    difference = np.asarray(mine - theirs)
    known = np.isfinite(difference)
    groups = None if found.clusters is None else found.clusters[known]
    return query_interval(difference[known], None, groups, level)


def contrast(found: Measured, key: ArmKey, other: ArmKey, level: float = 0.95) -> Interval | None:
    """nDCG of one arm less another's."""
    if key not in found.arms or other not in found.arms:
        return None
    return linear_interval([(1.0, found.arms[key]), (-1.0, found.arms[other])], clusters=found.clusters, level=level)
