"""The test split opens in one module, after a finalist is fixed."""

import ast
from pathlib import Path

import pytest

import search
from search.folder import RunFolder
from search.opening import ClosedError, count_look, open_test_split

ALLOWED = {"opening.py"}


def test_no_other_module_of_search_names_a_deciding_split():
    for path in Path(search.__file__).parent.glob("*.py"):
        if path.name in ALLOWED:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                words = [
                    a.value for a in [*node.args, *(k.value for k in node.keywords)] if isinstance(a, ast.Constant)
                ]
                assert {"test", "deciding"}.isdisjoint(words), f"{path.name}:{node.lineno} hands {words} to a call"


def test_closed_without_a_finalist(tmp_path):
    with pytest.raises(ClosedError, match=r"no finalist\.json"):
        open_test_split(RunFolder(tmp_path), None, ["confirm-t0001-s0"])


def test_looks_are_counted_a_run_and_survive_a_fresh_start(tmp_path):
    first = RunFolder(tmp_path / "phase3")
    first.path.mkdir()
    first.write({"start": "2026-01-01T00:00:00+00:00"})
    assert [count_look(first, "abc"), count_look(first, "abc")] == [1, 1]
    first.prepare(resume=False, fresh=True)
    first.write({"start": "2026-01-02T00:00:00+00:00"})
    assert count_look(first, "abc") == 2
    assert count_look(first, "other data") == 1
