"""The rankers that a given V2 is held against, all of trees: a minute's work, and no network is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from fusion_models.data import RankingDataset
from fusion_models.evaluation import Scored, split_lists
from fusion_models.lambdamart import TreeInputs, Trees, TreesError, kept_lambdamart, tree_scores
from fusion_models.metrics import WeightedSum
from fusion_models.quantities import Lists, Outputs, standardised
from search.analysis.measure import tuned_sum
from search.execution.cluster import processors
from search.pipeline.baselines import REFERENCE_SEEDS, TREE_SEEDS, Reference, ReferenceRole, blind_inputs
from spaces import Phase

V1 = "V1"


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """One LambdaMART: its place among the references, and what it reads."""

    role: ReferenceRole
    name: str
    inputs: TreeInputs
    seeds: int
    sees_suspect: bool = False


def references(
    data: RankingDataset, splits: Sequence[str], phase: Phase, modalities: Sequence[str], *, seed: int
) -> dict[str, list[Reference]]:
    """Split -> V1, each modality alone, tuned sums, LambdaMART on everything, without the suspect, and on V1's own.

    All but V1 are LightGBM's LambdaMART, trained on the training split; the sums' weights are tuned on validation,
    which must be among `splits`. Trees that cannot be trained cost themselves: they are not measured.
    """
    wanted = _wanted(phase, modalities)
    trained: dict[str, list[Trees]] = {}
    failed: dict[str, str] = {}
    with ThreadPoolExecutor(processors()) as pool:  # LightGBM trains outside the interpreter's lock
        jobs: dict[TreeInputs, list[Future[Trees]]] = {}
        for one in wanted:  # two that read the same are one
            if one.inputs not in jobs:
                jobs[one.inputs] = [
                    pool.submit(kept_lambdamart, data, one.inputs, seed=seed + i) for i in range(one.seeds)
                ]
        for one in wanted:
            try:
                trained[one.name] = [job.result() for job in jobs[one.inputs]]
            except TreesError as error:
                failed[one.name] = str(error)
    out: dict[str, list[Reference]] = {}
    tuned: dict[ReferenceRole, WeightedSum] = {}
    for split in sorted(splits, key=lambda name: name != "validation"):
        found = [_measured(data, split, one, trained.get(one.name), failed.get(one.name, "")) for one in wanted]
        lists = split_lists(data, split)
        v1 = Reference(
            role="v1", name=V1, trainings=(Outputs(lists=lists, scores=lists.v1),), detail="the production ranker"
        )
        columns = {r.name: r.outputs.scores for r in found if r.role == "single" and r.measured} | {V1: lists.v1}
        tuned = tuned or _tuned(columns, lists, phase)
        singles = [r for r in found if r.role == "single"]
        sums = _sums(columns, lists, tuned, phase)
        out[split] = [v1, *singles, *sums, *(r for r in found if r.role != "single")]
    return out


def _wanted(phase: Phase, modalities: Sequence[str]) -> list[_Wanted]:
    own, suspect = tuple(modalities), phase.suspect
    reads = tuple(m for m in own if m in phase.v1_reads)
    rankers: list[tuple[ReferenceRole, str, TreeInputs]] = [
        ("trees", "LambdaMART", TreeInputs(modalities=own, with_v1=True)),
        (
            "blind trees",
            f"LambdaMART without {suspect}",
            blind_inputs(phase, tuple(m for m in own if m != suspect)),
        ),
        ("tuned v1 trees", "tuned V1 (LambdaMART on V1's own features)", TreeInputs(modalities=reads, with_v1=True)),
    ]
    alone = [
        _Wanted(
            role="single",
            name=_alone(m),
            inputs=TreeInputs(modalities=(m,)),
            seeds=REFERENCE_SEEDS,
            sees_suspect=m == suspect,
        )
        for m in own
    ]
    return alone + [
        _Wanted(role=role, name=name, inputs=seen, seeds=TREE_SEEDS, sees_suspect=suspect in seen.modalities)
        for role, name, seen in rankers
    ]


def _alone(modality: str) -> str:
    return f"{modality} alone"


def _measured(data: RankingDataset, split: str, one: _Wanted, trees: Sequence[Trees] | None, failed: str) -> Reference:
    if trees is None:
        return Reference(role=one.role, name=one.name, trainings=(), detail=f"not measured: {failed}")
    scored: list[Scored] = [tree_scores(each, data, split) for each in trees]
    lists = scored[0].lists()
    return Reference(
        role=one.role,
        name=one.name,
        trainings=tuple(Outputs(lists=lists, scores=s.scores.double().numpy()) for s in scored),
        detail=f"mean of {len(trees)} seeds; the last one: {trees[-1].booster.best_iteration} trees",
        sees_suspect=one.sees_suspect,
    )


def _names(columns: Mapping[str, object], phase: Phase) -> dict[ReferenceRole, tuple[str, list[str]]]:
    """Role of a sum -> its name, and which columns it weighs."""
    alone = [name for name in columns if name != V1]
    own = [name for m in phase.v1_reads if (name := _alone(m)) in columns]
    named = f"tuned V1 (weighted sum with {' and '.join(phase.v1_reads)} alone)"
    wanted: dict[ReferenceRole, tuple[str, list[str]]] = {
        "sum": ("weighted sum", alone),
        "sum with v1": ("weighted sum with V1", [*alone, V1]),
        "tuned v1 sum": (named, [*own, V1]),
    }
    return {role: said for role, said in wanted.items() if len(said[1]) > 1}


def _tuned(columns: Mapping[str, np.ndarray], lists: Lists, phase: Phase) -> dict[ReferenceRole, WeightedSum]:
    return {
        role: tuned_sum({n: columns[n] for n in names}, lists) for role, (_, names) in _names(columns, phase).items()
    }


def _sums(
    columns: Mapping[str, np.ndarray], lists: Lists, tuned: Mapping[ReferenceRole, WeightedSum], phase: Phase
) -> list[Reference]:
    out = []
    for role, (name, _) in _names(columns, phase).items():
        weights = tuned[role].weights
        scores = np.sum([weights[n] * standardised(columns[n], lists) for n in weights], axis=0)
        said = f"weights: {', '.join(f'{n} {weight:.2f}' for n, weight in weights.items())}"
        sees = weights.get(_alone(phase.suspect), 0.0) > 0
        outputs = Outputs(lists=lists, scores=np.asarray(scores))
        out.append(Reference(role=role, name=name, trainings=(outputs,), detail=said, sees_suspect=sees))
    return out
