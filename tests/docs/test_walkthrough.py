"""The walk-through's code is run as it stands on its page, block after block."""

from pathlib import Path

import pytest
from walks import walk

PAGE = Path(__file__).parents[2] / "docs" / "bring-your-own-ranker.md"


@pytest.mark.timeout(900)
def test_every_block_runs_and_ends_in_a_verdict(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, said = walk(PAGE, tmp_path, timeout=800)
    assert names["decision"]["verdict"] == "PAUSE_AND_FIX"
    assert len(names["front"]) >= 1
    assert names["scored"].ndcg().mean() > 0.3
    assert "V1" in said
