"""The rankers that a given V2 is held against, all of trees: a minute's work, and no network is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from fusion_models.data import RankingDataset
from fusion_models.evaluation import Scored, split_lists
from fusion_models.lambdamart import TreeInputs, Trees, TreesError, kept_lambdamart, tree_scores
from fusion_models.metrics import WeightedSum
from fusion_models.quantities import Lists, Outputs, ensemble
from search.analysis.measure import tuned_sum
from search.execution.cluster import processors
from search.pipeline.baselines import V1, Reference, ReferenceRole, blind_inputs, sum_reference
from search.pipeline.confirmation.arms import fewest_trainings
from spaces import Phase


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """One LambdaMART: its place among the references, and what it reads."""

    role: ReferenceRole
    name: str
    inputs: TreeInputs
    sees_suspect: bool = False


def references(
    data: RankingDataset, splits: Sequence[str], phase: Phase, modalities: Sequence[str], *, seed: int, members: int
) -> dict[str, list[Reference]]:
    """Split -> V1, each modality alone, tuned sums, LambdaMART on everything, without the suspect, and on V1's own.

    All but V1 are LightGBM's LambdaMART, trained on the training split; the sums' weights are tuned on validation,
    which must be among `splits`. Each is trained as often as a deciding arm, where the released V2 averages `members`
    trainings. Trees that cannot be trained cost themselves: they are not measured.
    """
    wanted = _wanted(phase, modalities)
    trained: dict[str, list[Trees]] = {}
    failed: dict[str, str] = {}
    with ThreadPoolExecutor(processors()) as pool:  # LightGBM trains outside the interpreter's lock
        jobs: dict[TreeInputs, list[Future[Trees]]] = {}
        for one in wanted:  # two that read the same are one
            if one.inputs not in jobs:
                jobs[one.inputs] = [
                    pool.submit(kept_lambdamart, data, one.inputs, seed=seed + i)
                    for i in range(fewest_trainings(members))
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
        singles = [r for r in found if r.role == "single"]
        alone = {r.name: r.trainings for r in singles if r.measured}
        tuned = tuned or _tuned(alone, lists, phase)
        sums = [
            sum_reference(role, name, alone, tuned[role].weights, lists, phase)
            for role, (name, _) in _names(alone, phase).items()
        ]
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
            sees_suspect=m == suspect,
        )
        for m in own
    ]
    return alone + [
        _Wanted(role=role, name=name, inputs=seen, sees_suspect=suspect in seen.modalities)
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


def _names(alone: Mapping[str, object], phase: Phase) -> dict[ReferenceRole, tuple[str, list[str]]]:
    """Role of a sum -> its name, and which columns it weighs."""
    own = [name for m in phase.v1_reads if (name := _alone(m)) in alone]
    named = f"tuned V1 (weighted sum with {' and '.join(phase.v1_reads)} alone)"
    wanted: dict[ReferenceRole, tuple[str, list[str]]] = {
        "sum": ("weighted sum", [*alone]),
        "sum with v1": ("weighted sum with V1", [*alone, V1]),
        "tuned v1 sum": (named, [*own, V1]),
    }
    return {role: said for role, said in wanted.items() if len(said[1]) > 1}


def _tuned(alone: Mapping[str, Sequence[Outputs]], lists: Lists, phase: Phase) -> dict[ReferenceRole, WeightedSum]:
    scores = {name: ensemble(runs).scores for name, runs in alone.items()} | {V1: lists.v1}
    return {role: tuned_sum({n: scores[n] for n in names}, lists) for role, (_, names) in _names(alone, phase).items()}
