"""Modules of somebody's own, in a folder that is on the path for these tests alone."""

from pathlib import Path

import pytest

MODULES = Path(__file__).parent / "modules"


@pytest.fixture(autouse=True)
def _modules_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(MODULES)
