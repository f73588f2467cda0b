"""The script for a GPU machine says what it needs: with that alone its tests are collected and its benchmark starts."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "on_a_gpu.sh"
BARE = """
import importlib.metadata, re, sys
packages = importlib.metadata.packages_distributions()
named, needed = list(NEEDED), set()
while named:
    name = re.match("[A-Za-z0-9._-]+", named.pop())[0].lower().replace("_", "-")
    if name not in needed:
        needed.add(name)
        try:
            wants = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        named += [want for want in wants if "extra ==" not in want]

class Bare:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        owners = {owner.lower().replace("_", "-") for owner in packages.get(name, ())} - {"fusion-search"}
        return None if owners and not owners & needed else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Bare(finder) for finder in sys.meta_path]
"""
"""Finds nothing that is neither named nor needed by what is named, as a fresh environment would."""
WHAT = {
    "tests": """
import pytest
sys.exit(pytest.main(["tests/gpu", "-p", "no:cacheprovider", "-p", "pytest_timeout", "--collect-only"]))
""",
    "benchmark": """
import runpy
small = ["--sizes", "small", "--stacks", "2", "--processes", "--repeats", "1", "--device", "cpu"]
sys.argv = ["stack.py", *small, "--data", "planted?queries=120&candidates=6"]
runpy.run_path("benchmarks/stack.py", run_name="__main__")
""",
}


def bare(needed, what, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    code = BARE.replace("NEEDED", repr(needed)) + WHAT[what]
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def packages():
    return re.search(r"^PACKAGES=\((.*)\)$", SCRIPT.read_text(), re.MULTILINE)[1].split()


def test_its_tests_are_collected_with_what_it_names(monkeypatch):
    said = bare(packages(), "tests", monkeypatch)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "tests/gpu/test_stack_on_a_gpu.py" in said.stdout


def test_its_benchmark_runs_with_what_it_names(monkeypatch):
    said = bare(packages(), "benchmark", monkeypatch)
    assert said.returncode == 0, said.stderr
    assert "stack of 2" in said.stdout


def test_what_it_does_not_name_is_missed(monkeypatch):
    said = bare([name for name in packages() if name != "scipy"], "tests", monkeypatch)
    assert "No module named 'scipy'" in said.stdout + said.stderr


def test_a_package_that_is_missing_is_named_in_a_line(tmp_path, monkeypatch):
    script = tmp_path / "benchmarks" / SCRIPT.name
    script.parent.mkdir()
    script.write_text(SCRIPT.read_text().replace("PACKAGES=(", "PACKAGES=(no-such-package "))
    monkeypatch.setenv("PYTHON", sys.executable)
    said = subprocess.run(["bash", str(script)], capture_output=True, text=True)
    assert said.returncode == 3
    assert said.stderr.strip().endswith("-m pip install no-such-package")
    assert said.stderr.count("\n") == 1
