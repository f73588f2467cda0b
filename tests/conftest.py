"""Small real datasets that many tests share."""

import pytest

from fusion_models.data import open_dataset


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Datasets are built in a cache of this test run, never in the user's."""
    patch = pytest.MonkeyPatch()
    patch.setenv("FUSION_SEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


SMALL = "planted?queries=160&candidates=8"


@pytest.fixture(scope="session")
def small_data(_own_cache):
    """160 planted queries with 8 candidates each."""
    return open_dataset(SMALL)


@pytest.fixture(scope="session")
def roadmap(tmp_path_factory):
    """The folder of a roadmap that was killed in its second phase and resumed, and what it printed after."""
    from roadmap_run import killed_and_resumed

    return killed_and_resumed(tmp_path_factory.mktemp("roadmap"))
