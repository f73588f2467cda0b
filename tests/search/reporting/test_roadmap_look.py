"""A roadmap's page says of each phase on which split it decided, at which look, and what its verdict means."""

import html
import io
import json
import re

import pytest
from report_folders import decided
from rich.console import Console

from search.analysis.roadmap_decision import decide_roadmap
from search.pipeline.roadmap import _print, _read_verdict
from search.pipeline.roadmap_step import TEST_PHASES
from search.reporting.decision_page import roadmap_text
from search.reporting.roadmap_page import write_roadmap_report
from search.run_store.folder import RunFolder, json_text
from search.run_store.looks import DECIDING_HALF, Look
from spaces import ROADMAP_STEPS


@pytest.fixture
def two_phases(tmp_path):
    """A roadmap's folder with phases 1 and 3 in it; a function writes its page anew."""
    looks = {"phase1": Look(number=1, split=DECIDING_HALF), "phase3": Look(number=2)}
    for name, look in looks.items():
        run = decided(tmp_path / name)
        run.write((run.read() or {}) | {"roadmap": {"decides_on": look.split}})
        (run.path / "judged.json").write_text("{}")
        change(tmp_path, name, look=look.as_json())
    folder = RunFolder(tmp_path)
    folder.write({"phase": "roadmap", "options": {"data": "shop"}, "start": "2026-01-01", "end": None})

    def page():
        done = {name: _read_verdict(RunFolder(tmp_path / name), name) for name in looks}
        decision = decide_roadmap(tuple(ROADMAP_STEPS), done, releasing=TEST_PHASES)
        (tmp_path / "decision.json").write_text(json_text(decision.as_json()))
        raw = write_roadmap_report(folder).read_text()
        text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", raw)).replace("\u00a0", " ").split())
        return text, roadmap_text(decision)

    return tmp_path, page


def change(root, name, **fields):
    place = root / name / "decision.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | fields))


def printed(root, width=200):
    """What a roadmap says in the terminal at its end."""
    done = {name: _read_verdict(RunFolder(root / name), name) for name in ("phase1", "phase3")}
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    _print(console, RunFolder(root), decide_roadmap(tuple(ROADMAP_STEPS), done, releasing=TEST_PHASES), 1.0)
    return console.file.getvalue()


def test_every_phase_says_its_split_look_and_level(two_phases):
    page, ticket = two_phases[1]()
    for text in (page, ticket, printed(two_phases[0])):
        assert "deciding half of validation, look 1 (half of validation): intervals of 96.96 %" in text
        assert "test split, look 2: intervals of 99.24 %" in text
    assert "They decide, on their whole intervals (look 2: intervals of 99.24 %)" in page


def test_an_archive_says_on_its_first_screen_which_rule_archived(two_phases):
    root, page = two_phases
    rule = json.loads((root / "phase3" / "decision.json").read_text())["archive_rules"][0]
    rule |= {"name": "the image has nothing to give", "holds": True}
    change(root, "phase3", verdict="ARCHIVE", archive_rules=[rule])
    text, _ = page()
    said = "An archive rule holds, and one is enough: the image has nothing to give."
    assert said in text[: text.index("The phases in a row")]


def test_a_go_of_the_roadmap_says_that_it_is_the_release(two_phases, monkeypatch):
    root, _ = two_phases
    _, page = two_phases
    for name in ("phase1", "phase3"):
        change(root, name, verdict="GO", facts={})
    assert "GO here means" not in page()[0] + printed(root)  # phase 4 has not been run
    monkeypatch.setattr("test_roadmap_look.TEST_PHASES", ("phase3",))
    text, ticket = page()
    for said in (text, ticket, printed(root)):
        assert "GO here means: release it, to 5 % of the traffic first." in said
