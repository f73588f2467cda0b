"""The prior, the truth and the bookkeeping of `benchmarks/many_worlds.py`, without a run."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from many_worlds import ENOUGH_QUERIES, FLAGS, line_of, page, pending, read, summary, upper_bound
from worlds import KINDS, Truth, World, true_of, world

from spaces import PHASES


def decision(verdict: str) -> dict[str, object]:
    return {"verdict": verdict, "finalist": "t0001", "reasons": ["so"]} if verdict != "none" else {}


def lines(verdicts: list[str]) -> list[dict[str, object]]:
    return [line_of(world(n), FLAGS, decision(v), 100.0) for n, v in enumerate(verdicts)]


def test_a_number_decides_a_world_and_all_of_them_can_be_drawn() -> None:
    drawn = [world(n) for n in range(30)]
    assert [w.source for w in drawn[:6]] == [world.__wrapped__(n).source for n in range(6)]
    assert len({w.source for w in drawn}) == 30
    assert {w.kind for w in drawn} == {kind for kinds in KINDS.values() for kind in kinds}
    assert {w.test_queries for w in drawn} == {300, 700, 1500}
    assert {w.config.split_sizes[:2] for w in drawn} == {(400, 250), (1_000, 250)}  # and every dial is legal
    assert {w.config.visual_width for w in drawn} == {32, 128, 512}


@pytest.mark.parametrize("number", [0, 3, 6, 9, 12])
def test_nothing_is_there_in_any_kind_of_the_first_stratum(number: int) -> None:
    assert world(number).stratum == "nothing there"
    true = true_of(world(number))
    assert true.worth < 0.003
    assert true.go_is_wrong
    assert true.gain > 0.015  # V2 could still gain: the image alone makes a GO wrong


@pytest.mark.parametrize("number", [2, 5, 8])
def test_a_healthy_world_holds_what_a_go_asks(number: int) -> None:
    true = true_of(world(number))
    assert world(number).test_queries >= ENOUGH_QUERIES
    assert true.healthy
    assert true.drop >= 0.08
    assert true.gain >= 0.05
    assert sum(true.shares) == pytest.approx(1.0)
    assert not true.go_is_wrong
    assert not dataclasses.replace(true, drop=0.06).healthy


def test_boundary_worlds_lie_on_both_sides() -> None:
    worths = [true_of(world(number)).worth for number in (1, 7, 13)]
    assert min(worths) < 0.005 < max(worths) < 0.03


def test_what_is_wrong() -> None:
    nothing, something, no_gain = Truth(0.001, 0.05), Truth(0.02, 0.05), Truth(0.02, 0.01)
    assert [nothing.outcome(v) for v in ("GO", "ARCHIVE", "PAUSE_AND_FIX", "none")] == [
        "wrong",
        "right",
        "open",
        "failed",
    ]
    assert [something.outcome(v) for v in ("GO", "ARCHIVE", "PAUSE_AND_FIX")] == ["right", "wrong", "open"]
    assert no_gain.outcome("GO") == "wrong"
    assert no_gain.outcome("ARCHIVE") == "right"
    between = Truth(0.02, 0.017)  # below the gate, above what ends V2
    assert [between.outcome(v) for v in ("GO", "ARCHIVE")] == ["wrong", "wrong"]


def test_an_interrupted_benchmark_goes_on(tmp_path: Path) -> None:
    done = lines(["ARCHIVE", "GO", "none"])
    assert done[2]["outcome"] == "failed"
    file = tmp_path / "lines.jsonl"
    assert read(file) == []
    file.write_text("".join(json.dumps(line) + "\n" for line in done))
    worlds: list[World] = [world(n) for n in range(4)]
    assert done[1]["outcome"] == "wrong"
    assert [w.number for w in pending(worlds, read(file), FLAGS)] == [1, 2, 3]  # what failed or was wrong is run again
    assert len(pending(worlds, read(file), "--trials 2")) == 4
    other = dataclasses.replace(world(0), dials=world(0).dials | {"seed": 77})
    assert pending([other], read(file), FLAGS) == [other]


def test_a_budget_too_short_to_confirm_anything_is_no_verdict_on_the_world() -> None:
    line = line_of(world(2), FLAGS, decision("PAUSE_AND_FIX") | {"finalist": None}, 83.0)
    assert (line["verdict"], line["outcome"], line["reasons"]) == ("none", "failed", ["so"])


def test_the_page_counts_what_came_out() -> None:
    found = page(lines(["GO", "PAUSE_AND_FIX", "GO", "ARCHIVE", "PAUSE_AND_FIX", "ARCHIVE", "none"]))
    assert "| nothing there | 3 | 1 | 0 | 1 | 1 |" in found
    assert "| healthy | 2 | 1 | 0 | 1 | 0 |" in found
    assert "Wrong GO, of the worlds in which a GO is wrong: 1 of 4" in found
    assert "Wrong ARCHIVE, of those in which there is something: 1 of 2" in found
    assert found.count("**wrong**") == 2
    again = page([*lines(["GO"]), *lines(["PAUSE_AND_FIX"])])
    assert "**wrong**" not in again  # the last line of a world counts
    assert summary([])[-1].endswith("0 of 0 (at least 0 %).")


def test_queries_that_a_go_asks_are_those_of_the_gate() -> None:
    assert [gate.at_least for gate in PHASES["phase3"].resume_gates if gate.quantity == "queries"] == [ENOUGH_QUERIES]


def test_bounds_are_exact() -> None:
    assert upper_bound(0, 100) == pytest.approx(1 - 0.05 ** (1 / 100))
    assert upper_bound(0, 100) < 0.03
    high = upper_bound(2, 30)
    assert stats.binom.cdf(2, 30, high) == pytest.approx(0.05)
    assert upper_bound(30, 30) == upper_bound(0, 0) == 1.0
