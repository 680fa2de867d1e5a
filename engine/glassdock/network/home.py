"""Where the bridges live: root's on the machine's network, an ordinary user's in a network that the engine owns.

Interface:
- `Home.open(folder)`: the machine's network in the machine's user namespace, else the engine's own: found, or made.
- `Home.enter()`: the calling thread goes there and stays; what it opens is of that network, whoever uses it then.
- `Home.own`: whether it is the engine's; `status` says what of it does not work, "" where all does.
- `close()`, and `remove()` when nobody lives there any more.

Rules: the machine's network belongs to the machine's user namespace, so a thread that left it cannot come back
(setns(2), EPERM): threads that work at home are for that alone. The namespace is pinned by a bind mount in the engine's
private mount namespace, so it lives as long as a daemon or a shim does, and the next daemon finds it there.
Source: network_namespaces(7), user_namespaces(7), https://github.com/torvalds/linux/blob/master/fs/nsfs.c
"""

from __future__ import annotations

import contextlib
import errno
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from glassdock.linux import ids
from glassdock.linux.clone import CloneFlag, setns, unshare
from glassdock.linux.mount import MountFlag, UmountFlag, mount, umount2
from glassdock.network.bridge import SetUp
from glassdock.network.netlink import Link, Socket

_NAMESPACE = "/proc/thread-self/ns/net"
_PIN = "namespace"


@dataclass(slots=True)
class Home:
    """The network namespace of the bridges: `fd` is -1 for the machine's, `pin` is where it is mounted."""

    pin: Path
    fd: int = -1
    status: str = ""

    @property
    def own(self) -> bool:
        """Whether the engine has a network of its own."""
        return self.fd >= 0

    @classmethod
    def open(cls, folder: Path) -> Home:
        """The place for bridges; raises OSError where neither is to be had."""
        pin = folder / _PIN
        if ids.initial():
            return cls(pin)
        if _pinned(pin):
            return cls(pin, os.open(pin, os.O_RDONLY | os.O_CLOEXEC))
        # A thread of its own, because it cannot come home: it ends in the namespace that it made.
        with ThreadPoolExecutor(1, "network-home") as thread:
            fd, status = thread.submit(_make, pin).result()
        return cls(pin, fd, status)

    def enter(self) -> None:
        """Move the calling thread there, for good."""
        if self.own:
            setns(self.fd, CloneFlag.NEWNET)

    def close(self) -> None:
        """Let go of the descriptor; the pin stays."""
        if self.own:
            os.close(self.fd)
            self.fd = -1

    def remove(self) -> None:
        """Take the pin away; the namespace goes with the last thread and descriptor in it."""
        if self.own:
            if _pinned(self.pin):
                umount2(str(self.pin), UmountFlag.DETACH)
            self.pin.unlink(missing_ok=True)
            self.close()


def _pinned(pin: Path) -> bool:
    """Whether a namespace is mounted there; a daemon before a restart of the machine left a plain file."""
    with contextlib.suppress(FileNotFoundError):
        return os.stat(pin).st_dev == os.stat(_NAMESPACE).st_dev
    return False


def _make(pin: Path) -> tuple[int, str]:
    unshare(CloneFlag.NEWNET)
    with Socket() as door:
        door.apply([SetUp(Link(1, "lo"))])
    pin.touch(mode=0o600)
    status = ""
    try:
        mount(_NAMESPACE, str(pin), flags=MountFlag.BIND)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES):
            raise
        pin.unlink()
        status = "a container's network ends with the daemon, because this machine refuses mounts"
    return os.open(_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC), status
