"""Ray and Serve on this machine, bound to loopback unless told otherwise."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator

import ray
from ray import serve
from ray.serve.config import HTTPOptions

from search.execution.cluster import start_ray

LOOPBACK = "127.0.0.1"


def require_free(host: str, port: int) -> None:
    """Raises ValueError where `host:port` cannot be listened on: Serve would share a port with who has it, or hang."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except (OSError, OverflowError) as error:
        said = str(getattr(error, "strerror", None) or error).partition(" (")[0]
        raise ValueError(f"cannot listen on {host}:{port} ({said}): give another --port or --host") from error


@contextlib.contextmanager
def serving(*, host: str = LOOPBACK, port: int = 8000) -> Iterator[None]:
    """Serve's proxy on `host:port` while the block runs, in a Ray of its own or the one that runs already.

    Raises ValueError where Ray cannot start here.
    """
    # Ray starts every worker at nice 15; the answering one must not stand behind others.
    os.environ.setdefault("RAY_worker_niceness", "0")
    own = not ray.is_initialized()
    if own:
        start_ray(
            {
                "address": "local",
                "_node_ip_address": LOOPBACK,
                "include_dashboard": False,
                "object_store_memory": 200 * 1024**2,
                "num_cpus": max(2, os.cpu_count() or 2),
                "log_to_driver": False,
                "logging_level": logging.ERROR,
            }
        )
    try:
        serve.start(http_options=HTTPOptions(host=host, port=port))
        yield
    finally:
        with contextlib.suppress(Exception):  # Ctrl-C may come while Serve is half up
            serve.shutdown()
        if own:
            ray.shutdown()
