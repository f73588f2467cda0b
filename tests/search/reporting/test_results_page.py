"""results/README.md names every field and column of the tables that a verdict rests on."""

import csv
import fnmatch
import json
import re
from pathlib import Path

import pytest
from report_folders import decided

from fusion_models.quantities import known_names

PAGE = (Path(__file__).parents[3] / "results" / "README.md").read_text(encoding="utf-8")


def promised(section):
    """Names in backticks of a section; `*_ci_low` and its like stand for many."""
    return re.findall(r"`([\w.*]+)`", PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0])


def is_named(name, names):
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in names)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return decided(tmp_path_factory.mktemp("explained") / "phase3").path


@pytest.mark.parametrize("name", ["baselines.csv", "confirmed.csv", "ablation.csv", "pareto.csv"])
def test_every_column_is_explained(folder, name):
    with (folder / name).open(newline="", encoding="utf-8") as file:
        columns = [column for column in next(csv.reader(file)) if not column.startswith("config.")]
    assert [column for column in columns if not is_named(column, promised(name))] == []


def test_every_field_of_the_decision_is_explained(folder):
    decision = json.loads((folder / "decision.json").read_text())
    names = promised("decision.json")
    fields = {*decision["gates"][0], *decision["archive_rules"][0], *decision["look"]}
    assert [field for field in fields if field not in names] == []
    first = next(line for line in PAGE.splitlines() if line.startswith("| `decision.json`"))
    for top in ("fragile", "warnings", "look"):
        assert f"`{top}`" in first
    roles = {gate["kind"] for gate in decision["gates"]}
    assert roles <= set(names)


def test_every_field_of_the_evidence_is_explained(folder):
    found = json.loads((folder / "evidence.json").read_text())
    assert [field for field in found if field not in promised("evidence.json")] == []


def test_every_number_of_a_training_is_explained():
    """Of a dataset with modalities of its own: `NAME` stands for each of them."""
    names = [name for name in known_names(("NAME", "OTHER")) if "OTHER" not in name and name != "epochs"]
    assert len(names) > 25
    assert [name for name in names if name not in promised("trials.csv")] == []
