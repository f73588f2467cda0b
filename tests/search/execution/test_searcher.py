"""What a searcher makes of a training's end before it is told."""

import sys

import pytest

from search import report, run
from search.execution.searcher import AbandonedError, StageSearcher
from search.run_store.job import Job, NoRoomError
from search.run_store.journal import open_journal
from search.study.stages import FixedStage
from spaces import PHASES

JOB = Job(trial_id="kept", name="kept", recipe=PHASES["phase1"].base.flat(), seed=0)


def failed(failure):
    reason = "OSError: [Errno 28] No space left on device"
    return {"outcome": "failed", "reason": reason, "failure": failure, "epochs": 4, "done": True}


@pytest.mark.parametrize("failure", ["machine", "out_of_memory", None])
def test_a_training_that_fails_is_told(tmp_path, failure):
    stage, searcher = FixedStage(open_journal(tmp_path / "j"), "baselines", [JOB]), StageSearcher()
    searcher.serve([stage], [])
    searcher.suggest("t")
    searcher.on_trial_complete("t", failed(failure))
    (record,) = stage.records()
    assert (record.state, record.failure, searcher.failed) == ("failed", failure, None)


def test_a_disk_that_is_full_stops_the_stage_and_its_training_goes_on_first(tmp_path):
    jobs = [JOB, Job(trial_id="next", name="next", recipe=JOB.recipe, seed=1)]
    stage, searcher = FixedStage(open_journal(tmp_path / "j"), "baselines", jobs), StageSearcher()
    searcher.serve([stage], [])
    searcher.suggest("t")
    with pytest.raises(AbandonedError):
        searcher.on_trial_complete("t", failed("disk_full"))
    assert isinstance(searcher.failed, NoRoomError)
    assert "kept was trained and could not be kept (OSError: [Errno 28]" in str(searcher.failed)
    assert "free some room, then go on with --resume" in str(searcher.failed)
    with pytest.raises(AbandonedError):  # nothing more is begun
        searcher.suggest("u")
    (record,) = stage.records()
    assert record.state == "running"
    again = FixedStage(open_journal(tmp_path / "j"), "baselines", jobs)
    assert [again.ask().trial_id for _ in range(2)] == ["kept", "next"]


@pytest.mark.parametrize(
    ("command", "where"),
    [(["search.run", "phase1"], "search.run._run"), (["search.report", "results/phase1"], "search.report.report")],
)
def test_a_full_disk_is_one_line_of_a_command(command, where, monkeypatch, capsys):
    def full(*_):
        raise NoRoomError("d0 was trained and could not be kept")

    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setattr(where, full)
    assert {"search.run": run, "search.report": report}[command[0]].main() == 2
    assert capsys.readouterr().err == "error: d0 was trained and could not be kept\n"
