"""An audit that is interrupted after its look, and asked again, has looked once."""

import json

import numpy as np
import pandas as pd
import pytest

from fusion_models.data import open_dataset
from search.api import audit
from search.audit import audit as module
from search.run_store.folder import REPORT_DUE, RunFolder, RunFolderError
from search.run_store.journal import open_journal
from search.run_store.looks import LOOKS

DATA = "planted?queries=160&candidates=8"


def scores(seed=0):
    """A V2 of noise."""
    data = open_dataset(DATA)
    query = np.repeat(data.query_ids, data.candidates)
    noise = np.random.default_rng(seed).normal(size=len(query))
    return pd.DataFrame({"query_id": query, "item_id": data.item_ids[data.judged_item], "v2_score": noise})


@pytest.fixture
def looks(tmp_path, monkeypatch):
    """How many looks are counted after an audit that is interrupted as its look begins."""
    monkeypatch.setenv("FUSION_SEARCH_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(module, "references", lambda *given, **more: [])

    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "crossed_clusters", interrupted)

    def after(seed_of_scores=0, **options):
        with pytest.raises(KeyboardInterrupt):
            audit(**{"data": DATA, "results": tmp_path / "results", "scores": scores(seed_of_scores)} | options)
        (found,) = json.loads((tmp_path / "results" / LOOKS).read_text()).values()
        return len(found)

    return after


def backdate(tmp_path):
    """Say that what was interrupted began long ago: else two audits of a test begin within one second."""
    path, long_ago = tmp_path / "results" / "audit" / "run.json", "2026-01-01T00:00:00+00:00"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"start": long_ago}))
    for place in (tmp_path / "results", tmp_path / "state"):
        known = json.loads((place / LOOKS).read_text())
        for found in known.values():
            found[0]["start"] = long_ago
        (place / LOOKS).write_text(json.dumps(known))


def test_the_same_audit_again_is_the_same_look(looks, tmp_path):
    assert looks() == 1
    backdate(tmp_path)
    assert looks(answer_limit="3m") == looks() == 1


@pytest.mark.parametrize(
    "other",
    [{"seed_of_scores": 1}, {"phase": "phase3"}, {"suspect": "text"}, {"name": "two"}, {"fresh": True}],
    ids=lambda other: next(iter(other)),
)
def test_another_audit_is_another_look(looks, tmp_path, other):
    looks()
    backdate(tmp_path)
    assert looks(**other) == 2


def test_an_audit_begins_in_no_folder_of_a_phase(tmp_path):
    folder = RunFolder(tmp_path / "phase1")
    folder.path.mkdir()
    folder.write({"phase": "phase1", "end": None})
    open_journal(folder.journal)
    with pytest.raises(RunFolderError, match="an unfinished run of phase1, not of audit"):
        audit(data=DATA, scores=scores(), results=tmp_path, name="phase1")


def test_an_audit_whose_report_is_missing_gets_it_and_answers_no_other_audit(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "audit")
    folder.path.mkdir()
    folder.write({"phase": "audit", "end": "then", REPORT_DUE: True})
    built = []
    monkeypatch.setattr(module, "build_report", lambda folder, console: built.append(folder.path))
    with pytest.raises(RunFolderError, match="an audit is a look of its own: give another --name"):
        audit(data=DATA, scores=scores(1), results=tmp_path)
    assert built == [folder.path]
