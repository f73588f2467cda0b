"""Looks at a deciding split: which one this is, at what level its intervals stand, and that none is forgotten."""

import dataclasses
import json
import math
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from fusion_models.metrics.intervals.planning import look_level
from search.run_store.folder import RunFolder
from search.run_store.looks import DECIDING_HALF, SPLIT_NAMES, Look, count_look, has_looked, opened_before, read_look

SHOP = "s3://team/shop"


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """A state folder of the test's own."""
    path = tmp_path / "state"
    monkeypatch.setenv("FUSION_SEARCH_STATE", str(path))
    return path


def run(path, start="2026-01-01T00:00:00+00:00", **more):
    """A run folder that says when it started."""
    folder = RunFolder(path)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.write({"start": start} | more)
    return folder


def test_all_looks_together_keep_five_per_cent():
    """Look j has the level 0.05 * 6 / (pi^2 j^2), whose sum over all j is 0.05 (Basel)."""
    for number in (1, 2, 3, 10):
        expected = 0.05 * 6 / (math.pi * number) ** 2
        assert Look(number=number).alpha == pytest.approx(expected) == look_level(number)
        assert Look(number=number).level == pytest.approx(1 - expected)
    assert sum(Look(number=j).alpha for j in range(1, 100_000)) == pytest.approx(0.05, abs=1e-6)
    assert "look 2 at this test split: intervals of 99.24 %" in Look(number=2).said()


@pytest.mark.parametrize("source", [SHOP, "planted:healthy"])
@pytest.mark.parametrize("split", SPLIT_NAMES)
def test_a_look_names_the_split_that_it_opened_wherever_it_is_told(tmp_path, source, split):
    look = count_look(run(tmp_path / "phase1"), "abc", source, split=split)
    assert look.split == split
    assert (SPLIT_NAMES[split] in look.said()) == (source == SHOP)
    assert ("half of validation" in look.short()) == (split == DECIDING_HALF)
    assert read_look({"look": look.as_json()}) == look
    told = dataclasses.replace(look, by="phase3")
    assert read_look({"ablation_look": told.as_json()}, "ablation_look") == told
    assert "(of phase3)" in told.said()
    assert read_look({"look": {"number": 2, "practice": False, "level": 0.9924}}) == Look(number=2)
    assert read_look({}) is None


def test_looks_at_practice_data_are_counted_and_spend_nothing(tmp_path):
    for source in (
        "clipart",
        "planted",
        "planted:healthy",
        "planted#halved",
        "clipart#halved",
        "planted:healthy?queries=9",
    ):
        looks = [count_look(run(tmp_path / source / str(i)), source, source) for i in range(3)]
        assert [look.number for look in looks] == [1, 2, 3]
        assert [look.alpha for look in looks] == [0.05] * 3
        assert "spends nothing" in looks[2].said()
    for source in (SHOP, "/data/clipart", "planted-shop"):
        looks = [count_look(run(tmp_path / f"own {i}"), source, source) for i in range(2)]
        assert looks[1].alpha == pytest.approx(look_level(2))


def test_looks_of_a_roadmap_s_phase_lie_beside_the_roadmap_by_split(tmp_path):
    phase = run(tmp_path / "roadmap" / "phase1", roadmap={"folder": "roadmap"})
    assert count_look(phase, "abc", SHOP, split=DECIDING_HALF).number == 1
    assert count_look(phase, "abc", SHOP).number == 1
    looks = json.loads((tmp_path / "test_looks.json").read_text())
    assert {key: [look["run"] for look in found] for key, found in looks.items()} == {
        "abc (deciding)": ["roadmap/phase1"],
        "abc": ["roadmap/phase1"],
    }


def test_looks_are_counted_a_run_and_survive_a_fresh_start(tmp_path):
    first = run(tmp_path / "phase3")
    assert [count_look(first, "abc", SHOP).number for _ in range(2)] == [1, 1]
    first.prepare(resume=False, fresh=True)
    first.write({"start": "2026-01-02T00:00:00+00:00"})
    assert count_look(first, "abc", SHOP).number == 2
    assert count_look(first, "other data", SHOP).number == 1
    assert [look["start"][:10] for look in opened_before(first, "abc")] == ["2026-01-01", "2026-01-02"]


def test_the_same_run_resumed_is_the_same_look_and_its_second_verdict_another(tmp_path):
    resumed = run(tmp_path / "phase3", resumed=0)
    first = count_look(resumed, "abc", SHOP)
    resumed.write((resumed.read() or {}) | {"resumed": 1})
    assert count_look(resumed, "abc", SHOP) == first
    assert count_look(resumed, "abc", SHOP, verdict=2).number == 2
    assert count_look(resumed, "abc", SHOP).number == 1
    assert count_look(resumed, "abc", SHOP, verdict=2).number == 2


def test_another_results_folder_forgets_nothing(tmp_path, state):
    assert count_look(run(tmp_path / "one" / "phase3"), "abc", SHOP).number == 1
    assert count_look(run(tmp_path / "two" / "phase3"), "abc", SHOP).number == 2  # same name, same second
    assert len(json.loads((state / "test_looks.json").read_text())["abc"]) == 2
    assert len(json.loads((tmp_path / "two" / "test_looks.json").read_text())["abc"]) == 2


def test_looks_that_only_the_results_folder_knows_are_counted(tmp_path, state):
    """As on a colleague's machine, whose state folder is another."""
    count_look(run(tmp_path / "team" / "phase3"), "abc", SHOP)
    (state / "test_looks.json").unlink()
    assert count_look(run(tmp_path / "team" / "again"), "abc", SHOP).number == 2
    assert len(json.loads((state / "test_looks.json").read_text())["abc"]) == 2


def test_a_state_folder_that_cannot_be_written_costs_the_memory_beyond_results_alone(tmp_path, state):
    state.write_text("a file where the folder should be")
    folder = run(tmp_path / "phase3")
    assert count_look(folder, "abc", SHOP).number == 1
    assert count_look(run(tmp_path / "again"), "abc", SHOP).number == 2


def test_runs_that_look_at_once_are_told_apart_and_none_is_forgotten(tmp_path, state):
    """Read, join and write had no lock: two runs got look 1 both, and one of them was erased."""
    folders = [run(tmp_path / place / f"run{i}") for i, place in enumerate("aabbccdd")]
    with ThreadPoolExecutor(8) as pool:  # a lock of flock's is between open files, so threads stand for processes
        found = list(pool.map(lambda folder: count_look(folder, "abc", SHOP).number, folders))
    assert sorted(found) == list(range(1, len(folders) + 1))
    assert len(json.loads((state / "test_looks.json").read_text())["abc"]) == len(folders)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("link", [False, True], ids=["the same", "by another name"])
def test_looks_in_one_file_by_two_names_wait_for_nobody(tmp_path, monkeypatch, link):
    """The state folder may be the results folder: two locks of one file would wait for each other for ever."""
    folder, place = run(tmp_path / "results" / "phase3"), tmp_path / "results"
    if link:
        place = tmp_path / "link"
        place.symlink_to(tmp_path / "results")
    monkeypatch.setenv("FUSION_SEARCH_STATE", str(place))
    assert count_look(folder, "abc", SHOP).number == 1
    assert count_look(folder, "abc", SHOP, verdict=2).number == 2


def test_a_verdict_keeps_its_number_where_an_earlier_look_turns_up_later(tmp_path, state):
    mine = run(tmp_path / "phase3")
    assert count_look(mine, "abc", SHOP).number == 1
    path = tmp_path / "test_looks.json"
    looks = json.loads(path.read_text())
    looks["abc"].append({"run": "of a colleague", "start": "2020", "looked": "2020-01-01T00:00:00+00:00"})
    path.write_text(json.dumps(looks))
    assert count_look(mine, "abc", SHOP).number == 1
    assert count_look(mine, "abc", SHOP, verdict=2).number == 3


def test_looks_noted_without_a_number_have_their_place_by_time(tmp_path):
    folders = [run(tmp_path / f"run{i}", start=f"2026-01-0{i}") for i in (1, 2)]
    for folder in folders:
        count_look(folder, "abc", SHOP)
    path = tmp_path / "test_looks.json"
    looks = json.loads(path.read_text())
    looks = {"abc": [{k: v for k, v in look.items() if k != "number"} for look in looks["abc"]]}
    path.write_text(json.dumps(looks))
    (tmp_path / "state" / "test_looks.json").unlink()
    assert [count_look(folder, "abc", SHOP).number for folder in folders] == [1, 2]
    assert count_look(run(tmp_path / "run3"), "abc", SHOP).number == 3


FURTHER = {"number": 2, "by": "--settle"}


@pytest.mark.parametrize("verdict", [1, 2])
def test_a_run_that_was_moved_is_the_same_run(tmp_path, verdict):
    begun = {"further": FURTHER | {"start": "2026-02-01"}} if verdict > 1 else {}
    here = run(tmp_path / "here" / "phase3", id="a1", **begun)
    assert count_look(here, "abc", SHOP, verdict=verdict).number == 1
    (tmp_path / "there").mkdir()
    shutil.move(here.path, tmp_path / "there" / "renamed")
    assert count_look(RunFolder(tmp_path / "there" / "renamed"), "abc", SHOP, verdict=verdict).number == 1
    assert count_look(run(tmp_path / "there" / "other", id="b2", **begun), "abc", SHOP, verdict=verdict).number == 2


def test_another_machine_s_look_is_the_same_one_where_its_looks_are_known(tmp_path, monkeypatch):
    here = run(tmp_path / "here" / "phase3", id="a1")
    for _ in range(2):
        count_look(run(tmp_path / "here" / "before", id=f"b{_}"), "abc", SHOP)
    assert count_look(here, "abc", SHOP).number == 3
    monkeypatch.setenv("FUSION_SEARCH_STATE", str(tmp_path / "of another machine"))
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert count_look(RunFolder(tmp_path / "there" / "phase3"), "abc", SHOP).number == 3


def test_copies_of_a_run_that_are_settled_apart_are_looks_of_their_own(tmp_path):
    for place, start in (("one", "2026-02-01"), ("two", "2026-02-02")):
        copy = run(tmp_path / place / "phase3", id="a1", further=FURTHER | {"start": start})
        assert count_look(copy, "abc", SHOP).number == 1
        assert count_look(copy, "abc", SHOP, verdict=2).number == (2 if place == "one" else 3)


def test_looks_that_name_no_id_are_told_by_name_and_start(tmp_path):
    """A run of a version before, which is resumed and gets an id then."""
    before = run(tmp_path / "phase3")
    assert count_look(before, "abc", SHOP).number == 1
    before.write(before.read() | {"id": "a1"})
    assert count_look(before, "abc", SHOP).number == 1
    assert count_look(run(tmp_path / "phase3 copy", id="b2"), "abc", SHOP).number == 2


def test_copies_of_an_unfinished_run_with_finalists_of_their_own_are_looks_of_their_own(tmp_path):
    one, two = (run(tmp_path / name, id="a1") for name in ("one", "two"))
    (one.path / "finalist.json").write_text('{"trial_id": "t0001"}')
    (two.path / "finalist.json").write_text('{"trial_id": "t0002"}')
    assert [count_look(folder, "abc", SHOP).number for folder in (one, two, one, two)] == [1, 2, 1, 2]
    assert has_looked(two, "abc")
    (two.path / "finalist.json").write_text('{"trial_id": "t0003"}')
    assert not has_looked(two, "abc")


def test_looks_of_versions_before_name_no_finalist_and_are_the_run_s(tmp_path):
    before = run(tmp_path / "phase3", id="a1")
    assert count_look(before, "abc", SHOP).number == 1
    (before.path / "finalist.json").write_text('{"trial_id": "t0001"}')
    assert count_look(before, "abc", SHOP).number == 1


@pytest.mark.parametrize("decides_on", SPLIT_NAMES)
def test_a_look_of_before_is_at_the_split_that_the_run_decides_on(decides_on):
    decision = {"look": {"number": 2, "practice": False}}
    assert read_look(decision, run={"roadmap": {"decides_on": decides_on}}) == Look(number=2, split=decides_on)
    assert read_look(decision, run={"roadmap": None}) == Look(number=2)
