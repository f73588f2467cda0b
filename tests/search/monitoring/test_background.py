"""What is written in the background is written in order, whole, and its errors are heard of."""

import threading

import pytest

from search.monitoring.background import InBackground


class Slow:
    """An observer that waits to be let go, and notes who called it with what."""

    def __init__(self):
        self.go = threading.Event()
        self.seen = []

    def on_epoch(self, stage, job, result):
        assert self.go.wait(60)
        self.seen.append((threading.current_thread(), stage, job, result))

    def on_end(self, stage, record, result):
        self.seen.append((threading.current_thread(), stage, record, result))


def test_the_caller_does_not_wait_and_leaving_does():
    slow = Slow()
    with InBackground(slow, pytest.fail) as background:
        for epoch in range(50):
            background.on_epoch("stage", "job", {"epochs": epoch})
        background.on_end("stage", "record", {})
        assert slow.seen == []
        slow.go.set()
    assert [entry[3].get("epochs") for entry in slow.seen] == [*range(50), None]
    assert {entry[0] for entry in slow.seen}.isdisjoint({threading.current_thread()})
    assert len({entry[0] for entry in slow.seen}) == 1


class Full:
    """An observer whose disk is full."""

    calls = 0

    def on_epoch(self, stage, job, result):
        self.calls += 1
        raise OSError("no space left")

    def on_end(self, stage, record, result):
        raise AssertionError("called after it had failed")


def write_to_a_full_disk(full, failed):
    with InBackground(full, failed) as background:
        for _ in range(3):
            background.on_epoch("stage", "job", {})
        background.on_end("stage", "record", {})


def interrupted(full, failed):
    with InBackground(full, failed) as background:
        background.on_epoch("stage", "job", {})
        raise KeyboardInterrupt


def test_what_it_raises_is_told_once_at_the_end_and_nothing_more_is_passed_on():
    full, told = Full(), []
    write_to_a_full_disk(full, told.append)
    assert [str(error) for error in told] == ["no space left"]
    assert full.calls == 1


def test_what_was_raised_before_it_stays_what_is_raised():
    told = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(Full(), told.append)
    assert len(told) == 1
