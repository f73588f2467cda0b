"""Processor seconds of tests by file, whatever else the machine does:

    PYTHONPATH=benchmarks python -m pytest -p test_times -m "not (slow or ray or cluster or browser)" tests/metrics

Wall time on a shared machine says more of the others than of a test. Counted are this process and the children that it
has waited for; what Ray's processes do is not.
"""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

SHOWN = 30
_seconds: Counter[str] = Counter()


def _spent() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Book a test, its fixtures included, on its file."""
    before = _spent()
    try:
        return (yield)
    finally:
        _seconds[item.nodeid.partition("::")[0]] += _spent() - before


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The files that took most."""
    terminalreporter.write_line(f"processor seconds: {sum(_seconds.values()):.0f} in all")
    for name, seconds in _seconds.most_common(SHOWN):
        terminalreporter.write_line(f"{seconds:8.1f}  {name}")
