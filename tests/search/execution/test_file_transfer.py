"""Trials that see neither the run folder nor the dataset's path: all that lasts reaches the driver, and they resume.

Every process believes that it is on another machine than the driver; the real thing is in tests/cluster.
"""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import ray
from test_faults import BASE, SMALL, Killer, job, options

import search.execution.tuning
from fusion_models.data import DataError, open_dataset
from fusion_models.evaluation import split_lists
from fusion_models.training import load, save, start
from search.execution.file_transfer import DataTicket, Home, TrialFolder, open_home, pack, unpack
from search.execution.tuning import TuneSession
from search.pipeline.confirmation.test_split import open_test_split
from search.run_store.artifacts import OUTPUTS, RECIPE, WEIGHTS, load_ranker, read_outputs
from search.run_store.folder import RunFolder
from search.run_store.journal import open_journal
from search.study.stages import FixedStage

ELSEWHERE = Home(node="another machine")


@pytest.fixture(scope="module")
def away(shared_ray):
    """A depot, and a home that no process is at."""
    node = str(ray.get_runtime_context().get_node_id())
    search.execution.file_transfer._depot(ray.get_runtime_context().get_job_id(), node)
    patch = pytest.MonkeyPatch()
    patch.setattr(search.execution.file_transfer, "open_home", lambda: ELSEWHERE)
    patch.setattr(search.execution.tuning, "open_home", lambda: ELSEWHERE)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def trained(away, tmp_path_factory, small_data):
    """Two trainings away from home, one killed after an epoch, on data whose path only the driver could open."""
    path = tmp_path_factory.mktemp("away")
    killer = Killer({"once": 1})
    stage = FixedStage(open_journal(path / "study.journal"), "baselines", [job("once"), job("peace")])
    ticket = DataTicket(
        source=str(path / "only the driver has it"),
        cache=str(path / "cache"),
        fingerprint=small_data.fingerprint,
        folder=str(small_data.folder),
    )
    folders = {"checkpoints": path / "run" / "checkpoints", "tune_folder": path / "tune"}
    TuneSession(options(path), ticket, **folders, report_seconds=0.0).train([stage], [killer])
    return path, stage, killer


def test_what_finished_elsewhere_lies_with_the_driver(trained, small_data):
    path, stage, _ = trained
    assert [(r.state, r.state_reason) for r in stage.records()] == [("finished", "")] * 2
    for record in stage.records():
        place = path / "run" / "checkpoints" / record.trial_id
        assert sorted(p.name for p in place.iterdir()) == sorted([OUTPUTS, RECIPE, WEIGHTS])
        assert load_ranker(place, small_data).training is False


def test_a_killed_trial_goes_on_from_what_the_driver_has(trained):
    _, stage, killer = trained
    assert killer.epochs["once"] == [1, 2, 3, 4]  # none trained twice, none left out
    by_name = {r.trial_id: r.numbers["ndcg"] for r in stage.records()}
    assert by_name["once"] == by_name["peace"]


def test_the_dataset_was_sent_once(trained, small_data):
    path, *_ = trained
    (copy,) = [p for p in (path / "cache" / "arrays").iterdir() if p.is_dir()]
    assert pack(copy) == pack(small_data.folder)


def test_the_test_split_is_measured_without_the_run_folder(trained, small_data):
    path, *_ = trained
    folder = RunFolder(path / "run")
    (folder.path / "finalist.json").write_text("{}")
    measured = open_test_split(folder, small_data, ["once", "peace"])()
    lists = split_lists(small_data, "test")
    for name, outputs in measured.items():
        assert np.array_equal(outputs.lists.rows, small_data.rows("test"))
        kept = read_outputs(folder.checkpoints / name / "test.npz", lists)
        assert np.array_equal(kept.scores, outputs.scores)
        assert kept.blanked.keys() == outputs.blanked.keys() == {(m, "zero") for m in ("visual", "text", "metadata")}


def test_a_checkpoint_comes_back_as_it_was_sent_and_from_between_two_renames(away, tmp_path, small_data):
    first = TrialFolder(ELSEWHERE, str(tmp_path), "t0000")
    save(start(BASE, small_data, seed=1), first.training)
    first.send_checkpoint()
    first.send_checkpoint()  # a second one takes its place
    again = TrialFolder(ELSEWHERE, str(tmp_path), "t0000")
    again.fetch()
    assert pack(again.training) == pack(first.training) == pack(tmp_path / "t0000" / "training")
    shutil.rmtree(tmp_path / "t0000" / "training")  # where a writer was killed between its two renames
    cut = TrialFolder(ELSEWHERE, str(tmp_path), "t0000")
    cut.fetch()
    assert load(cut.training, BASE, small_data, seed=1).epoch == 0


def test_on_one_machine_nothing_travels(shared_ray, tmp_path):
    folder = TrialFolder(open_home(), str(tmp_path), "t0000")
    assert folder.path == tmp_path / "t0000"
    unpack({"weights": b"1"}, folder.path)
    folder.send_results()
    folder.fetch()
    assert pack(folder.path) == {"weights": b"1"}


def test_a_ray_that_the_run_starts_for_itself_needs_no_depot():
    program = (
        "from search.execution.cluster import ray_session; from search.execution.file_transfer import open_home; "
        "from search.options import RunOptions\n"
        "with ray_session(RunOptions(phase='phase1')): print(open_home().node)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=400)
    assert said.stdout.split() == ["None"]


def test_other_data_under_the_same_name_is_an_error_where_nobody_can_send_the_right_one(small_data):
    ticket = DataTicket(source=SMALL, cache=None, fingerprint="0" * 32, folder="", home=Home(node=None))
    with pytest.raises(DataError, match=r"was changed while the run went on.*--fresh"):
        ticket.open()
    assert open_dataset(SMALL).fingerprint == small_data.fingerprint
