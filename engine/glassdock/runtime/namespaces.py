"""Namespaces: what a process sees of the machine's names. Which are new, which are joined, and what is in them.

Interface:
- `kinds(spec)`: the kinds of which the container gets new ones, those it joins, by path.
- steps: `JoinNamespace`, `OwnCgroupRoot`, `Loopback`, `Hostname`, `Domainname`.

Rules: new namespaces are made by the clone itself (one system call); the cgroup namespace is made by the child after
it was put into its cgroup, because its root is where the process is at that moment (cgroup_namespaces(7)).

Sources: namespaces(7), clone3(2), setns(2).
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from glassdock.errors import InvalidParameter
from glassdock.linux import clone, process
from glassdock.linux.clone import KINDS, CloneFlag
from glassdock.oci.runtime import Linux
from glassdock.runtime.stage import Stage, Step, attempt

# What `docker run` gives every container; the network's is made ahead by the network manager and joined.
USUAL = ("cgroup", "ipc", "mount", "pid", "uts")


def kinds(linux: Linux) -> tuple[tuple[str, ...], dict[str, str]]:
    """(kinds of new namespaces, path by kind of those to join). Raises InvalidParameter for an unknown one."""
    new: set[str] = set()
    joined: dict[str, str] = {}
    for namespace in linux.namespaces:
        if namespace.type not in KINDS:
            raise InvalidParameter(f"unknown namespace {namespace.type!r}", f"Choose of {', '.join(sorted(KINDS))}.")
        if namespace.type in new or namespace.type in joined:
            raise InvalidParameter(f"namespace {namespace.type!r} is given twice")
        if namespace.path:
            if not namespace.path.startswith("/"):
                raise InvalidParameter(f"namespace path {namespace.path!r} must be absolute")
            joined[namespace.type] = namespace.path
        else:
            new.add(namespace.type)
    return tuple(sorted(new)), joined


def flags(new: tuple[str, ...]) -> CloneFlag:
    """The clone flags of new namespaces: the time namespace is unshared before, the cgroup's comes later."""
    wanted = CloneFlag(0)
    for kind in new:
        if kind not in ("cgroup", "time"):
            wanted |= KINDS[kind]
    return wanted


class JoinNamespace(Step, frozen=True, tag="join"):
    """Enter a namespace that exists; an empty path is the network namespace that the launch was given."""

    kind: str
    path: str = ""

    def describe(self) -> str:
        return f"join the {self.kind} namespace " + (self.path or "made by the network manager")

    def sources(self) -> tuple[str, ...]:
        return (f"file:{self.path}",) if self.path else ()

    def apply(self, stage: Stage) -> None:
        descriptor = stage.take(f"file:{self.path}") if self.path else stage.netns
        with attempt(f"joining the {self.kind} namespace"):
            clone.setns(descriptor, KINDS[self.kind])
            os.close(descriptor)


class OwnCgroupRoot(Step, frozen=True, tag="cgroup_namespace"):
    """A cgroup namespace: the container's own cgroup is `/` in /proc/self/cgroup."""

    def describe(self) -> str:
        return "new cgroup namespace: its own cgroup is the root"

    def apply(self, stage: Stage) -> None:
        with attempt("unsharing the cgroup namespace"):
            clone.unshare(CloneFlag.NEWCGROUP)


class Loopback(Step, frozen=True, tag="loopback"):
    """Bring up `lo` in a new network namespace; the kernel gives it 127.0.0.1."""

    def describe(self) -> str:
        return "bring up lo"

    def apply(self, stage: Stage) -> None:
        # SIOCSIFFLAGS with IFF_UP: netdevice(7).
        with attempt("bringing up lo"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, 0x8914, struct.pack("16sH14x", b"lo", 1))


class Hostname(Step, frozen=True, tag="hostname"):
    """The name of the machine, as the container's UTS namespace has it."""

    name: str

    def describe(self) -> str:
        return f"sethostname {self.name}"

    def apply(self, stage: Stage) -> None:
        with attempt("sethostname"):
            socket.sethostname(self.name)


class Domainname(Step, frozen=True, tag="domainname"):
    """The NIS domain name of the UTS namespace."""

    name: str

    def describe(self) -> str:
        return f"setdomainname {self.name}"

    def apply(self, stage: Stage) -> None:
        with attempt("setdomainname"):
            process.setdomainname(self.name)
