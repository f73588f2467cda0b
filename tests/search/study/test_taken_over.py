"""What an earlier run has trained is taken over, and says from where: in a field, whatever its reason says."""

import dataclasses

from search.run_store.artifacts import OUTPUTS, WEIGHTS
from search.run_store.folder import RunFolder
from search.run_store.job import Job, Outcome, Role
from search.run_store.journal import open_journal
from search.study.search_stage import SearchStage
from search.study.stages import FixedStage
from search.study.taken_over import EarlierRuns
from spaces import PHASES

PHASE = PHASES["phase1"]
GOOD = {"ndcg": 0.6, "ndcg_gain": 0.02, "visual_masking_drop": 0.06, "attention_max_share": 0.5, "v1_correlation": 0.9}
WARNING = "no checkpoint after epoch 2: [Errno 28] No space left on device"


def ended(folder, stage, job, **changes):
    """Tell how `job` ended, and leave what a finished training leaves."""
    told = Outcome(state="finished", reason="", epochs=3, numbers=GOOD, seconds=1.0)
    place = folder.checkpoints / job.trial_id
    place.mkdir(parents=True)
    for name in (OUTPUTS, WEIGHTS):
        (place / name).write_bytes(job.trial_id.encode())
    return stage.tell(job, dataclasses.replace(told, **changes))


def run(path, earlier=()):
    """A run folder, what it may take over, and its search."""
    folder = RunFolder(path)
    path.mkdir()
    folder.write({"data": "d", "fingerprint": "f"})
    runs = EarlierRuns([RunFolder(p) for p in earlier], into=folder, source="d", fingerprint="f")
    search = SearchStage(open_journal(folder.journal), PHASE, sampler="random", trials=3, seed=0, earlier=runs)
    return folder, runs, search


def test_a_checkpoint_that_could_not_be_written_does_not_make_a_training_one_of_another_run(tmp_path):
    folder, _, search = run(tmp_path / "phase1")
    job = search.ask()
    ended(folder, search, job, reason=WARNING)
    _, earlier, second = run(tmp_path / "phase2", [folder.path])
    assert [(j.trial_id, j.name) for j in earlier.searched()] == [(f"phase1-{job.trial_id}", "base of phase1")]
    (taken,) = [r for r in second.records() if r.finished]
    assert taken.trial_id == f"phase1-{job.trial_id}"
    assert taken.taken_over == f"phase1, trial {job.trial_id}"
    assert taken.state_reason == f"taken over from phase1, trial {job.trial_id}; there: {WARNING}"


def test_what_was_taken_over_twice_names_the_run_that_trained_it(tmp_path):
    folder, _, search = run(tmp_path / "phase1")
    job = search.ask()
    assert ended(folder, search, job).taken_over is None
    run(tmp_path / "phase2", [folder.path])
    _, _, third = run(tmp_path / "phase3", [folder.path, tmp_path / "phase2"])
    (taken,) = [r for r in third.records() if r.finished]
    assert (taken.trial_id, taken.taken_over) == (f"phase1-{job.trial_id}", f"phase1, trial {job.trial_id}")
    assert taken.state_reason == f"taken over from phase1, trial {job.trial_id}"


def test_what_a_training_is_for_is_kept_in_the_journal(tmp_path):
    job = Job(trial_id="x", name="any name", recipe=PHASE.base.flat(), seed=0, role=Role("refit", ("visual", "text")))
    for _ in range(2):  # asked again as after a driver's death
        stage = FixedStage(open_journal(tmp_path / "j"), "refits", [job])
        assert stage.ask() == job
    record = stage.tell(job, Outcome(state="failed", reason="", epochs=1, numbers={}, seconds=1.0))
    assert record.role == job.role
    assert stage.records() == [record]


def test_want_of_memory_is_a_field_and_no_beginning_of_a_sentence(tmp_path):
    jobs = [Job(trial_id=t, name=t, recipe=PHASE.base.flat(), seed=0) for t in ("a", "b")]
    stage = FixedStage(open_journal(tmp_path / "j"), "refits", jobs)
    told = Outcome(state="failed", reason="rank 1: no room", failure="out_of_memory", epochs=1, numbers={}, seconds=1.0)
    first, second = stage.ask(), stage.ask()
    assert stage.tell(first, told).out_of_memory
    other = dataclasses.replace(told, reason="out of memory, or so it says", failure=None)
    assert not stage.tell(second, other).out_of_memory


def test_the_same_data_at_another_path_are_the_same_and_halved_ones_are_not(tmp_path):
    folder, _, search = run(tmp_path / "phase1")
    ended(folder, search, search.ask())
    folder.write({"data": "/old/shop", "fingerprint": "f"})
    into = RunFolder(tmp_path / "other")
    moved, halved = (
        EarlierRuns([folder], into=into, source=f"/new/shop{end}", fingerprint="f") for end in ("", "#halved")
    )
    assert len(moved.searched()) == 1
    assert halved.searched() == []
