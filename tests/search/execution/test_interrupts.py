"""A Ctrl-C that Python drops is not lost."""

import gc
import os
import signal
import threading

import pytest

from search.execution.interrupts import (
    PATIENCE,
    ending,
    heard_interrupts,
    raise_if_interrupted,
    remembered_interrupts,
)
from search.run import _way_on


def interrupt():
    """Ctrl-C, and time for the interpreter to take it."""
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):
        pass


class Finalised:
    """Interrupts its own process while it is being finalised, where no exception gets out."""

    def __init__(self):
        self.itself = self

    def __del__(self):
        interrupt()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_inside_a_finaliser_is_raised_at_the_next_look():
    before = signal.getsignal(signal.SIGINT)
    with remembered_interrupts():
        Finalised()
        gc.collect()
        with pytest.raises(KeyboardInterrupt):
            raise_if_interrupted()
        raise_if_interrupted()  # and only once
    assert signal.getsignal(signal.SIGINT) is before


def test_an_ordinary_interrupt_is_raised_at_once_and_forgotten_with_the_run():
    with pytest.raises(KeyboardInterrupt), remembered_interrupts():
        interrupt()
    raise_if_interrupted()


def put_away(done, interrupts):
    with ending():
        for _ in range(interrupts):
            interrupt()
        done.append(interrupts)


def test_an_interrupt_waits_for_the_end_of_an_ending_unless_somebody_insists():
    done = []
    with remembered_interrupts():
        put_away(done, 0)
        for interrupts in (1, PATIENCE, PATIENCE + 1):
            with pytest.raises(KeyboardInterrupt):
                put_away(done, interrupts)
        with pytest.raises(KeyboardInterrupt):
            interrupt()
    assert done == [0, 1, PATIENCE]


def test_every_command_says_what_goes_on_from_an_interrupt():
    assert _way_on(["phase3", "--seed", "1"]).endswith("--resume goes on from here")
    for further in (["--settle"], ["--trials", "48", "--extend"]):
        assert _way_on(["phase3", *further]).endswith("the same command goes on from here")
    assert _way_on(["audit", "--scores", "v2.parquet"]) == "give the same command again"


def test_an_interrupt_is_heard_in_the_main_thread_and_changes_nothing_in_another():
    before, seen = signal.getsignal(signal.SIGINT), []
    with heard_interrupts():
        assert signal.getsignal(signal.SIGINT) is not before

    def elsewhere():
        with heard_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before]
