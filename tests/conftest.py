"""Small real datasets that many tests share."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import lanes
import marks
import pytest

from fusion_models.data import open_dataset

MAY_START_RAY = ("ray", "cluster", "browser", "gpu")


def pytest_configure(config):
    """Hypothesis times no example, since beside other tests a first call may take longer than its 200 ms.

    It draws the same ones each time: luck is for whoever looks for it (`FUSION_EXPLORE=1`), not for another change.
    """
    if config.pluginmanager.hasplugin("hypothesispytest"):
        from hypothesis import settings

        settings.register_profile("beside others", deadline=None, derandomize="FUSION_EXPLORE" not in os.environ)
        settings.load_profile("beside others")


@pytest.hookimpl(tryfirst=True)  # before xdist reads its options
def pytest_cmdline_main(config):
    """Spread whoever runs folders over processes, lane by lane; `-n 0`, `--pdb` and single files stay in this one."""
    if config.pluginmanager.hasplugin("xdist") and not hasattr(config, "workerinput"):
        if config.option.numprocesses is None and not config.option.usepdb and lanes.is_whole(config.args):
            config.option.numprocesses = lanes.processes()
        if config.option.numprocesses and config.option.dist == "no":
            config.option.dist = "loadscope"
            os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes inherit it


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Tests of one lane stay together."""
    return lanes.scheduler(config, log)


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    """Mark every test by its fixtures and by the lists of `marks`."""
    for item in items:
        if marks.TESTS in item.path.parents:
            name = getattr(item, "originalname", item.name)
            for mark in sorted(marks.marks_of(item.path, name, item.fixturenames)):
                item.add_marker(mark)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """A test that is not marked runs, set-up included, where Ray cannot start."""
    if any(item.get_closest_marker(mark) for mark in MAY_START_RAY):
        return (yield)
    with marks.ray_forbidden():
        return (yield)


def pytest_terminal_summary(terminalreporter):
    """Name what took long and is not marked so, and say loudly why the cluster was not tested where it was not."""
    seconds = {}
    for report in (r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, [])):
        if not {"slow", *MAY_START_RAY} & set(report.keywords):
            seconds[report.nodeid] = seconds.get(report.nodeid, 0.0) + report.duration
    for test, took in seconds.items():
        if took > marks.SLOW_SECONDS:
            terminalreporter.write_line(f"{took:.0f} s and not marked slow (tests/marks.py): {test}", yellow=True)
    for report in terminalreporter.stats.get("skipped", []):
        if "cluster" in report.keywords:
            terminalreporter.write_line(f"THE CLUSTER WAS NOT TESTED: {report.longrepr[2]}", yellow=True, bold=True)
            break


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Datasets are built in a cache of this test run, and looks counted in a state of its own, never in the user's.

    Its processes share the cache, so that a dataset is built once; each has a state of its own.
    """
    run = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run = run.parent
    patch = pytest.MonkeyPatch()
    patch.setenv("FUSION_SEARCH_CACHE", str(run / "shared-cache"))
    patch.setenv("FUSION_SEARCH_STATE", str(tmp_path_factory.mktemp("state")))
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


@dataclass
class FullDisk:
    """A small file system of its own, to be filled."""

    path: Path

    def fill(self):
        """Write until there is no space left."""
        with (self.path / "filler").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def empty(self):
        """Give the space back."""
        (self.path / "filler").unlink()


@pytest.fixture
def full_disk(tmp_path):
    """A tmpfs of 4 MiB. Only root may mount one: skipped, and said so, elsewhere."""
    path = tmp_path / "disk"
    path.mkdir()
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: a full disk needs root, to mount a tmpfs")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"NOT TESTED: a full disk needs a tmpfs: {mounted.stderr.strip()}")
    yield FullDisk(path)
    subprocess.run(["umount", "-l", path], check=True)


@pytest.fixture
def one_thread():
    """Torch on one thread: small trainings are quicker so, and sums come out the same on every machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
