"""One Ray for all tests of a session that can share it, and a place where a run's output goes."""

import io

import pytest
from rich.console import Console

from search.cluster import ray_session
from search.options import RunOptions


@pytest.fixture(scope="session")
def shared_ray(_own_cache):
    """Ray, started as a run starts it; runs inside join it. Its workers see the tests' own dataset cache."""
    with ray_session(RunOptions(phase="phase3")):
        yield


@pytest.fixture
def console():
    """A console that is no terminal; what was printed is `console.file.getvalue()`."""
    return Console(file=io.StringIO(), width=200)
