"""Network namespaces made ahead of the process that will live in them.

Interface:
- `make(plug)`: a new namespace with lo up, and a cable where `plug` makes one; the thread is home again afterwards.
- `Place`: the namespace (its descriptor keeps it alive), a netlink door into it, and its cable.

Rules: called in worker threads of the daemon: a network namespace belongs to a thread, so nothing forks and nothing is
bind-mounted. IPv6 is off on interfaces that come later, as in Docker's IPv4 networks; lo keeps ::1.
Source: network_namespaces(7), setns(2).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from glassdock.linux.clone import CloneFlag, setns, unshare
from glassdock.network.bridge import SetUp
from glassdock.network.netlink import Link, Socket

_OWN = "/proc/thread-self/ns/net"
_LO = Link(1, "lo")
# Docker's defaults: a container's user may ping and listen below 1024, the namespace is its own.
_SYSCTLS = {
    "/proc/sys/net/ipv6/conf/default/disable_ipv6": "1",
    "/proc/sys/net/ipv4/ip_unprivileged_port_start": "0",
    "/proc/sys/net/ipv4/ping_group_range": "0 2147483647",
}


@dataclass(slots=True)
class Place:
    """A namespace for one container. `cable` is the near end's name, "" without one."""

    fd: int
    door: Socket
    cable: str = ""
    eth0: Link | None = None

    def close(self) -> None:
        """Let go of the namespace: the kernel destroys it, its cable too, once no process lives in it."""
        self.door.close()
        os.close(self.fd)


def make(plug: Callable[[int], str] | None = None) -> Place:
    """A new namespace; `plug(descriptor)` makes the cable to its eth0 and returns the near end's name."""
    with contextlib.ExitStack() as undo:
        home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        undo.callback(os.close, home)
        unshare(CloneFlag.NEWNET)
        undo.callback(setns, home, CloneFlag.NEWNET)
        with contextlib.ExitStack() as failed:
            fd = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
            failed.callback(os.close, fd)
            door = Socket()
            failed.callback(door.close)
            for name, value in _SYSCTLS.items():
                with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
                    _write(name, value)
            door.apply([SetUp(_LO)])
            place = Place(fd, door)
            if plug is not None:
                place.cable = plug(fd)
                # Asked here because the thread is inside; a kernel with tunnel modules has more than lo before eth0.
                place.eth0 = Link(socket.if_nametoindex("eth0"), "eth0")
                door.apply([SetUp(place.eth0)])
            failed.pop_all()
        return place


def _write(name: str, value: str) -> None:
    handle = os.open(name, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(handle, value.encode())
    finally:
        os.close(handle)
