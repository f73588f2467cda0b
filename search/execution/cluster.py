"""Ray for a run: start or join it."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray

from fusion_models.models.own import is_own, own_model
from search.execution.capacity import require_room
from search.execution.ddp.worker_groups import TRAIN_SETTINGS, close_groups
from search.execution.file_transfer import ALONE
from search.execution.interrupts import ending
from search.options import RunOptions

WORKER = "FUSION_SEARCH_WORKER"
"""Set in the processes that a run starts: see `search/__init__.py`."""
STARTS = 3
SLOW_START = "timed out during startup"
"""What Ray says where its own processes were not up in time."""
ANSWERS_WITHIN = 10.0
"""Seconds in which a cluster's head takes a connection."""
LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
"""Bytes of a socket's path."""
_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "100000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "1",
}


@contextlib.contextmanager
def ray_session(options: RunOptions, variant: str = "") -> Iterator[None]:
    """Ray while the block runs: joined where it already runs in this process, else started and stopped.

    A module of one's own (`--model`, or a recipe's `variant`) reaches the workers: those of this machine find it where
    the driver does, those of a cluster are sent its source by Ray's runtime environment.

    Raises ValueError where `options.address` names no cluster that answers, Ray cannot start here, or one training asks
    for more than this machine has.
    """
    if ray.is_initialized():
        require_room(options)
        try:
            yield
        finally:
            close_groups()
        return
    for key, value in (_QUIET | TRAIN_SETTINGS).items():
        os.environ.setdefault(key, value)
    warnings.filterwarnings("ignore", module=r"ray(\..*)?")
    arguments: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if options.address is None:
        arguments |= {
            "address": "local",
            "_node_ip_address": "127.0.0.1",
            "include_dashboard": False,
            "object_store_memory": 200 * 1024**2,
            "num_cpus": processors(),
            "resources": {ALONE: 1},
        }
    else:
        arguments["address"] = options.address
    inherited = {WORKER: "1"}  # what Ray starts now inherits it, and so do its workers
    own = options.model or (variant if is_own(variant) else None)
    if own is not None:
        root = own_model(own).root
        if options.address is not None:
            arguments["runtime_env"] = {"py_modules": [str(root)]}
        inherited["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root.parent), os.environ.get("PYTHONPATH")]))
    with _environment(inherited):
        start_ray(arguments, options.address)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    try:
        require_room(options)
        yield
    finally:
        with ending():
            close_groups()
            ray.shutdown()


def start_ray(arguments: Mapping[str, Any], address: str | None = None) -> None:
    """Start or join Ray. It gives its own processes 30 s to come up, which a busy machine may not: then once more.

    Raises ValueError where no cluster answers at `address`, or where Ray does not come up here.
    """
    if address is None:
        _require_writable(_folder_of_ray())
    else:
        _require_answer(address)
    for left in reversed(range(STARTS)):
        try:
            ray.init(**arguments)
            return
        except Exception as error:  # of Ray, gRPC, the system: they share no other base
            ray.shutdown()
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            if address is not None and isinstance(error, ConnectionError):
                raise ValueError(f"--address {address}: no Ray cluster answers there ({said})") from error
            if address is not None:
                raise ValueError(f"--address {address}: Ray cannot join ({type(error).__name__}: {said})") from error
            if SLOW_START not in str(error):
                logs = _folder_of_ray() / "session_latest" / "logs"
                raise ValueError(
                    f"Ray cannot start here ({type(error).__name__}: {said}): its logs in {logs} may say why"
                ) from error
            if not left:
                raise ValueError(
                    f"Ray did not come up on this machine in {STARTS} tries ({error}): it is busy, or short of memory; "
                    "give the same command again when it is not"
                ) from error


def _require_answer(address: str) -> None:
    """Raises ValueError where nothing listens at HOST:PORT, for which Ray waits some minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return  # `auto`, or what Ray alone can read
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise ValueError(f"--address {address}: no Ray cluster answers there ({error})") from error


def _folder_of_ray() -> Path:
    """Where Ray puts its sockets and logs on this machine."""
    names = ("RAY_TMPDIR", "TMPDIR") if sys.platform.startswith("linux") else ("RAY_TMPDIR",)
    given = [os.environ[name] for name in names if name in os.environ]
    return Path(*given[:1] or ["/tmp"], "ray").absolute()  # as Ray chooses it


def _require_writable(folder: Path) -> None:
    """Raises ValueError where Ray could make no socket in its folder, which Ray says late and in its own words."""
    remedy = "set RAY_TMPDIR to a short folder that you may write"
    session = f"session_0000-00-00_00-00-00_000000_{os.getpid()}/sockets/plasma_store"
    spare = LONGEST_SOCKET - len(os.fsencode(folder / session))
    if spare < 0:
        raise ValueError(
            f"{folder} is too long for Ray's sockets, whose paths have at most {LONGEST_SOCKET} bytes: {remedy} "
            f"({-spare} bytes shorter at the least)"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(4096))
    except OSError as error:
        raise ValueError(
            f"Ray cannot write to {folder} ({error.strerror or type(error).__name__}): {remedy}"
        ) from error


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """These variables while the block runs, and after it what stood there."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def processors() -> int:
    """Of this machine, as far as this process may use them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
