"""Ctrl-C that is not lost.

Python drops an exception that is raised inside a finaliser or a callback from C, KeyboardInterrupt too, and a long run
is full of both. So a signal is remembered as well as raised, and whoever is asked for the next training looks.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_pending = False


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


def raise_if_interrupted() -> None:
    """Raise the KeyboardInterrupt that came and was swallowed on its way; once."""
    global _pending
    if _pending:
        _pending = False
        raise KeyboardInterrupt


def _remember(number: int, frame: FrameType | None) -> None:
    global _pending
    _pending = True
    raise KeyboardInterrupt
