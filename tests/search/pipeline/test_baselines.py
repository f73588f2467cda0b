"""References of a run: LambdaMARTs that two roles name are trained once; weighted sums are rankers with seeds."""

import dataclasses
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from outputs import MODALITIES, random_lists, random_outputs
from run_context import run_in
from told_trainer import ToldTrainer

from fusion_models.evaluation import Scored
from fusion_models.lambdamart import TreeInputs, TreesError
from fusion_models.quantities import ensemble, standardised
from search.options import RunOptions
from search.pipeline import baselines
from search.pipeline.baselines import V1, sum_reference
from search.run_store.folder import RunFolder
from search.study.stages import FixedStage
from spaces import PHASES


def begun(monkeypatch: pytest.MonkeyPatch, v1_reads: tuple[str, ...], *, fails: bool = False) -> tuple[Any, list[Any]]:
    trained: list[TreeInputs] = []

    def trees(ticket: Any, split: str, inputs: TreeInputs, seed: int, cold: bool) -> tuple[Scored, str]:
        trained.append(inputs)
        if fails:
            raise TreesError("too long")
        scores = torch.full((3, 2), float(seed + len(inputs.modalities)))
        valid = torch.ones(3, 2, dtype=torch.bool)
        scored = Scored(rows=np.arange(3), scores=scores, labels=scores, v1=scores, valid=valid)
        return scored, "10 trees"

    monkeypatch.setattr(baselines, "_trees", trees)
    monkeypatch.setattr(baselines, "ticket_for", lambda data: None)
    phase = SimpleNamespace(base=PHASES["phase3"].base, suspect="visual", v1_reads=v1_reads)
    run: Any = SimpleNamespace(
        phase=phase, data=None, trainer=SimpleNamespace(keeps_processes=False), options=SimpleNamespace(seed=0)
    )
    return {
        found.role: found for found in (each() for each in baselines._begin_trees(run, "test", cold=False))
    }, trained


def test_a_tuned_v1_that_reads_all_but_the_suspect_is_trained_once_with_the_trees_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, trained = begun(monkeypatch, ("metadata", "text"))
    assert len(trained) == 2 * 5
    assert {inputs.modalities for inputs in trained} == {("visual", "text", "metadata"), ("text", "metadata")}
    assert all(inputs.with_v1 for inputs in trained)
    blind, tuned = found["blind trees"], found["tuned v1 trees"]
    assert blind.name != tuned.name
    np.testing.assert_array_equal(blind.outputs.scores, tuned.outputs.scores)
    assert (blind.sees_suspect, tuned.sees_suspect, found["trees"].sees_suspect) == (False, False, True)


def test_a_tuned_v1_of_other_modalities_is_a_ranker_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    _, trained = begun(monkeypatch, ("text",))
    assert len(trained) == 3 * 5
    assert ("text",) in {inputs.modalities for inputs in trained}


def test_where_v1_reads_the_suspect_trees_without_it_lack_v1_s_score_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the suspect comes in by V1, and V2 cannot lead over a ranker "without" it."""
    _, trained = begun(monkeypatch, ("visual", "text"))
    assert {inputs.modalities: inputs.with_v1 for inputs in trained} == {
        ("visual", "text", "metadata"): True,
        ("text", "metadata"): False,
        ("visual", "text"): True,
    }


def test_trees_that_cannot_be_trained_cost_themselves_in_both_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = begun(monkeypatch, ("text", "metadata"), fails=True)
    assert [found[role].measured for role in ("trees", "blind trees", "tuned v1 trees")] == [False] * 3
    assert found["tuned v1 trees"].detail == "not measured: too long"


LISTS = random_lists()
SINGLES = {
    f"{m} alone": tuple(random_outputs(LISTS, seed=10 * place + s, noise=2.0) for s in range(5))
    for place, m in enumerate(MODALITIES)
}


def summed(weights: dict[str, float], v1_reads: tuple[str, ...] = ("text", "metadata"), **fewer: int) -> Any:
    phase = dataclasses.replace(PHASES["phase3"], v1_reads=v1_reads)
    singles = {name: runs[: fewer.get(name.split()[0], 5)] for name, runs in SINGLES.items()}
    return sum_reference("sum with v1", "weighted sum with V1", singles, weights, LISTS, phase)


def test_a_weighted_sum_is_a_ranker_a_seed_whose_ensemble_is_the_sum_of_the_ensembles() -> None:
    """One fixed sum of ensembles has no seeds of its own: its lead would be as narrow as if it never varied."""
    weights = {"visual alone": 0.2, "text alone": 0.4, "metadata alone": 0.1, V1: 0.3}
    found = summed(weights)
    assert len(found.trainings) == 5
    columns = {name: ensemble(runs).scores for name, runs in SINGLES.items()} | {V1: LISTS.v1}
    whole = np.sum([weights[name] * standardised(columns[name], LISTS) for name in weights], axis=0)
    ranks = standardised(found.outputs.scores, LISTS)[LISTS.valid], standardised(whole, LISTS)[LISTS.valid]
    assert np.corrcoef(*ranks)[0, 1] > 0.99
    assert np.nanmean(found.outputs.ndcg) == pytest.approx(np.nanmean(LISTS.ndcg(whole)), abs=0.01)


def test_a_weighted_sum_has_as_many_trainings_as_the_modality_that_has_fewest() -> None:
    weights = {"visual alone": 0.3, "text alone": 0.7}
    assert len(summed(weights, visual=2).trainings) == 2
    assert len(summed(weights, metadata=2).trainings) == 5, "which is not in this sum"


@pytest.mark.parametrize(
    ("weights", "v1_reads", "sees"),
    [
        ({"visual alone": 0.2, "text alone": 0.8}, ("text",), True),
        ({"visual alone": 0.0, "text alone": 0.6, V1: 0.4}, ("text",), False),
        ({"text alone": 0.6, V1: 0.4}, ("text", "visual"), True),
        ({"text alone": 1.0, V1: 0.0}, ("text", "visual"), False),
        ({"text alone": 0.6, V1: 0.4}, ("text",), False),
    ],
)
def test_a_sum_sees_the_suspect_by_its_own_ranker_or_by_a_v1_that_reads_it(
    weights: dict[str, float], v1_reads: tuple[str, ...], sees: bool
) -> None:
    assert summed(weights, v1_reads).sees_suspect is sees


@pytest.mark.parametrize("cold", [False, True])
def test_a_failed_training_of_a_modality_alone_is_replaced_by_one_more_seed(tmp_path, small_data, cold):
    """With one fewer than a rival needs, the weighted sum would never be measured, and no verdict could be GO."""
    phase = PHASES["phase3"]
    made = run_in(RunFolder(tmp_path), RunOptions(phase="phase3", max_concurrent=1), phase, small_data)
    trainer = ToldTrainer(made.store, phase, small_data, made.options, made.console)
    trainer.fails = lambda job: job.name == "text alone" and job.trial_id.endswith(("s0", "s5"))
    run = dataclasses.replace(made, trainer=trainer)
    name = baselines.COLD_STAGE if cold else baselines.STAGE
    jobs = baselines.single_modality_jobs(phase, 0, cold=cold)
    trainer.train([FixedStage(made.store.journal, name, jobs)])
    baselines.replace_failed_singles(run, cold=cold)
    finished = Counter(r.name for r in trainer.records(name) if r.finished)
    assert finished == {"visual alone": 5, "text alone": 5, "metadata alone": 5}
    count = len(trainer.records(name))
    baselines.replace_failed_singles(run, cold=cold)
    assert len(trainer.records(name)) == count == 17


def test_a_modality_that_always_fails_costs_three_spare_trainings(tmp_path, small_data):
    phase = PHASES["phase3"]
    made = run_in(RunFolder(tmp_path), RunOptions(phase="phase3", max_concurrent=1), phase, small_data)
    trainer = ToldTrainer(made.store, phase, small_data, made.options, made.console)
    trainer.fails = lambda job: job.name == "text alone"
    trainer.train([FixedStage(made.store.journal, baselines.STAGE, baselines.single_modality_jobs(phase, 0))])
    baselines.replace_failed_singles(dataclasses.replace(made, trainer=trainer))
    assert Counter(r.name for r in trainer.records(baselines.STAGE))["text alone"] == 5 + baselines.SPARES
