"""The journal survives a writer that is killed in the middle of a line."""

import optuna
import pytest

from search.journal import cut_torn_tail, open_journal


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
