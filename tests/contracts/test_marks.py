"""The marks that `make check` chooses by are true."""

import ast
import os
import subprocess
import sys

import marks
import pytest

STARTS_RAY = """
import ray
ray.init(address="local", num_cpus=1, include_dashboard=False, _node_ip_address="127.0.0.1")
"""


@pytest.mark.parametrize("entry", [*marks.RAY, *marks.SLOW])
def test_what_the_lists_name_is_there(entry):
    file, _, function = entry.partition("::")
    path = marks.TESTS / file
    assert path.exists(), f"{entry} has moved: tests/marks.py names it by its file"
    named = {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
    assert not function or function in named


def test_a_fixture_that_starts_ray_marks_whoever_asks_for_it_at_any_remove():
    path = marks.TESTS / "search" / "test_somewhere.py"
    assert marks.marks_of(path, "test_it", ["walked", "shared_ray", "tmp_path"]) == {"ray"}
    assert marks.marks_of(path, "test_it", ["tmp_path"]) == set()


def test_a_folder_and_a_list_mark_what_is_in_them():
    assert marks.marks_of(marks.TESTS / "cluster" / "test_any.py", "test_it", []) == {"cluster"}
    file, _, function = marks.SLOW[0].partition("::")
    assert marks.marks_of(marks.TESTS / file, function or "test_it", []) == {"slow"}


def test_this_test_was_marked_by_nobody_and_knows_no_ray(request):
    assert not list(request.node.iter_markers())
    assert os.environ["RAY_TMPDIR"] == marks.FORBIDDEN


def test_a_process_of_an_unmarked_test_cannot_start_ray():
    done = subprocess.run([sys.executable, "-c", STARTS_RAY], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "this-test-is-not-marked-ray" in done.stderr
