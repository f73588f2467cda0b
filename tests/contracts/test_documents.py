"""README, results/README.md and .ci/run say what is true of the code."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from fusion_models.modalities import MODALITIES
from search.analysis.tables import pareto_numbers
from search.options import CommandLine

ROOT = Path(__file__).parents[2]
README_PAGE = ROOT / "README.md"
README = README_PAGE.read_text()


def command(name):
    """The one line of the code block after `<!-- command: name -->`, as .ci/run reads it."""
    script = f"/^<!-- command: {name} -->$/ {{ getline; getline; print; exit }}"
    return subprocess.run(
        ["awk", script, ROOT / "README.md"], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.parametrize(
    ("name", "end"), [("run", "-m search.run phase3 --trials 21 --time-budget 6m"), ("test", "-m pytest")]
)
def test_both_commands_set_up_everything_and_stand_first(name, end):
    line = command(name)
    assert line.startswith("python3 -m venv .venv && ")
    assert line.endswith(end)
    assert README.index(line) < README.index("## ")


def test_ci_runs_the_readme_s_test_command():
    script = (ROOT / ".ci" / "run").read_text()
    assert "command: test" in script
    assert "make lint" in script


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_make_check_chooses_by_marks_that_exist():
    makefile, project = (ROOT / "Makefile").read_text(), tomllib.loads((ROOT / "pyproject.toml").read_text())
    (chosen,) = re.findall(r"^QUICK := not \((.+)\)$", makefile, flags=re.MULTILINE)
    known = {said.split(":")[0] for said in project["tool"]["pytest"]["ini_options"]["markers"]}
    assert set(chosen.split(" or ")) == known


def test_every_flag_is_explained():
    page = (ROOT / "docs" / "command-line.md").read_text()
    for name in CommandLine.__dataclass_fields__:
        if name != "phase":
            word = name.replace("_", "-")
            assert re.search(f"`--(no-)?{word}[` =]", page), name


def test_every_package_stands_in_the_map_and_says_what_lives_there():
    """One line a package, its own packages within it named on that line."""
    lines = README.splitlines()
    for top in ("fusion_models", "spaces", "search"):
        for path in sorted((ROOT / top).rglob("__init__.py")):
            package = path.parent.relative_to(ROOT)
            assert ast.get_docstring(ast.parse(path.read_text())), package
            parts = package.parts
            room = "/".join(parts[:2]) + "/"
            (line,) = [line for line in lines if line.split(" ")[0] == room]
            assert len(parts) < 3 or f" {parts[2]}/" in line, f"{package} is not on the line of {room}"


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        if page.name != "index.md":
            assert f"]({page.relative_to(ROOT / 'docs').as_posix()})" in index, page.name


def test_decision_records_have_numbers_of_their_own():
    numbers = [page.name[:3] for page in (ROOT / "docs" / "decisions").glob("*.md")]
    assert sorted(set(numbers)) == sorted(numbers)


def test_every_column_of_the_front_is_explained():
    text = (ROOT / "results" / "README.md").read_text()
    for name in pareto_numbers(MODALITIES):
        assert f"`{name}`" in text, name


def test_every_case_of_hard_data_has_its_test():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "hard-data.md").read_text()))
    written = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert len(named) > 20
    assert named <= written, named - written


def slugs(page):
    """What the headings of a page are called in links."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere():
    pages = [README_PAGE, ROOT / "CONTRIBUTING.md", ROOT / "results" / "README.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for target, heading in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text()):
            if "://" not in target:
                there = page.parent / target if target else page
                assert there.exists(), f"{page.name} links to {target}"
                assert not heading or heading in slugs(there), f"{page.name} links to #{heading} of {there.name}"
