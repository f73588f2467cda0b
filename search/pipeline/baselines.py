"""The rankers that a fusion must beat, on one split: V1, each modality alone, tuned sums, LambdaMART, a tuned V1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import pandas as pd

from fusion_models.config import Recipe
from fusion_models.evaluation import Scored, score
from fusion_models.lambdamart import TreeInputs, TreesError, kept_lambdamart, tree_scores
from fusion_models.metrics import WeightedSum
from fusion_models.quantities import Lists, Outputs, ensemble, quantity, standardised
from fusion_models.work import told
from search.analysis.measure import Clusters, mean_interval, tuned_sum
from search.execution.file_transfer import DataTicket, ticket_for
from search.execution.job_training import without_cold_items
from search.pipeline.confirmation.test_split import require_finalist
from search.pipeline.context import Run
from search.run_store.artifacts import load_ranker
from search.run_store.job import Job, Role, TrialRecord
from spaces import Phase

ReferenceRole = Literal[
    "v1", "single", "sum", "sum with v1", "trees", "blind trees", "tuned v1 sum", "tuned v1 trees", "base"
]
TUNED_V1: tuple[ReferenceRole, ...] = ("tuned v1 sum", "tuned v1 trees")
"""Rankers on V1's score and V1's own modalities alone: what V1's team could do by tuning."""
REFERENCE_SEEDS = 3
"""Trainings of each single-modality ranker, averaged as an ensemble."""
TREE_SEEDS = 5
"""Trainings of each LambdaMART."""
STAGE = "baselines"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One reference ranker on one split."""

    role: ReferenceRole
    name: str
    trainings: tuple[Outputs, ...]
    """One a seed; a single one where it has no seeds of its own."""
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


def single_modality_jobs(recipe: Recipe, seed: int) -> list[Job]:
    """Each modality alone, over a few seeds: the recipe without any term that needs another one, and without V1."""
    jobs = []
    for modality in recipe.model.modalities:
        alone = recipe.restricted((modality,)).updated({"model.context": "none", "train.start": "fresh"}).flat()
        jobs += [
            Job(
                trial_id=f"alone-{modality}-s{i}",
                name=f"{modality} alone",
                recipe=alone,
                seed=seed + i,
                role=Role("alone", (modality,)),
            )
            for i in range(REFERENCE_SEEDS)
        ]
    return jobs


def tune_sums(run: Run) -> dict[ReferenceRole, WeightedSum]:
    """Weights of the sums, tuned on the validation split, once a run."""
    columns, lists = _columns(run, "validation")
    return {role: tuned_sum({n: columns[n] for n in names}, lists) for role, names in _sums(run, columns).items()}


def reference_rankers(
    run: Run, split: str, tuned: Mapping[ReferenceRole, WeightedSum], *, cold: bool = False
) -> list[Reference]:
    """Every reference on `split`, V1 first; single-modality rankers that failed to train are left out.

    `cold`: the trees are trained without the items that cold lists are read on, as the arms that decide are. Any other
    split than validation raises ClosedError before a finalist is fixed.
    """
    if split != "validation":
        require_finalist(run.folder)
    trees = _begin_trees(run, split, cold=cold)
    columns, lists = _columns(run, split)
    out = [_given("v1", "V1", lists, lists.v1, "the production ranker")]
    suspect = run.phase.suspect
    for name in columns:
        if name != "V1":
            said = f"{REFERENCE_SEEDS} trainings of one fusion ranker with one modality, averaged"
            out.append(_given("single", name, lists, columns[name], said, sees=name == _alone(suspect)))
    for role, names in _sums(run, columns).items():
        weights = tuned[role].weights
        if set(weights) != set(names):
            continue
        scores = np.sum([weights[n] * standardised(columns[n], lists) for n in names], axis=0)
        said = f"weights: {', '.join(f'{name} {weight:.2f}' for name, weight in weights.items())}"
        sees = weights.get(_alone(suspect), 0.0) > 0
        out.append(_given(role, _SUM_NAMES[role].format(_joined(run.phase.v1_reads)), lists, scores, said, sees=sees))
    return [*out, *(tree() for tree in told(f"LambdaMART ({split})", trees))]


_SUM_NAMES: dict[ReferenceRole, str] = {
    "sum": "weighted sum",
    "sum with v1": "weighted sum with V1",
    "tuned v1 sum": "tuned V1 (weighted sum with {} alone)",
}


def _alone(modality: str) -> str:
    """What the ranker of one modality is called."""
    return f"{modality} alone"


def _given(role: ReferenceRole, name: str, lists: Lists, scores: Any, detail: str, *, sees: bool = False) -> Reference:
    outputs = Outputs(lists=lists, scores=np.asarray(scores, dtype=np.float64))
    return Reference(role=role, name=name, trainings=(outputs,), detail=detail, sees_suspect=sees)


def _columns(run: Run, split: str) -> tuple[dict[str, Any], Lists]:
    """Scores `[Q, L]` of each modality alone (its trainings as one ensemble) and of V1, by name."""
    by_name: dict[str, list[TrialRecord]] = {}
    for record in run.trainer.records(STAGE):
        if record.finished:
            by_name.setdefault(_alone(record.role.modalities[0]), []).append(record)
    columns: dict[str, Any] = {}
    scored: Scored | None = None
    for name, records in by_name.items():
        members = []
        for record in records:
            scored = score(load_ranker(run.folder.checkpoints / record.trial_id, run.data), run.data, split)
            members.append(Outputs(lists=scored.lists(), scores=scored.scores.double().numpy()))
        columns[name] = ensemble(members).scores
    assert scored is not None, "a run without a reference ranker ends before this"
    lists = scored.lists()
    return columns | {"V1": lists.v1}, lists


def _sums(run: Run, columns: Mapping[str, Any]) -> dict[ReferenceRole, list[str]]:
    """Which columns each weighted sum may use."""
    alone = [name for name in columns if name != "V1"]
    own = [name for m in run.phase.v1_reads if (name := _alone(m)) in columns]
    wanted: dict[ReferenceRole, list[str]] = {"sum": alone, "sum with v1": [*alone, "V1"], "tuned v1 sum": [*own, "V1"]}
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
    return [run.options.seed + i for i in range(TREE_SEEDS)]


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
