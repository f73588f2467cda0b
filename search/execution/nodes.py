"""Whether a machine of the cluster is still there, asked of the machine itself."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

import ray

CONNECT_SECONDS = 5.0


def machines_gone(machines: Iterable[str]) -> set[str]:
    """Of Ray's ids of machines, those that it has given up or whose raylet takes no connection.

    Ray itself gives a machine up after 15 to 65 s of silence; by then what was lost may have been started elsewhere.
    """
    known = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
    return {machine for machine in machines if machine not in known or not answers(known[machine])}


def answers(node: dict[str, Any]) -> bool:
    """Whether the raylet of a node, as `ray.nodes()` describes it, takes a connection."""
    try:
        with socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), timeout=CONNECT_SECONDS):
            return True
    except OSError:
        return False
