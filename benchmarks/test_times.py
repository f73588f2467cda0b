"""Seconds of tests by file: processor and wall, so that what a file waits is told from what it computes.

    PYTHONPATH=benchmarks python -m pytest -n 0 -p test_times -m "not (slow or ray or cluster or browser or gpu)" tests

In one process (`-n 0`), since what runs beside a test would be booked on it. Wall time on a shared machine says more of
the others than of a test. Counted as processor time are this process and the children that it has waited for; what
Ray's processes do is not.
"""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

SHOWN = 60
_seconds: Counter[str] = Counter()
_wall: Counter[str] = Counter()


def _spent() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Book a test, its fixtures included, on its file."""
    before, began = _spent(), time.monotonic()
    try:
        return (yield)
    finally:
        file = item.nodeid.partition("::")[0]
        _seconds[file] += _spent() - before
        _wall[file] += time.monotonic() - began


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The files that took most of either."""
    terminalreporter.write_line(
        f"seconds, processor and wall: {sum(_seconds.values()):.0f} {sum(_wall.values()):.0f} in all"
    )
    for name, _ in (_seconds + _wall).most_common(SHOWN):
        terminalreporter.write_line(f"{_seconds[name]:8.1f} {_wall[name]:8.1f}  {name}")
