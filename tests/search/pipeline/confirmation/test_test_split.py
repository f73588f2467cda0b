"""The test split opens in one module, after a finalist is fixed."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest

import fusion_models
import search
from fusion_models.data import open_dataset
from fusion_models.training import start, train
from search.pipeline.baselines import reference_rankers
from search.pipeline.confirmation.test_split import (
    ClosedError,
    open_chance,
    open_clusters,
    open_contribution,
    open_test_split,
)
from search.pipeline.context import Run
from search.run_store.artifacts import measure, read_queries, write_finished
from search.run_store.folder import RunFolder
from search.run_store.job import Job
from search.run_store.looks import DECIDING_HALF, DECIDING_SPLIT, count_look
from spaces import PHASES

ALLOWED = {"opening.py"}
LABELLED = {"write_evidence"}
"""Calls that take the split's name only to write it down."""
TRAINED = ("training/*.py", "losses/*.py", "evaluation.py", "latency.py", "baselines.py", "contribution.py")


def calls(path):
    """Every call of a module with its plain arguments: constants, and names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            given = [*node.args, *(k.value for k in node.keywords)]
            constants = {a.value for a in given if isinstance(a, ast.Constant)}
            yield node, constants, {a.id for a in given if isinstance(a, ast.Name)}


def test_no_other_module_names_a_deciding_split():
    others = [p for p in Path(search.__file__).parent.glob("*.py") if p.name not in ALLOWED]
    others += [p for pattern in TRAINED for p in Path(fusion_models.__file__).parent.glob(pattern)]
    assert len(others) > 20
    for path in others:
        for node, constants, names in calls(path):
            assert {"test", "deciding"}.isdisjoint(constants), f"{path.name}:{node.lineno} hands {constants} to a call"
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            assert called in LABELLED or "DECIDING_SPLIT" not in names, (
                f"{path.name}:{node.lineno} opens the test split"
            )


def test_closed_without_a_finalist(tmp_path):
    folder = RunFolder(tmp_path)
    run = Run(None, None, None, None, folder, None)
    for opened in (
        lambda: open_test_split(folder, None, ["confirm-t0001-s0"]),
        lambda: open_contribution(folder, None, "confirm-t0001-s0"),
        lambda: open_chance(folder, None),
        lambda: open_clusters(folder, None),
        lambda: reference_rankers(run, DECIDING_SPLIT),
    ):
        with pytest.raises(ClosedError, match=r"no finalist\.json"):
            opened()


def test_the_half_that_decides_is_opened_after_a_finalist_and_holds_none_of_the_search_s_queries(tmp_path, shared_ray):
    data = open_dataset("planted?queries=160&candidates=8#halved")
    recipe = PHASES["phase1"].base.updated({"model.layers": 1, "model.width": 16, "train.epochs": 1})
    job = Job(trial_id="confirm-t0001-s0", name="t0001", recipe=recipe.flat(), seed=0)
    state = start(recipe, data, seed=0)
    for _ in train(state, data):
        pass
    folder = RunFolder(tmp_path)
    place = folder.checkpoints / job.trial_id
    write_finished(measure(state, data, job), state, data, job, place)
    with pytest.raises(ClosedError, match=r"no finalist\.json"):
        open_test_split(folder, data, [job.trial_id], split=DECIDING_HALF)()
    assert not (place / "deciding.npz").exists()
    (tmp_path / "finalist.json").write_text("{}")
    found = open_test_split(folder, data, [job.trial_id], split=DECIDING_HALF)()[job.trial_id]
    assert np.array_equal(found["rows"], data.rows("deciding"))
    assert set(found["rows"]).isdisjoint(read_queries(place / "validation.npz")["rows"])
    assert {path.name for path in place.glob("*.npz")} == {"validation.npz", "deciding.npz"}
    assert 0.0 < open_chance(folder, data, split=DECIDING_HALF) < 1.0


def test_looks_of_a_roadmap_s_phase_lie_beside_the_roadmap_by_split(tmp_path):
    phase = RunFolder(tmp_path / "roadmap" / "phase1")
    phase.path.mkdir(parents=True)
    phase.write({"start": "2026-01-01T00:00:00+00:00", "roadmap": {"folder": "roadmap"}})
    assert count_look(phase, "abc", split=DECIDING_HALF) == 1
    assert count_look(phase, "abc") == 1
    looks = json.loads((tmp_path / "test_looks.json").read_text())
    assert {key: [look["run"] for look in found] for key, found in looks.items()} == {
        "abc (deciding)": ["roadmap/phase1"],
        "abc": ["roadmap/phase1"],
    }


def test_looks_are_counted_a_run_and_survive_a_fresh_start(tmp_path):
    first = RunFolder(tmp_path / "phase3")
    first.path.mkdir()
    first.write({"start": "2026-01-01T00:00:00+00:00"})
    assert [count_look(first, "abc"), count_look(first, "abc")] == [1, 1]
    first.prepare(resume=False, fresh=True)
    first.write({"start": "2026-01-02T00:00:00+00:00"})
    assert count_look(first, "abc") == 2
    assert count_look(first, "other data") == 1
