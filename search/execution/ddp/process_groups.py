"""Torch's process groups, reachable from other machines.

Left alone, gloo listens on the address that the host's own name stands for. That is often the loopback's (Debian and
Ubuntu write `127.0.1.1` into /etc/hosts), to which no other machine can connect, and on some hosts the name stands for
nothing. Ray reaches each machine by an address, so gloo listens on the network interface that holds it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from typing import Any

import ray.util
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

INTERFACE = "GLOO_SOCKET_IFNAME"
"""The variable by which gloo, and nothing else, is told of an interface; one that is set already stands."""
_SIOCGIFADDR = 0x8915
"""Linux: the IPv4 address of an interface."""


def interface_of(address: str) -> str | None:
    """The network interface that holds an IPv4 `address`; None where none is found (not Linux, or an alias)."""
    try:
        import fcntl
    except ImportError:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                found = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(found[20:24]) == address:
                    return name
    return None


def listen_where_ray_does() -> None:
    """Called in a worker before its process group is set up."""
    name = interface_of(ray.util.get_node_ip_address())
    if name is not None:
        os.environ.setdefault(INTERFACE, name)


class _ReachableBackend(_TorchBackend):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        worker_group.execute(listen_where_ray_does)
        super().on_start(worker_group, backend_config)


class ReachableTorch(TorchConfig):  # type: ignore[misc]
    """Ray Train's torch set-up, with gloo on the interface that Ray uses."""

    @property
    def backend_cls(self) -> type[_ReachableBackend]:
        return _ReachableBackend
