"""What pip installs for a user holds every package and its data, and runs without this checkout."""

import json
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMES = ("fusion_models", "search", "spaces")
FROM_WHEEL = """
import sys; sys.path[:0] = [{site!r}, {libraries!r}]
import importlib, json, runpy
for name in json.loads({modules!r}):
    importlib.import_module(name)
assert sys.modules["search"].__file__.startswith({site!r})
sys.argv = ["fusion_models.data", "check", "clipart"]
runpy.run_module("fusion_models.data", run_name="__main__", alter_sys=True)
"""


def tracked(*patterns):
    said = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [Path(line) for line in said.stdout.splitlines()]


def test_pyproject_names_every_package():
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {path.parent.as_posix().replace("/", ".") for path in tracked(*(f"{n}/*__init__.py" for n in NAMES))}
    assert set(named) == found


def test_the_wheel_runs_from_an_empty_folder(tmp_path):
    source, site = tmp_path / "source", tmp_path / "site"
    for path in tracked("pyproject.toml", "README.md", "LICENSE*", *NAMES):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes((ROOT / path).read_bytes())
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(source)]
    subprocess.run(install, check=True, timeout=300, cwd=tmp_path)
    modules = [
        ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        for path in tracked(*(f"{name}/*.py" for name in NAMES))
        if path.name != "__main__.py"
    ]
    code = FROM_WHEEL.format(
        site=str(site), libraries=sysconfig.get_paths()["purelib"], modules=json.dumps(modules)
    )  # -S: no editable install of this checkout is looked up
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=300, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "clipart" in done.stdout
