"""LambdaMARTs of a run: one that two roles name is trained once."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fusion_models.evaluation import Scored
from fusion_models.lambdamart import TreeInputs, TreesError
from search.pipeline import baselines
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
    assert len(trained) == 2 * baselines.TREE_SEEDS
    assert {inputs.modalities for inputs in trained} == {("visual", "text", "metadata"), ("text", "metadata")}
    assert all(inputs.with_v1 for inputs in trained)
    blind, tuned = found["blind trees"], found["tuned v1 trees"]
    assert blind.name != tuned.name
    np.testing.assert_array_equal(blind.outputs.scores, tuned.outputs.scores)
    assert (blind.sees_suspect, tuned.sees_suspect, found["trees"].sees_suspect) == (False, False, True)


def test_a_tuned_v1_of_other_modalities_is_a_ranker_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    _, trained = begun(monkeypatch, ("text",))
    assert len(trained) == 3 * baselines.TREE_SEEDS
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
