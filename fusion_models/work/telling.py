"""Progress of long work, from the code that does it to whatever shows it. Nothing here knows how it is shown."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import TypeVar

Listener = Callable[[str, int, int], None]
"""(what is done, how much of it, of how much): counts of one unit, rows or bytes or files."""
T = TypeVar("T")
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """While the block runs, `listener` hears how far the work of this thread is."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(what: str, done: int, total: int) -> None:
    """Say that `done` of `total` of `what` is done; nobody may be listening."""
    listener = _listener.get()
    if listener is not None:
        listener(what, done, total)


def told(what: str, things: Sequence[T]) -> Iterator[T]:
    """The things one by one, telling how many are done."""
    for done, thing in enumerate(things):
        tell(what, done, len(things))
        yield thing
    tell(what, len(things), len(things))
