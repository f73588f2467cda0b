"""Files that travel between the driver's machine and the machines that train.

A cluster has no file system in common. The run folder lies with the driver; a trial that trains on another machine
works in a folder of its own, and every file that must last goes to the driver's machine through Ray's object store
before its result is reported. So a trial whose machine dies goes on elsewhere from the checkpoint of its last epoch.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fusion_models.data import DataError, RankingDataset, open_copy, open_dataset
from fusion_models.files import whole_folder, write_whole
from fusion_models.metrics.ranking_metric import NDCG_10, RankingMetric
from fusion_models.training import previous_checkpoint
from search.run_store.start_weights import START, START_FILE

Files = dict[str, bytes]
NAME = "fusion-search-depot"
TRAINING = "training"
"""The folder of a checkpoint in the making, replaced as a whole."""
PIECE = 16 * 1024**2
"""Bytes of a dataset sent at once."""
ALONE = "fusion-search-alone"
"""A resource of the one node of a Ray that a run starts for itself: no other machine will join it."""


class Depot:
    """An actor on the driver's machine that reads and writes files there for processes elsewhere."""

    def put_folder(self, folder: str, files: Files) -> None:
        """Replace `folder` by these files, whole or not at all."""
        place = Path(folder)
        with whole_folder(place, previous=previous_checkpoint(place)) as staging:
            unpack(files, staging)

    def put_files(self, folder: str, files: Files) -> None:
        """Write these files beside what `folder` holds, each whole or not at all."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_whole(place / name, content)

    def get_folder(self, folder: str) -> Files:
        """The files directly in `folder`; none where it does not exist."""
        return pack(Path(folder))

    def sizes(self, folder: str) -> dict[str, int]:
        """Name -> bytes of the files directly in `folder`."""
        return {path.name: path.stat().st_size for path in sorted(Path(folder).iterdir()) if path.is_file()}

    def read(self, path: str, offset: int) -> bytes:
        """Up to `PIECE` bytes of a file."""
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(PIECE)


@dataclass(frozen=True, kw_only=True)
class Home:
    """The driver's machine, as the others know it."""

    node: str | None
    """Ray's id of its node; None where all processes run on this one machine."""

    @property
    def depot(self) -> Any | None:
        """The depot, for a process on another machine; None on the driver's own."""
        if self.node is None or ray.get_runtime_context().get_node_id() == self.node:
            return None
        return ray.get_actor(NAME)


def open_home() -> Home:
    """Called by the driver, with Ray running: where files go."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) == 1 and ALONE in nodes[0]["Resources"]:
        return Home(node=None)
    context = ray.get_runtime_context()
    node = str(context.get_node_id())
    _depot(context.get_job_id(), node)
    return Home(node=node)


@functools.lru_cache(maxsize=1)
def _depot(job: str, node: str) -> Any:
    """Kept, since a named actor goes with the last handle of its driver."""
    return (
        ray.remote(Depot)
        .options(
            name=NAME,
            get_if_exists=True,
            num_cpus=0,
            max_concurrency=4,
            max_restarts=-1,
            max_task_retries=-1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node, soft=False),
        )
        .remote()
    )


class TrialFolder:
    """A trial's folder as the process sees it that trains it: `path` is where it reads and writes.

    On the driver's machine that is the run folder itself and nothing travels.
    """

    def __init__(self, home: Home, checkpoints: str, trial_id: str) -> None:
        self._depot = home.depot
        self._target = str(Path(checkpoints) / trial_id)
        if self._depot is None:
            self.path = Path(self._target)
        else:
            self._own = Path(tempfile.mkdtemp(prefix="fusion-search-"))
            weakref.finalize(self, shutil.rmtree, self._own, ignore_errors=True)
            self.path = self._own / trial_id
            self.path.mkdir()

    @property
    def training(self) -> Path:
        """The folder of the checkpoint in the making."""
        return self.path / TRAINING

    def fetch(self) -> None:
        """Bring the last checkpoint here, and the one before it, wherever they were written."""
        if self._depot is not None:
            for name in (TRAINING, f".{TRAINING}.previous"):
                files = ray.get(self._depot.get_folder.remote(str(Path(self._target) / name)))
                if files:
                    unpack(files, self.path / name)

    def start_weights(self) -> Path:
        """The file of the weights that the run's trainings start from, on this machine."""
        place = Path(self._target).parent / START
        if self._depot is None:
            return place / START_FILE
        unpack(ray.get(self._depot.get_folder.remote(str(place))), self._own / START)
        return self._own / START / START_FILE

    def send_checkpoint(self) -> None:
        """On return the checkpoint in `training` is safe with the driver."""
        if self._depot is not None:
            target = str(Path(self._target) / TRAINING)
            ray.get(self._depot.put_folder.remote(target, pack(self.training)))

    def send_results(self) -> None:
        """On return the files of a finished training are safe with the driver."""
        if self._depot is not None:
            ray.get(self._depot.put_files.remote(self._target, pack(self.path)))


@dataclass(frozen=True, kw_only=True)
class DataTicket:
    """A dataset as it travels: each machine opens its own copy, once a process."""

    source: str
    cache: str | None = None
    fingerprint: str | None = None
    """What the driver's data has; None: whatever the source holds."""
    folder: str = ""
    """The arrays on the driver's machine."""
    metric: RankingMetric = NDCG_10
    """What rankers are measured by."""
    home: Home = Home(node=None)

    def open(self) -> RankingDataset:
        """The driver's data, on this machine.

        Opened from its source where this machine sees the same data there, else sent by the driver, once a machine (a
        local path that only the driver has, other files under the same path). Raises DataError where neither can be.
        """
        return _open(self)


@functools.lru_cache(maxsize=2)
def _open(ticket: DataTicket) -> RankingDataset:
    depot = ticket.home.depot
    try:
        data = open_dataset(ticket.source, cache=ticket.cache)
    except (DataError, OSError):
        if depot is None or ticket.fingerprint is None:
            raise
    else:
        if ticket.fingerprint in (None, data.fingerprint):
            return data.measured_by(ticket.metric)
    if depot is None or ticket.fingerprint is None:
        raise DataError(f"{ticket.source} was changed while the run went on.", "Start a new run with --fresh.")

    def fetch(workshop: Path) -> None:
        for name, size in ray.get(depot.sizes.remote(ticket.folder)).items():
            with (workshop / name).open("wb") as file:
                while file.tell() < size:
                    file.write(ray.get(depot.read.remote(f"{ticket.folder}/{name}", file.tell())))

    return open_copy(ticket.source, ticket.fingerprint, fetch, cache=ticket.cache).measured_by(ticket.metric)


def ticket_for(data: RankingDataset, cache: str | None = None) -> DataTicket:
    """Called by the driver: `data` for tasks on any machine of the cluster."""
    return DataTicket(
        source=data.source,
        cache=cache,
        fingerprint=data.fingerprint,
        folder=str(data.folder),
        metric=data.metric,
        home=open_home(),
    )


def pack(folder: Path, *names: str) -> Files:
    """Name -> content of the files directly in `folder`, or of those named."""
    if not folder.is_dir():
        return {}
    paths = [folder / name for name in names] if names else [path for path in folder.iterdir() if path.is_file()]
    return {path.name: path.read_bytes() for path in paths}


def unpack(files: Files, folder: Path) -> None:
    """Write `files` into `folder`, and wait until the disk has them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        with (folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


@contextlib.contextmanager
def unpacked(files: Files) -> Iterator[Path]:
    """A folder with `files` while the block runs."""
    with tempfile.TemporaryDirectory(prefix="fusion-search-") as name:
        unpack(files, Path(name))
        yield Path(name)
