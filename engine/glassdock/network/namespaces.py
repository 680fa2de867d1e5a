"""Network namespaces made ahead of the process that will live in them.

Interface:
- `make(plug)`: a new namespace with lo up, and a cable where `plug` makes one; the thread is home again afterwards.
- `visit(descriptor, work)`: do something in a namespace that is there, and come home.
- `Place`: the namespace (its descriptor keeps it alive), a netlink door into it, and its cable.

Rules: called in worker threads of the daemon: a network namespace belongs to a thread, so nothing forks and nothing is
bind-mounted. eth0 gets no IPv6 address of its own making, as in Docker's IPv4 networks; lo keeps ::1.
Source: network_namespaces(7), setns(2).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from glassdock.linux import ids
from glassdock.linux.clone import CloneFlag, setns, unshare
from glassdock.network.bridge import SetUp
from glassdock.network.netlink import Link, Socket, Step
from glassdock.network.veth import NoLinkLocal

T = TypeVar("T")

_OWN = "/proc/thread-self/ns/net"
_LO = Link(1, "lo")
_LAST_GROUP = 2**31 - 1


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
            _set_sysctls()
            door.apply([SetUp(_LO)])
            place = Place(fd, door)
            if plug is not None:
                place.cable = plug(fd)
                # Asked here because the thread is inside; a kernel with tunnel modules has more than lo before eth0.
                place.eth0 = Link(socket.if_nametoindex("eth0"), "eth0")
                door.apply([*no_ipv6(place.eth0), SetUp(place.eth0)])
            failed.pop_all()
        return place


def visit(descriptor: int, work: Callable[[], T]) -> T:
    """Do something in a namespace that is there already; the thread is home again afterwards."""
    with contextlib.ExitStack() as undo:
        home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        undo.callback(os.close, home)
        setns(descriptor, CloneFlag.NEWNET)
        undo.callback(setns, home, CloneFlag.NEWNET)
        return work()


def _set_sysctls() -> None:
    # Docker's defaults: a container's user may ping and listen below 1024, the namespace is its own. A group that is
    # not mapped is refused.
    last = min(_LAST_GROUP, max(extent.inside + extent.count - 1 for extent in ids.mapping().gids))
    wanted = {"ip_unprivileged_port_start": b"0", "ping_group_range": b"0 %d" % last}
    # The kernel walks a chain of all namespaces' folders to find this one's: once, not for each file (decision 0042).
    folder = os.open("/proc/sys/net/ipv4", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name, value in wanted.items():
            handle = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)
            try:
                os.write(handle, value)
            finally:
                os.close(handle)
    finally:
        os.close(folder)


def no_ipv6(link: Link) -> list[Step]:
    """Let the interface make itself no IPv6 address; called inside the namespace."""
    return [NoLinkLocal(link)] if os.path.exists("/proc/net/if_inet6") else []
