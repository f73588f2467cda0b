"""Trains the arms that decide: as many trainings as a verdict needs, then more where validation leaves it open."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fusion_models.config import Recipe
from fusion_models.data.clusters import query_clusters
from fusion_models.evaluation import split_lists
from fusion_models.metrics import Interval
from search.analysis.gates import rival_result, status_of
from search.execution.capacity import concurrency
from search.pipeline.baselines import COLD_STAGE, Reference, replace_failed_singles, single_modality_jobs
from search.pipeline.confirmation.arms import (
    STAGE,
    ArmKey,
    ArmPlan,
    arm_jobs,
    arms_of_others,
    fewest_trainings,
    finished_trainings,
    plan_arms,
    trial_id,
)
from search.pipeline.confirmation.finalist import Finalist
from search.pipeline.confirmation.gathering import Measured, Trained, base_refit_gain, refit_gains, rival_leads
from search.pipeline.confirmation.probing import RunProbes
from search.pipeline.context import Run
from search.run_store.artifacts import OUTPUTS, read_outputs
from search.run_store.job import Job
from search.run_store.looks import has_looked
from search.study.stages import FixedStage
from spaces import Gate

STEPS = (5, 8, 12, 20, 32, 50)
"""Trainings of an arm, step by step, while validation leaves its gate open."""
MOST = 12
"""The last step, unless --max-seeds says otherwise."""
WORTH_IT = 0.2
"""Share of an interval's variance that trainings must make up for more of them to be worth their time."""


@dataclass(frozen=True, kw_only=True)
class Deciding:
    """The arms as they were trained."""

    plan: ArmPlan
    counts: Mapping[ArmKey, int]
    trainings: Mapping[ArmKey, Sequence[str]]
    """Trial ids of the finished ones, by seed."""
    members: int
    ended: str = ""
    """Why no arm has more trainings."""

    @property
    def asked(self) -> int:
        """Trainings in all, finished or not."""
        return sum(self.counts.values())

    @property
    def finished(self) -> int:
        """Those that finished."""
        return sum(map(len, self.trainings.values()))

    @property
    def fewest(self) -> int:
        """Finished trainings of the arm that has fewest."""
        return min(map(len, self.trainings.values()))


def train_deciding_arms(
    run: Run, finalist: Finalist, references: Sequence[Reference], *, cold: bool, probes: RunProbes
) -> Deciding:
    """Train every arm that a gate or a rule reads, and more of those whose gate validation leaves open.

    The arm of the base recipe without the suspect is read by archive rules alone, so it is left out where validation
    says that the finalist surely earns from the suspect; where it is trained, the `probes` measure their power, since
    archive rules read them too. The run's deadline, less what the probes will take, ends the further steps; the first
    one is never cut. Which arms get more is decided on validation: the deciding split stays closed. What was planned
    before, by an earlier verdict or before an interruption, is never left out. What failed by its machine is trained
    again, by the same seeds, unless this verdict has looked at the deciding split already.

    Raises ValueError where trainings were planned on other items, or of another recipe.
    """
    recipe = Recipe.from_flat(finalist.recipe)
    members = len(finalist.seeds)
    looked = has_looked(run.folder, run.data.fingerprint, split=run.deciding, verdict=run.verdict)
    stage = FixedStage(run.store.journal, STAGE, [], again=not looked)
    before = stage.planned()
    _require_same_items(run, before, cold=cold)
    if finalist.arms in arms_of_others(run.phase, recipe, before):
        raise ValueError(
            f"{run.folder.path}: deciding trainings with the ids of {finalist.trial_id}'s were planned for another "
            "recipe, and would count as its own; give the run another --name, or start over with --fresh"
        )
    known = {job.trial_id for job in before}
    first, archive = first_trainings(run, members), False
    steps = () if run.options.confirm_seeds is not None else steps_to(run.options.max_seeds or MOST)

    def planned(counts: Mapping[ArmKey, int]) -> tuple[ArmPlan, dict[ArmKey, int]]:
        plan = plan_arms(run.phase, recipe, is_base=finalist.is_base, archive_open=archive, arms=finalist.arms)
        return plan, {key: counts.get(key, max(first, planned_before(plan, key, known))) for key in plan.recipes}

    plan, counts = planned({})
    while True:
        deciding = _train(run, stage, plan, counts, members, cold=cold)
        if not deciding.trainings[plan.whole]:
            return deciding
        here = on_validation(run, deciding, references)
        if not archive and archive_open(run, here):
            archive = True
            probes.begin_power()
            plan, counts = planned(counts)
            continue
        wanted = open_arms(run, here)
        more = _next_step(counts, wanted, steps)
        if not _affordable(run, sum(more.values()) - sum(counts.values()), probes):
            why = _why_ended({key: counts[key] for key in wanted if key in counts}, more != counts)
            return dataclasses.replace(deciding, ended=why)
        counts = more


def _next_step(counts: Mapping[ArmKey, int], wanted: Container[ArmKey], steps: Iterable[int]) -> dict[ArmKey, int]:
    """The counts at the first step that gives a wanted arm more trainings; as they are where none does."""
    for step in steps:
        more = {key: max(count, step) if key in wanted else count for key, count in counts.items()}
        if more != counts:
            return more
    return dict(counts)


def _why_ended(wanted: Mapping[ArmKey, int], more: bool) -> str:
    """Why arms that are open, by their trainings, got no `more`."""
    if not wanted:
        return "validation leaves nothing open that further trainings could settle"
    if more:
        return "the time budget leaves none for further trainings"
    said = ", ".join(f"{key.slug} {count}" for key, count in sorted(wanted.items()))
    return f"the open arms have all that --max-seeds allows ({said}): give a larger one"


def planned_before(plan: ArmPlan, key: ArmKey, known: Container[str]) -> int:
    """Trainings of an arm that were planned before, by their trial ids."""
    return next(index for index in itertools.count() if trial_id(key, index, plan.arms) not in known)


def _require_same_items(run: Run, before: Sequence[Job], *, cold: bool) -> None:
    """Raises ValueError where trainings were planned on other items: their ids would stand for both."""
    if {job.items for job in before} - {"without cold" if cold else "all"}:
        raise ValueError(
            f"{run.folder.path}: its deciding trainings were begun {'with' if cold else 'without'} the items of new "
            "lists in training; give the --facts (closed_catalogue) of then, or start over with --fresh"
        )


def first_trainings(run: Run, members: int) -> int:
    """Of every arm: what a GO needs, or what --confirm-seeds asks for."""
    asked = run.options.confirm_seeds
    return max(run.phase.confirm_seeds, fewest_trainings(members)) if asked is None else asked


def _train(
    run: Run, stage: FixedStage, plan: ArmPlan, counts: Mapping[ArmKey, int], members: int, *, cold: bool
) -> Deciding:
    journal, stages = run.store.journal, [stage]
    stage.extend(arm_jobs(run.phase, plan, counts, cold=cold))
    if cold:  # sums of single modalities are rivals of these arms, so they are trained on the same items
        stages.append(FixedStage(journal, COLD_STAGE, single_modality_jobs(run.phase, run.options.seed, cold=True)))
    run.trainer.train(stages)
    if cold:
        replace_failed_singles(run, cold=True)
    trainings = finished_trainings(plan, counts, run.trainer.records(STAGE))
    return Deciding(plan=plan, counts=counts, trainings=trainings, members=members)


def on_validation(run: Run, deciding: Deciding, references: Sequence[Reference]) -> Measured:
    """What the deciding trainings say of the validation split, on which everything before the look is decided."""
    lists = split_lists(run.data, "validation")
    trained: Trained = {
        key: [read_outputs(run.folder.checkpoints / t / OUTPUTS, lists) for t in ids]
        for key, ids in deciding.trainings.items()
    }
    return Measured(
        phase=run.phase,
        plan=deciding.plan,
        members=deciding.members,
        trained=trained,
        references=references,
        clusters=query_clusters(run.data, "validation"),
    )


def archive_open(run: Run, found: Measured) -> bool:
    """Whether the rule "nothing to give" may still hold, as far as validation can tell."""
    gain = refit_gains(found).get(run.phase.suspect)
    return gain is None or not gain.low > run.phase.thresholds.nothing_to_give


def open_arms(run: Run, found: Measured) -> set[ArmKey]:
    """Arms of whose difference validation leaves a gate or a rule open, and where more trainings could settle it."""
    gate = Gate(
        name="refit gain", quantity="min_refit_gain", at_least=run.phase.thresholds.nothing_to_give, strict=True
    )
    plan, suspect, wanted = found.plan, run.phase.suspect, set()
    for modality, gain in refit_gains(found).items():
        if modality != suspect and not run.phase.late:
            continue
        if status_of(gate, gain) == "undecided" and _settles(gain):
            wanted |= {plan.whole, plan.without(modality)}
    given = base_refit_gain(found) if archive_open(run, found) else None
    if given is not None and status_of(gate, given) == "undecided" and _settles(given):
        wanted |= {plan.base, plan.without(suspect, "base")}
    lead = rival_leads(found)["base"] if run.phase.late else None
    if lead is not None and rival_result(run.phase, "base", lead).status == "undecided" and _settles(lead.interval):
        wanted |= {plan.whole, plan.base}
    return wanted


def _settles(interval: Interval) -> bool:
    """Whether more trainings could narrow it by what is worth their time."""
    return seeds_share(interval) >= WORTH_IT


def steps_to(most: int) -> tuple[int, ...]:
    """The steps up to `most`, which is the last of them."""
    return (*(step for step in STEPS if step < most), most)


def seeds_share(interval: Interval) -> float:
    """Share of an interval's variance that comes from the trainings."""
    part = interval.variance
    total = part.query + part.seed
    return part.seed / total if math.isfinite(total) and total > 0 else 0.0


def _affordable(run: Run, more: int, probes: RunProbes) -> bool:
    """Whether there are more trainings to make, and so many fit before the deadline, and the probes after them.

    Without a time budget only what is planned is trained.
    """
    if more == 0:
        return False
    if run.deadline is None:
        return run.options.max_seeds is not None
    each = run.trainer.seconds_found(STAGE) / max(1, concurrency(run.options))
    return probes.seconds() + time.monotonic() + each * more < run.deadline
