"""The house has layers, and the script that counts its imports sees one that goes against them."""

import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import layout  # noqa: E402


def test_no_import_goes_upward():
    assert layout.upward() == []


@pytest.mark.parametrize(
    ("file", "line", "edge"),
    [
        ("fusion_models/config/recipe.py", "import spaces.phase", ("fusion_models.config.recipe", "spaces.phase")),
        ("spaces/phase.py", "from search import options", ("spaces.phase", "search.options")),
        (
            "search/run_store/job.py",
            "def late():\n    from search.pipeline.phase import run_phase",
            ("search.run_store.job", "search.pipeline.phase"),
        ),
        (
            "search/options/asked.py",
            "from search.execution import tuning",
            ("search.options.asked", "search.execution.tuning"),
        ),
    ],
)
def test_an_import_upward_is_found_wherever_it_stands(tmp_path, file, line, edge):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for top in layout.HOUSE:
        shutil.copytree(ROOT / top, tmp_path / top, ignore=shutil.ignore_patterns("*.parquet", "__pycache__"))
    path = tmp_path / file
    path.write_text(path.read_text() + "\n\n" + line + "\n")
    assert layout.upward(tmp_path) == [edge]


def test_imports_are_counted_once_a_pair():
    edges = layout.edges()
    assert ("search.analysis.gates", "search.analysis.judged") in edges
    assert ("search.analysis.gates", "spaces") in edges
    assert len([edge for edge in edges if edge[0] == edge[1]]) == 0


BESIDE = {"browser", "cluster", "contracts", "gpu", "helpers", "outside", "own/modules"}
"""Folders of tests/ that mirror none: tests of the whole, by what they need, and what tests import."""


def folders(top):
    return {path.parent for path in top.rglob("*.py") if "__pycache__" not in path.parts}


def test_no_folder_holds_more_than_fifteen_modules():
    for top in (*layout.HOUSE, "tests"):
        for folder in folders(ROOT / top):
            found = sorted(path.name for path in folder.glob("*.py"))
            assert len(found) <= 15, f"{folder.relative_to(ROOT)} holds {len(found)} modules: {', '.join(found)}"


def test_no_two_modules_of_tests_have_one_name():
    """Pytest puts their folders on one path: of two `pages.py`, each test would import the first that was met."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name not in ("conftest.py", "__init__.py")]
    twice = sorted({name for name in names if names.count(name) > 1})
    assert twice == []


def test_tests_mirror_what_they_test():
    for folder in folders(ROOT / "tests") - {ROOT / "tests"}:
        name = folder.relative_to(ROOT / "tests").as_posix()
        there = any((place / name).is_dir() for place in (ROOT, ROOT / "fusion_models"))
        assert there or name in BESIDE, f"tests/{name} mirrors no folder of the house"
