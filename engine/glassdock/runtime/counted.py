"""A limit on processes where there is no cgroup: a user namespace that counts those in it.

Interface:
- `steps(linux, body, own_user=...)`: the step where a limit is asked for and this can keep it; `kept(names)`: whether
  it can, for a container with these capabilities.
- `Counted` (a step). `namespace(limit)`: what the shim opens for it. `of(pid)`: the one that a container is in.

Rules: RLIMIT_NPROC counts a user's processes in a user namespace, and what is in the namespace counts for whoever made
it, against the limit that he had then, for good. So with a range of ids the maker is an id that is nobody else's, and
all users in the container together have the limit; with a single id there is one user, and its own limit does it.
The ids are those of the engine's namespace. What is the engine's stays the engine's, the network among it: nobody in
here has power over it, so this is for Docker's default capabilities, of which raw sockets are the one that is lost.

Sources: getrlimit(2), user_namespaces(7), ioctl_nsfs(2), https://github.com/torvalds/linux/blob/master/kernel/ucount.c
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import signal
from collections.abc import Iterable

from glassdock.errors import StartFailed
from glassdock.linux import clone, ids, prctl
from glassdock.linux.clone import CloneFlag
from glassdock.linux.ids import Extent
from glassdock.oci.runtime import Capabilities, IDMapping, Linux, Process
from glassdock.runtime import capabilities, userns
from glassdock.runtime.stage import Stage, Step, attempt
from glassdock.runtime.userns import Ids

_GET_PARENT = 0xB702  # NS_GET_PARENT
_MAKERS = 1 << 15  # ids at the end of the range that make namespaces: one for each shim's number


class Counted(Step, frozen=True, tag="counted"):
    """Enter the namespace: from here on at most `limit` processes and threads, all users together."""

    limit: int

    def describe(self) -> str:
        return f"a user namespace that counts at most {self.limit} processes"

    def sources(self) -> tuple[str, ...]:
        return (f"count:{self.limit}",)

    def apply(self, stage: Stage) -> None:
        descriptor = stage.take(f"count:{self.limit}")
        with attempt("joining the namespace that counts processes"):
            clone.setns(descriptor, CloneFlag.NEWUSER)
            os.close(descriptor)
            soft, hard = map(_finite, resource.getrlimit(resource.RLIMIT_NPROC))
            resource.setrlimit(resource.RLIMIT_NPROC, (min(self.limit, soft), min(self.limit, hard)))


def _finite(limit: int) -> int:
    return 1 << 31 if limit == resource.RLIM_INFINITY else limit


def kept(names: Iterable[str]) -> bool:
    """Whether a container with these capabilities does not need power over what is the engine's."""
    return set(names) <= set(capabilities.DEFAULT)


def steps(linux: Linux, body: Process, *, own_user: bool) -> list[Counted]:
    """One step, or none."""
    pids = linux.resources.pids if linux.resources else None
    if ids.initial() or linux.cgroups_path or own_user or not pids or not pids.limit or pids.limit < 0:
        return []
    names = (body.capabilities or Capabilities()).bounding
    return [Counted(pids.limit)] if kept(names) else []


def namespace(limit: int) -> int:
    """A user namespace with the ids of this one that lets so many processes be, as a descriptor.

    Raises StartFailed, OSError.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid, pidfd = clone.clone3(CloneFlag(0))
    if pid == 0:
        try:
            _unshare(limit)
            os.write(writer, b"!")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    try:
        made = os.read(reader, 1)
        if not made:
            raise StartFailed("no user namespace to count processes in can be made", errno=errno.EPERM)
        mapping = ids.mapping()
        userns.write(pid, Ids(_same(mapping.uids), _same(mapping.gids)))
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(reader)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)


def _same(extents: tuple[Extent, ...]) -> tuple[IDMapping, ...]:
    return tuple(IDMapping(one.inside, one.inside, one.count) for one in extents)


def _unshare(limit: int) -> None:
    maker = os.getppid() % _MAKERS
    last = max(extent.inside + extent.count - 1 for extent in ids.mapping().uids)
    if last > _MAKERS:
        resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
        os.seteuid(last - maker)
    clone.unshare(CloneFlag.NEWUSER)
    prctl.set_dumpable(True)  # or its maps could not be written by an ordinary user


def of(pid: int) -> int:
    """The namespace that the container of this process is counted in, as a descriptor. Raises OSError."""
    own = os.stat("/proc/self/ns/user")
    found = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    # Another user than root may be in one more, where the only id has its number (only_id.py).
    while True:
        above = fcntl.ioctl(found, _GET_PARENT)
        if os.path.samestat(os.fstat(above), own):
            os.close(above)
            return found
        os.close(found)
        found = above
