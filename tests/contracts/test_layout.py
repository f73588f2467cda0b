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
        ("search/options.py", "from search.execution import tuning", ("search.options", "search.execution.tuning")),
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
