"""README, results/README.md and .ci/run say what is true of the code."""

import re
import subprocess
from pathlib import Path

import pytest

from search.analysis.tables import PARETO_NUMBERS
from search.options import RunOptions

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def command(name):
    """The one line of the code block after `<!-- command: name -->`, as .ci/run reads it."""
    script = f"/^<!-- command: {name} -->$/ {{ getline; getline; print; exit }}"
    return subprocess.run(
        ["awk", script, ROOT / "README.md"], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.parametrize(("name", "end"), [("run", "-m search.run phase3 --time-budget 7m"), ("test", "-m pytest")])
def test_both_commands_set_up_everything_and_stand_first(name, end):
    line = command(name)
    assert line.startswith("python3 -m venv .venv && ")
    assert line.endswith(end)
    assert README.index(line) < README.index("## ")


def test_ci_runs_the_readme_s_test_command():
    script = (ROOT / ".ci" / "run").read_text()
    assert "command: test" in script
    assert "make lint" in script


def test_every_flag_stands_in_the_readme():
    for name in RunOptions.__dataclass_fields__:
        if name != "phase":
            word = name.replace("_", "-")
            assert f"--{word}" in README or f"--no-{word}" in README, name


def test_every_file_of_search_and_spaces_stands_in_the_map():
    for package in ("search", "spaces"):
        for path in (ROOT / package).glob("*.py"):
            if path.name != "__init__.py":
                assert path.name in README, path


def test_every_column_of_the_front_is_explained():
    text = (ROOT / "results" / "README.md").read_text()
    for name in PARETO_NUMBERS:
        assert f"`{name}`" in text, name


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
