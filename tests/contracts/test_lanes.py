"""A run that is spread over processes starts nothing twice, and waits where it must."""

import itertools

import lanes
import marks

NAMED = list(itertools.chain.from_iterable(lanes.LANES))


def test_what_a_lane_names_is_there_and_stands_in_one_lane():
    assert len(NAMED) == len(set(NAMED))
    for file in NAMED:
        assert (marks.TESTS / file).exists(), f"{file} has moved: tests/lanes.py names it"


def test_whatever_starts_ray_hosts_or_a_browser_or_needs_a_gpu_stands_in_a_lane(request):
    """Of the tests that this run has collected: all of them in CI."""
    waiting = {"ray", "cluster", "browser", "gpu"}
    found = {
        item.path.relative_to(marks.TESTS).as_posix()
        for item in request.session.items
        if marks.TESTS in item.path.parents and waiting & {mark.name for mark in item.iter_markers()}
    }
    alone = {"cluster/test_cluster_files.py"}  # reads files alone
    assert sorted(found - set(NAMED) - alone) == []
    assert {entry.partition("::")[0] for entry in marks.RAY} <= set(NAMED)


def _whole(request):
    return request.session.items and {"cluster", "browser", "docs"} <= {
        item.path.relative_to(marks.TESTS).parts[0]
        for item in request.session.items
        if marks.TESTS in item.path.parents
    }


def test_what_is_made_once_a_session_is_made_in_one_process(request):
    for fixture in ("roadmap", "run_of_four", "deployment", "_finished", "s3_store", "browser"):
        asking = {lanes.lane_of(i.nodeid) for i in request.session.items if fixture in getattr(i, "fixturenames", ())}
        assert asking or not _whole(request), f"{fixture} is no fixture any more"
        assert len(asking) <= 1, f"{fixture} would be made once for each of {sorted(asking)}: one lane (tests/lanes.py)"


def test_lanes_begin_in_their_order_and_other_files_after_them():
    first, second = lanes.LANES[0][0], lanes.LANES[1][0]
    assert lanes.in_order(["losses/test_total.py", second, "data/test_folds.py", first]) == [
        first,
        second,
        "losses/test_total.py",
        "data/test_folds.py",
    ]


def test_a_test_s_lane_is_that_of_its_file_and_a_file_that_nobody_names_is_its_own():
    longest = max(lanes.LANES, key=len)
    assert {lanes.lane_of(f"tests/{file}::test_it[a::b]") for file in longest} == {longest[0]}
    assert lanes.lane_of("tests/losses/test_total.py::test_it") == "losses/test_total.py"


def test_single_files_and_a_gpu_stay_in_one_process(tmp_path):
    file = tmp_path / "test_it.py"
    file.touch()
    assert lanes.is_whole([str(tmp_path)])
    assert not lanes.is_whole([str(tmp_path), str(file)])
    assert not lanes.is_whole([f"{file}::test_it"])
    assert not lanes.is_whole([f"{marks.TESTS}/gpu/"])
