"""A roadmap's page says of each phase on which split it decided, at which look, and what its verdict means."""

import html
import json
import re

import pytest
from report_folders import decided

from search.analysis.roadmap_decision import decide_roadmap
from search.pipeline.roadmap import _read_verdict
from search.pipeline.roadmap_step import TEST_PHASES
from search.reporting.decision_page import roadmap_text
from search.reporting.roadmap_page import write_roadmap_report
from search.run_store.folder import RunFolder, json_text
from search.run_store.looks import DECIDING_HALF, Look
from spaces import ROADMAP_STEPS


@pytest.fixture
def roadmap(tmp_path):
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


def test_every_phase_says_its_split_look_and_level(roadmap):
    page, ticket = roadmap[1]()
    for text in (page, ticket):
        assert "deciding half of validation, look 1 (half of validation): intervals of 96.96 %" in text
        assert "test split, look 2: intervals of 99.24 %" in text
    assert "They decide, on their whole intervals (look 2: intervals of 99.24 %)" in page
