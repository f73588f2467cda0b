"""The test split opens in one module, after a finalist is fixed."""

import ast
from pathlib import Path

import numpy as np
import pytest
from run_context import run_in

import fusion_models
import search
from fusion_models.data import open_dataset
from fusion_models.evaluation import split_lists
from fusion_models.training import start, train
from search.options import RunOptions
from search.pipeline.baselines import reference_rankers
from search.pipeline.confirmation.probing import RunProbes
from search.pipeline.confirmation.test_split import (
    ClosedError,
    open_clusters,
    open_contribution,
    open_inputs,
    open_labels,
    open_test_split,
)
from search.run_store.artifacts import measure, read_outputs, write_finished
from search.run_store.folder import RunFolder
from search.run_store.job import Job
from search.run_store.looks import DECIDING_HALF, DECIDING_SPLIT
from spaces import PHASES

OPENS = {"pipeline/confirmation/test_split.py"}
AFTERWARDS = {
    "pipeline/confirmation/cold.py": "whether test items recur; then cuts what the one look has measured",
    "pipeline/release/integrity.py": "phase 4 reads back what phase 3's look has kept",
    "audit/audit.py": "the V2 that is audited was fixed elsewhere: its look is counted before its labels are read",
    "audit/checks.py": "called by audit.py",
    "audit/model/measure.py": "the model's own process, started by audit.py; reads no label",
    "audit/score_table.py": "which pairs a table must score; reads no label",
}
"""Modules that name the deciding split and measure nothing on it, and what they want of it."""
NAMING = {"get"}
"""Calls that read an entry of a table or of run.json, where the split's name is data."""
TRAINED = (
    *("training/**/*.py", "losses/*.py", "models/*.py", "probes/*.py", "quantities/*.py", "metrics/*.py"),
    *("evaluation.py", "latency.py", "lambdamart.py", "contribution.py", "context_alone.py", "tuned_v1.py"),
)


def calls(path):
    """Every call of a module with its plain arguments: constants, and names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            given = [*node.args, *(k.value for k in node.keywords)]
            constants = {a.value for a in given if isinstance(a, ast.Constant)}
            yield node, constants, {a.id for a in given if isinstance(a, ast.Name)}


def test_no_other_module_names_a_deciding_split():
    root = Path(search.__file__).parent
    others = {p.relative_to(root).as_posix(): p for p in root.rglob("*.py")}
    assert {*OPENS, *AFTERWARDS} <= set(others)
    for known in (*OPENS, *AFTERWARDS):
        others.pop(known)
    places = [p for pattern in TRAINED for p in Path(fusion_models.__file__).parent.glob(pattern)]
    assert all(list(Path(fusion_models.__file__).parent.glob(pattern)) for pattern in TRAINED)
    for path in (*others.values(), *places):
        for node, constants, names in calls(path):
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if called in NAMING:
                continue
            assert {"test", "deciding"}.isdisjoint(constants), f"{path}:{node.lineno} hands {constants} to a call"
            assert "DECIDING_SPLIT" not in names, f"{path}:{node.lineno} opens the test split"


def test_closed_without_a_finalist(tmp_path):
    folder = RunFolder(tmp_path)
    run = run_in(folder, RunOptions(phase="phase3"), PHASES["phase3"], open_dataset("planted?queries=60&candidates=6"))
    for opened in (
        lambda: open_test_split(folder, None, ["confirm-t0001-s0"]),
        lambda: open_contribution(folder, None, "confirm-t0001-s0"),
        lambda: open_clusters(folder, None),
        lambda: open_inputs(folder, None, seed=0),
        lambda: open_labels(folder, None, seed=0),
        lambda: reference_rankers(run, DECIDING_SPLIT, {}),
        lambda: RunProbes(run, cold=False).begin(DECIDING_SPLIT),
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
    assert np.array_equal(found.lists.rows, data.rows("deciding"))
    searched = read_outputs(place / "validation.npz", split_lists(data, "validation")).lists.rows
    assert set(found.lists.rows).isdisjoint(searched)
    with pytest.raises(ValueError, match="measured on other queries"):
        read_outputs(place / "deciding.npz", split_lists(data, "validation"))
    assert {path.name for path in place.glob("*.npz")} == {"validation.npz", "deciding.npz"}
    assert set(found.blanked) == {(m, "zero") for m in ("visual", "text", "metadata")}
    full = open_test_split(folder, data, [job.trial_id], split=DECIDING_HALF)()[job.trial_id]
    assert np.array_equal(full.scores, found.scores)  # what has been measured once is read back
