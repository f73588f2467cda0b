"""One Tune experiment for a run: its processes stay from stage to stage, measure in between, and go with it."""

import os
import signal
import time

import psutil
import pytest

from search.execution.ddp.worker_groups import WORKER_DEATHS
from search.execution.file_transfer import DataTicket
from search.execution.interrupts import remembered_interrupts
from search.execution.tuning import TuneSession
from search.options import RunOptions
from search.run_store.job import Job
from search.run_store.journal import open_journal
from search.study.stages import FixedStage
from spaces import PHASES

SMALL = "planted?queries=160&candidates=8"
BASE = PHASES["phase1"].base.updated({"model.layers": 1, "train.epochs": 2, "train.patience": 2})
SOON = 60.0


class Processes:
    """An observer that notes which process trained which job."""

    def __init__(self):
        self.of = {}

    def on_epoch(self, stage, job, result):
        self.of[job.trial_id] = result["pid"]

    def on_end(self, stage, record, result):
        self.of.setdefault(record.trial_id, result.get("pid"))


def jobs(name, count):
    return [Job(trial_id=f"{name}-{i}", name=name, recipe=BASE.flat(), seed=i) for i in range(count)]


def session(path, small_data, **changes):
    options = RunOptions(phase="phase1", data=SMALL, max_concurrent=2, **changes)
    folders = {"checkpoints": path / "checkpoints", "tune_folder": path / "tune"}
    return TuneSession(options, DataTicket(source=small_data.source), **folders, report_seconds=0.0)


def train(open_session, storage, name, count=4, **more):
    stage, noted = FixedStage(storage, name, jobs(name, count)), Processes()
    open_session.train([stage], [noted], **more)
    return stage, noted.of


MEET = """(lambda os, time, torch, place: (
    open(os.path.join(place, str(os.getpid())), "w").close(),
    [time.sleep(0.05) for _ in iter(lambda: len(os.listdir(place)) < 2, False)],
    (os.getpid(), torch.get_num_threads()),
)[-1])(*map(__import__, ("os", "time", "torch")), {!r})"""
"""For `eval`, since a process that trains does not know this file: waits until two processes are at it."""


def children():
    return {child.pid for child in psutil.Process().children(recursive=True)}


def waits_for(condition):
    end = time.monotonic() + SOON
    while time.monotonic() < end and not condition():
        time.sleep(0.1)
    return condition()


@pytest.fixture(scope="module")
def served(tmp_path_factory, small_data, shared_ray):
    """Two stages with calls between them, in one session; which process did what."""
    path = tmp_path_factory.mktemp("served")
    storage = open_journal(path / "j")
    with session(path, small_data) as open_session:
        first, pids = train(open_session, storage, "first")
        place = path / "meeting"
        place.mkdir()
        calls = [open_session.call(eval, MEET.format(str(place))) for _ in range(2)]
        answers = [answer() for answer in calls]
        refused = open_session.call(int, "on principle")
        with pytest.raises(ValueError, match="on principle"):
            refused()
        second, more = train(open_session, storage, "second")
        gone = set(pids.values()) | set(more.values())
        assert gone <= children()
    return first, pids, answers, second, more, gone


def test_every_training_of_every_stage_ends(served):
    first, _, _, second, _, _ = served
    assert [(r.state, r.epochs) for r in first.records() + second.records()] == [("finished", 2)] * 8


def test_processes_stay_from_stage_to_stage_and_answer_between_them(served):
    _, pids, answers, _, more, _ = served
    both = {pid for pid, _ in answers}
    assert len(both) == 2
    assert set(pids.values()) | set(more.values()) <= both
    assert {threads for _, threads in answers} == {1}


def test_processes_go_with_the_session(served):
    assert waits_for(lambda: not served[-1] & children())


def test_the_death_of_an_idle_process_costs_nothing(tmp_path, small_data, shared_ray):
    storage = open_journal(tmp_path / "j")
    with session(tmp_path, small_data) as open_session:
        _, pids = train(open_session, storage, "first", 2)
        for pid in set(pids.values()):
            os.kill(pid, signal.SIGKILL)
        assert waits_for(lambda: not set(pids.values()) & children())
        second, _ = train(open_session, storage, "second", 2)
    assert [r.state for r in second.records()] == ["finished"] * 2


def test_a_call_whose_process_dies_is_tried_again_and_then_fails_with_the_reason(tmp_path, small_data, shared_ray):
    deaths = tmp_path / "deaths"
    die = f"(open({str(deaths)!r}, 'a').write('x'), __import__('os').kill(__import__('os').getpid(), 9))"
    with session(tmp_path, small_data) as open_session:
        with pytest.raises(RuntimeError, match="its process died"):
            open_session.call(eval, die)()
        assert open_session.call(abs, -1)() == 1
    assert len(deaths.read_text()) == 1 + WORKER_DEATHS


def test_a_stage_whose_time_is_over_begins_nothing_and_the_next_one_goes_on(tmp_path, small_data, shared_ray):
    storage = open_journal(tmp_path / "j")
    with session(tmp_path, small_data) as open_session:
        late, _ = train(open_session, storage, "late", 2, deadline=lambda: time.monotonic() - 1.0)
        assert late.left == 2
        stage, _ = train(open_session, storage, "next", 2)
    assert stage.left == 0


def test_ctrl_c_while_trainings_run_ends_the_session_and_leaves_room_for_another(tmp_path, small_data, shared_ray):
    class Interrupts(Processes):
        def on_epoch(self, stage, job, result):
            os.kill(os.getpid(), signal.SIGINT)

    storage = open_journal(tmp_path / "j")
    with pytest.raises(KeyboardInterrupt), remembered_interrupts(), session(tmp_path, small_data) as open_session:
        open_session.train([FixedStage(storage, "first", jobs("first", 2))], [Interrupts()])
    with session(tmp_path, small_data) as open_session:
        again, _ = train(open_session, open_journal(tmp_path / "j"), "first", 2)
    assert [r.state for r in again.records()] == ["finished"] * 2


@pytest.mark.parametrize("when", ["on_epoch", "on_end"])
def test_an_observer_that_raises_ends_the_session_with_its_error(tmp_path, small_data, shared_ray, when):
    class Refuses(Processes):
        def __init__(self):
            super().__init__()
            setattr(self, when, self.refuse)

        def refuse(self, *_):
            raise ValueError("no more")

    storage = open_journal(tmp_path / "j")
    with session(tmp_path, small_data) as open_session:
        stage = FixedStage(storage, "first", jobs("first", 1))
        with pytest.raises(ValueError, match="no more"):
            open_session.train([stage], [Refuses()])
        call = open_session.call(os.getpid)
        with pytest.raises(ValueError, match="no more"):  # nobody is left to make it, and nobody waits
            call()
        with pytest.raises(ValueError, match="no more"):
            open_session.train([FixedStage(storage, "second", jobs("second", 1))], [])


def test_a_stage_of_its_own_ends_with_the_error_of_its_last_trial_s_observer(tmp_path, small_data, shared_ray):
    class Refuses(Processes):
        def on_end(self, stage, record, result):
            raise OSError("no space left on device")

    options = RunOptions(phase="phase1", data=SMALL, max_concurrent=2)
    stage = FixedStage(open_journal(tmp_path / "j"), "first", jobs("first", 1))
    with pytest.raises(OSError, match="no space left"):
        TuneSession(
            options,
            DataTicket(source=small_data.source),
            checkpoints=tmp_path / "checkpoints",
            tune_folder=tmp_path / "tune",
        ).train([stage], [Refuses()])
