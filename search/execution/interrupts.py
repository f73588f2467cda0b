"""Ctrl-C that is not lost.

Python drops an exception that is raised inside a finaliser or a callback from C, KeyboardInterrupt too, and a long run
is full of both. So a signal is remembered as well as raised, and whoever is asked for the next training looks.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType

PATIENCE = 3
"""Further Ctrl-Cs that an ending does not hear; the next one breaks it off, should it hang."""
_pending = False
_ending = 0
_unheard = 0


@contextmanager
def remembered_interrupts() -> Iterator[None]:
    """Inside, in a program's main thread, SIGINT raises KeyboardInterrupt and `raise_if_interrupted` knows of it."""
    global _pending
    _pending = False
    before = signal.signal(signal.SIGINT, _remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _pending = False


@contextmanager
def heard_interrupts() -> Iterator[None]:
    """`remembered_interrupts` where signals can be heard: in another thread than the main one nothing changes."""
    main = threading.current_thread() is threading.main_thread()
    with remembered_interrupts() if main else nullcontext():
        yield


def raise_if_interrupted() -> None:
    """Raise the KeyboardInterrupt that came and was swallowed on its way; once."""
    global _pending
    if _pending:
        _pending = False
        raise KeyboardInterrupt


@contextmanager
def ending() -> Iterator[None]:
    """Inside, where things are put away, a Ctrl-C waits for the end: half an ending leaves processes behind."""
    global _ending, _unheard
    _ending, _unheard = _ending + 1, 0
    try:
        yield
    finally:
        _ending -= 1
    if not _ending:
        raise_if_interrupted()


def _remember(number: int, frame: FrameType | None) -> None:
    global _pending, _unheard
    _pending = True
    if _ending and _unheard < PATIENCE:
        _unheard += 1
        return
    raise KeyboardInterrupt
