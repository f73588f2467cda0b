"""The rankers that a fusion must beat, on one split: V1, each modality alone, tuned sums, LambdaMART, a tuned V1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pandas as pd

from fusion_models.evaluation import Scored, score, split_lists
from fusion_models.lambdamart import TreeInputs, TreesError, kept_lambdamart, tree_scores
from fusion_models.metrics import WeightedSum
from fusion_models.quantities import Lists, Outputs, ensemble, quantity
from fusion_models.work import told
from search.analysis.measure import Clusters, mean_interval, sum_trainings, tuned_sum
from search.execution.file_transfer import DataTicket, ticket_for
from search.execution.job_training import without_cold_items
from search.pipeline.confirmation.arms import fewest_trainings
from search.pipeline.confirmation.test_split import require_finalist
from search.pipeline.context import Run
from search.run_store.artifacts import load_ranker
from search.run_store.job import Job, Role, TrialRecord
from search.study.stages import FixedStage
from spaces import Phase

ReferenceRole = Literal[
    "v1", "single", "sum", "sum with v1", "trees", "blind trees", "tuned v1 sum", "tuned v1 trees", "base"
]
TUNED_V1: tuple[ReferenceRole, ...] = ("tuned v1 sum", "tuned v1 trees")
"""Rankers on V1's score and V1's own modalities alone: what V1's team could do by tuning."""
STAGE = "baselines"
COLD_STAGE = "baselines without cold"
"""Single modalities trained again, as all that decides is, without the items that cold lists are read on."""
V1 = "V1"
SPARES = 3
"""Further seeds of a modality alone, at the most, in the place of trainings that failed."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One reference ranker on one split."""

    role: ReferenceRole
    name: str
    trainings: tuple[Outputs, ...]
    """One a seed; V1, which has no seeds, is a single one."""
    detail: str = ""
    sees_suspect: bool = False

    @property
    def measured(self) -> bool:
        """Whether it ranked anything: trees that could not be trained cost themselves, never the run."""
        return bool(self.trainings)

    @property
    def outputs(self) -> Outputs:
        """All of its trainings as one ranker."""
        return ensemble(self.trainings)


def reference_seeds(phase: Phase) -> int:
    """Trainings of each reference: as many as an arm that decides has, for rivals decide like arms."""
    return fewest_trainings(phase.base.train.members)


def single_modality_jobs(
    phase: Phase, seed: int, *, cold: bool = False, spare: Mapping[str, int] = MappingProxyType({})
) -> list[Job]:
    """Each modality alone, over a few seeds: the recipe without any term that needs another one, and without V1.

    `cold`: without the items that cold lists are read on. `spare`: further seeds of a modality.
    """
    jobs, recipe = [], phase.reference_recipe()
    for modality in recipe.model.modalities:
        alone = recipe.restricted((modality,)).updated({"model.context": "none", "train.start": "fresh"}).flat()
        jobs += [
            Job(
                trial_id=f"alone-{modality}-{'cold-' if cold else ''}s{i}",
                name=_alone(modality),
                recipe=alone,
                seed=seed + i,
                items="without cold" if cold else "all",
                role=Role("alone", (modality,)),
            )
            for i in range(reference_seeds(phase) + spare.get(modality, 0))
        ]
    return jobs


def replace_failed_singles(run: Run, *, cold: bool = False) -> None:
    """Train a further seed for each training of a modality alone that failed, `SPARES` of each at the most.

    With one fewer than a rival needs, a weighted sum would never be measured.
    """
    stage = COLD_STAGE if cold else STAGE
    while True:
        failed = Counter(r.role.modalities[0] for r in run.trainer.records(stage) if r.state == "failed")
        if not failed:
            return
        spare = {modality: min(count, SPARES) for modality, count in failed.items()}
        jobs = single_modality_jobs(run.phase, run.options.seed, cold=cold, spare=spare)
        further = FixedStage(run.store.journal, stage, jobs, earlier=None if cold else run.earlier)
        if further.left <= 0:
            return
        run.trainer.train([further])


def tune_sums(run: Run) -> dict[ReferenceRole, WeightedSum]:
    """Weights of the sums, tuned on the validation split, once a run."""
    singles, lists = _singles(run, "validation")
    scores = {name: ensemble(runs).scores for name, runs in singles.items()} | {V1: lists.v1}
    return {role: tuned_sum({n: scores[n] for n in names}, lists) for role, names in _sums(run, singles).items()}


def reference_rankers(
    run: Run, split: str, tuned: Mapping[ReferenceRole, WeightedSum], *, cold: bool = False
) -> list[Reference]:
    """Every reference on `split`, V1 first; single-modality rankers that failed to train are left out.

    `cold`: trees and single modalities are those trained without the items that cold lists are read on, as the arms
    that decide are. Any other split than validation raises ClosedError before a finalist is fixed.
    """
    if split != "validation":
        require_finalist(run.folder)
    trees = _begin_trees(run, split, cold=cold)
    singles, lists = _singles(run, split, cold=cold)
    v1 = Outputs(lists=lists, scores=np.asarray(lists.v1, dtype=np.float64))
    out = [Reference(role="v1", name=V1, trainings=(v1,), detail="the production ranker")]
    suspect = run.phase.suspect
    for name, runs in singles.items():
        said = f"{len(runs)} trainings of one fusion ranker with one modality, averaged"
        sees = name == _alone(suspect)
        out.append(Reference(role="single", name=name, trainings=runs, detail=said, sees_suspect=sees))
    for role, names in _sums(run, singles).items():
        if role in tuned and set(tuned[role].weights) == set(names):
            name = _SUM_NAMES[role].format(_joined(run.phase.v1_reads))
            out.append(sum_reference(role, name, singles, tuned[role].weights, lists, run.phase))
    return [*out, *(tree() for tree in told(f"LambdaMART ({split})", trees))]


def sum_reference(
    role: ReferenceRole,
    name: str,
    singles: Mapping[str, Sequence[Outputs]],
    weights: Mapping[str, float],
    lists: Lists,
    phase: Phase,
) -> Reference:
    """A weighted sum of single-modality rankers and, where it has a weight, of V1's score, as one ranker a seed.

    It sees the suspect by the suspect's own ranker, or by V1's score where V1 reads the suspect.
    """
    count = min((len(runs) for n, runs in singles.items() if n in weights), default=1)
    v1 = Outputs(lists=lists, scores=np.asarray(lists.v1, dtype=np.float64))
    columns = {n: [v1] * count if n == V1 else singles[n] for n in weights}
    bringing = [_alone(phase.suspect), *([V1] if phase.suspect in phase.v1_reads else [])]
    said = ", ".join(f"{n} {weight:.2f}" for n, weight in weights.items())
    return Reference(
        role=role,
        name=name,
        trainings=sum_trainings(columns, weights, lists),
        detail=f"mean of {count} seeds; weights: {said}",
        sees_suspect=any(weights.get(n, 0.0) > 0 for n in bringing),
    )


_SUM_NAMES: dict[ReferenceRole, str] = {
    "sum": "weighted sum",
    "sum with v1": "weighted sum with V1",
    "tuned v1 sum": "tuned V1 (weighted sum with {} alone)",
}


def _alone(modality: str) -> str:
    """What the ranker of one modality is called."""
    return f"{modality} alone"


def _singles(run: Run, split: str, *, cold: bool = False) -> tuple[dict[str, tuple[Outputs, ...]], Lists]:
    """What the finished trainings of each modality alone said of a split, by name, and its lists."""
    by_name: dict[str, list[TrialRecord]] = {}
    for record in run.trainer.records(COLD_STAGE if cold else STAGE):
        if record.finished:
            by_name.setdefault(_alone(record.role.modalities[0]), []).append(record)
    out: dict[str, tuple[Outputs, ...]] = {}
    for name, records in by_name.items():
        runs = []
        for record in records:
            scored = score(load_ranker(run.folder.checkpoints / record.trial_id, run.data), run.data, split)
            runs.append(Outputs(lists=scored.lists(), scores=scored.scores.double().numpy()))
        out[name] = tuple(runs)
    lists = next((runs[0].lists for runs in out.values()), None)
    return out, lists if lists is not None else split_lists(run.data, split)


def _sums(run: Run, singles: Mapping[str, object]) -> dict[ReferenceRole, list[str]]:
    """Which columns each weighted sum may use."""
    alone = [*singles]
    own = [name for m in run.phase.v1_reads if (name := _alone(m)) in singles]
    wanted: dict[ReferenceRole, list[str]] = {"sum": alone, "sum with v1": [*alone, V1], "tuned v1 sum": [*own, V1]}
    return {role: names for role, names in wanted.items() if len(names) > 1}


def _begin_trees(run: Run, split: str, *, cold: bool) -> list[Callable[[], Reference]]:
    """LambdaMART on everything, without the suspect, and on what V1 reads, with V1's score as an input."""
    phase = run.phase
    modalities = phase.base.model.modalities
    blind = tuple(m for m in modalities if m != phase.suspect)
    reads = tuple(m for m in modalities if m in phase.v1_reads)
    wanted: list[tuple[ReferenceRole, str, TreeInputs]] = [
        ("trees", "LambdaMART", TreeInputs(modalities=modalities, with_v1=True)),
        ("blind trees", f"LambdaMART without {phase.suspect}", blind_inputs(phase, blind)),
        ("tuned v1 trees", "tuned V1 (LambdaMART on V1's own features)", TreeInputs(modalities=reads, with_v1=True)),
    ]
    ticket, call = ticket_for(run.data), run.trainer.call if run.trainer.keeps_processes else _now
    # Where V1 reads all but the suspect, a tuned V1 and trees without the suspect are one ranker: trained once.
    held = phase.suspect if cold else None
    answers = {
        seen: [cache(call(_trees, ticket, split, seen, seed, held)) for seed in _seeds(run)]
        for seen in dict.fromkeys(seen for *_, seen in wanted)
    }
    return [
        _Trees(role=role, name=name, sees=phase.suspect in seen.modalities, answers=answers[seen])
        for role, name, seen in wanted
    ]


def blind_inputs(phase: Phase, modalities: tuple[str, ...]) -> TreeInputs:
    """Of trees without the suspect. Where V1 reads the suspect its score would bring it in, so they lack it too."""
    return TreeInputs(modalities=modalities, with_v1=phase.suspect not in phase.v1_reads)


def _now(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """A call where no other process could make it."""
    return partial(function, *arguments)


@dataclass(frozen=True, kw_only=True)
class _Trees:
    """Trainings of one LambdaMART under way; calling it waits for them."""

    role: ReferenceRole
    name: str
    sees: bool
    answers: Sequence[Callable[[], tuple[Scored, str]]]

    def __call__(self) -> Reference:
        try:
            found = [answer() for answer in self.answers]
        except TreesError as error:
            return Reference(role=self.role, name=self.name, trainings=(), detail=f"not measured: {error}")
        lists = found[0][0].lists()
        trainings = tuple(Outputs(lists=lists, scores=scored.scores.double().numpy()) for scored, _ in found)
        said = f"mean of {len(trainings)} seeds; the last one: {found[-1][1]}"
        return Reference(role=self.role, name=self.name, trainings=trainings, detail=said, sees_suspect=self.sees)


def _seeds(run: Run) -> list[int]:
    return [run.options.seed + i for i in range(reference_seeds(run.phase))]


def _trees(ticket: DataTicket, split: str, inputs: TreeInputs, seed: int, cold: str | None) -> tuple[Scored, str]:
    """`cold`: the suspect, where the trees are trained without the items that cold lists are read on."""
    data = ticket.open()
    seen = without_cold_items(ticket, cold) if cold else data
    rows = seen.rows("train")
    trees = kept_lambdamart(seen, inputs, seed=seed)
    said = f"{trees.booster.best_iteration} trees, {trees.queries} of {len(rows)} training queries"
    if trees.too_long:
        said += f"; {trees.too_long} with too many candidates for LightGBM left out"
    return tree_scores(trees, data, split), said


def by_role(references: Sequence[Reference], role: ReferenceRole) -> Reference | None:
    """The reference in this role."""
    return next((r for r in references if r.role == role and r.measured), None)


def _joined(names: Sequence[str]) -> str:
    return " and ".join(names)


def reference_table(
    references: Sequence[Reference], *, clusters: Clusters = None, split: str = "validation"
) -> pd.DataFrame:
    """role, name, split, ndcg, gain over V1 with CI95 (over queries), V1 correlation, detail."""
    return pd.DataFrame([_row(reference, clusters, split) for reference in references])


def _row(reference: Reference, clusters: Clusters, split: str) -> dict[str, Any]:
    row: dict[str, Any] = {"name": reference.name, "role": reference.role, "split": split}
    numbers = ("ndcg", "ndcg_gain", "ndcg_gain_ci_low", "ndcg_gain_ci_high", "v1_correlation")
    row |= dict.fromkeys(numbers, np.nan) | {"detail": reference.detail}
    if not reference.measured:
        return row
    outputs = reference.outputs
    interval = mean_interval(outputs.ndcg - outputs.lists.v1_ndcg, outputs.lists.uneven, clusters=clusters)
    return row | {
        "ndcg": quantity("ndcg").estimate(outputs),
        "ndcg_gain": quantity("ndcg_gain").estimate(outputs),
        "ndcg_gain_ci_low": interval.low,
        "ndcg_gain_ci_high": interval.high,
        "v1_correlation": quantity("v1_correlation").estimate(outputs),
    }
