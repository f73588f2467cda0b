"""A call that another process makes: its answer stands, however often it is asked for."""

import pickle

import pytest

from search.execution.remote_calls import RemoteCall, run_remote_call


def shout(text):
    return text.upper()


def refuse(text):
    raise ValueError(f"{text} is refused")


def made(folder, function):
    call = RemoteCall(folder, function, ("this",))
    run_remote_call(call.path)
    call.end()
    return call


def test_the_answer_is_the_same_each_time_and_its_files_go(tmp_path):
    call = made(tmp_path, shout)
    assert [call.answer(), call.answer()] == ["THIS", "THIS"]
    assert not list(tmp_path.iterdir())


def test_what_was_raised_is_raised_each_time(tmp_path):
    """Two references may share one training of LambdaMART: where it fails, both are told why."""
    call = made(tmp_path, refuse)
    for _ in range(2):
        with pytest.raises(ValueError, match="this is refused"):
            call.answer()


def test_a_call_that_could_not_be_made_says_why(tmp_path):
    call = RemoteCall(tmp_path, shout, ("this",))
    assert pickle.loads(call.path.read_bytes()) == (shout, ("this",))
    call.end(RuntimeError("no process was left"))
    with pytest.raises(RuntimeError, match="no process was left"):
        call.answer()
