"""The journal survives a writer that is killed in the middle of a line."""

import os

import optuna
import pytest

from search.run_store.job import Outcome
from search.run_store.journal import cut_torn_tail, open_journal, together
from search.study.search_stage import SearchStage
from spaces import PHASES


def test_a_torn_tail_is_cut_and_every_told_trial_stays(tmp_path):
    path = tmp_path / "study.journal"
    study = optuna.create_study(storage=open_journal(path), study_name="search", directions=["maximize"])
    for value in (1.0, 2.0):
        study.tell(study.ask(), value)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code":5,"worker_id":"x","stu')
    again = optuna.load_study(study_name="search", storage=open_journal(path))
    assert [t.value for t in again.trials] == [1.0, 2.0]
    assert path.read_bytes() == whole


@pytest.mark.parametrize("torn", [b"", b"x", b"x" * 70_000])
def test_cutting_says_how_many_bytes_went(tmp_path, torn):
    path = tmp_path / "journal"
    path.write_bytes(b"one\ntwo\n" + torn)
    assert cut_torn_tail(path) == len(torn)
    assert path.read_bytes() == b"one\ntwo\n"


def test_a_journal_without_one_whole_line_is_emptied(tmp_path):
    path = tmp_path / "journal"
    path.write_bytes(b"half a line")
    assert cut_torn_tail(path) == 11
    assert path.read_bytes() == b""


def test_the_lock_of_a_killed_writer_does_not_block(tmp_path):
    path = tmp_path / "study.journal"
    open_journal(path)
    (tmp_path / "study.journal.lock").touch()
    study = optuna.create_study(storage=open_journal(path), study_name="s")
    study.tell(study.ask(), 0.0)
    assert len(study.trials) == 1


def test_a_trial_is_asked_and_told_with_one_fsync_each_and_without_copying_the_study(tmp_path, monkeypatch):
    journal = open_journal(tmp_path / "j")
    stage = SearchStage(journal, PHASES["phase1"], sampler="random", trials=9, seed=0)
    synced, copied = [], []
    fsync, get_all_trials = os.fsync, type(journal).get_all_trials

    def counted(self, study_id, deepcopy=True, states=None):
        copied.append(deepcopy)
        return get_all_trials(self, study_id, deepcopy, states)

    monkeypatch.setattr(os, "fsync", lambda number: (synced.append(number), fsync(number)))
    monkeypatch.setattr(type(journal), "get_all_trials", counted)
    lines = (tmp_path / "j").read_bytes().count(b"\n")
    for _ in range(5):
        outcome = Outcome(state="failed", reason="why", epochs=1, numbers={}, seconds=1.0)
        stage.tell(stage.ask(), outcome)
    assert len(synced) == 10
    assert (tmp_path / "j").read_bytes().count(b"\n") - lines > 50
    assert not any(copied)


def test_lines_of_one_fact_are_in_the_file_at_once_and_synced_when_it_is_whole_or_broken_off(tmp_path, monkeypatch):
    journal = open_journal(tmp_path / "j")
    study = optuna.create_study(storage=journal, study_name="s")
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (synced.append(number), fsync(number)))
    before = (tmp_path / "j").read_bytes()

    def broken_off():
        with together(journal), together(journal):
            study.set_user_attr("a", 1)
            written.append((tmp_path / "j").read_bytes())
            raise KeyboardInterrupt

    written = []
    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert len(written[0]) > len(before)  # a kill -9 here would lose nothing
    assert len(synced) == 1
    study.set_user_attr("b", 2)
    assert len(synced) == 2
    again = optuna.load_study(study_name="s", storage=open_journal(tmp_path / "j"))
    assert again.user_attrs == {"a": 1, "b": 2}


def test_opening_a_whole_journal_leaves_its_bytes_and_its_time(tmp_path):
    path = tmp_path / "study.journal"
    optuna.create_study(storage=open_journal(path), study_name="search")
    before = path.read_bytes(), path.stat().st_mtime_ns
    open_journal(path)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
