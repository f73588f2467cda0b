"""What is read on cold lists of the deciding split: nothing, where too few of them count."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from outputs import random_lists, random_outputs

from fusion_models.data.views.cold import ColdLists
from fusion_models.quantities import Lists
from search.pipeline.confirmation import cold
from search.pipeline.confirmation.arms import plan_arms
from search.pipeline.confirmation.gathering import Measured
from search.run_store.facts import Facts
from search.run_store.looks import Look
from spaces import PHASES

PHASE = PHASES["phase3"]
PLAN = plan_arms(PHASE, PHASE.base, is_base=False)
KEPT = np.arange(10, 16)


def read(monkeypatch: pytest.MonkeyPatch, weight: Any) -> cold.Cold:
    """Six cold lists, each of the first four candidates of a query, with these weights."""
    every = np.ones(60)
    every[KEPT] = weight
    plain = random_lists()
    lists = Lists(rows=plain.rows, labels=plain.labels, v1=plain.v1, valid=plain.valid, weight=every)
    position = torch.arange(4).expand(6, 4)
    found = ColdLists(kept=KEPT, position=position, valid=torch.ones(6, 4, dtype=torch.bool), queries=60)
    monkeypatch.setattr(cold, "cold_items", lambda data, suspect: None)
    monkeypatch.setattr(cold, "cold_lists", lambda data, split, items: found)
    trained = {key: [random_outputs(lists, seed=s) for s in range(3)] for key in PLAN.recipes}
    whole = Measured(phase=PHASE, plan=PLAN, members=2, trained=trained, references=())
    run: Any = SimpleNamespace(data=None, phase=PHASE)
    return cold.read_cold(run, whole, Look(number=1), needed=True)


@pytest.mark.parametrize(("weight", "queries"), [(0.0, 0), ([0, 0, 2, 0, 0, 0], 1)])
def test_cold_lists_that_do_not_count_are_not_measured(
    monkeypatch: pytest.MonkeyPatch, weight: Any, queries: int
) -> None:
    """They had stopped the run after its look was counted."""
    found = read(monkeypatch, weight)
    assert (found.needed, found.queries, found.gain, found.refit_gain) == (True, queries, None, {})


def test_cold_lists_that_count_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(monkeypatch, [0, 1, 2, 1, 1, 1])
    assert found.queries == 5
    assert found.gain is not None
    assert set(found.refit_gain) == {"visual", "text", "metadata"}


@pytest.mark.parametrize(
    ("phase", "deciding", "closed", "expected"),
    [
        ("phase3", "test", None, True),
        ("phase3", "test", True, False),
        ("phase3", "deciding", None, False),
        ("phase1", "test", None, False),
    ],
)
def test_a_plan_asks_validation_s_items_and_leaves_the_test_split_closed(
    monkeypatch: pytest.MonkeyPatch, phase: str, deciding: str, closed: bool | None, expected: bool
) -> None:
    asked = []
    monkeypatch.setattr(cold, "items_recur", lambda data, split, suspect: asked.append(split) or True)
    run: Any = SimpleNamespace(data=None, phase=PHASES[phase], deciding=deciding)
    facts = Facts(closed_catalogue=closed)
    assert cold.expects_cold_lists(run, facts) == expected == cold.needs_cold_lists(run, facts)
    assert asked == (["validation", "test"] if expected else [])
