"""The shim's hand on the child: cloned into its namespaces and cgroup, told its task, watched until it executes.

Interface:
- `Child.make(namespaces, cgroup)`: clone, enter the cgroup; the child then waits. It can be made ahead of a launch.
- `.begin(task, memory, ...)`: hand the task over; `.execute()`: let it become the program; returns its `Report`.
- `.kill()`: end it and reap it.
- `open_sources(plan)`: what the steps need from the machine, as descriptors.

Rules: one who makes a child kills it or starts it. Spans of the making carry `prepared`. Its mount namespace is held
until `close`: without that the child's own exit would unmount its file systems, and write them to disk, before
anybody hears of it (decision 0140).

Sources: clone3(2), unix(7), open_tree(2).
"""

from __future__ import annotations

import array
import contextlib
import functools
import os
import signal
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from glassdock import trace
from glassdock.errors import StartFailed
from glassdock.linux import clone, prctl
from glassdock.linux.mount import AT_FDCWD, MountAttr, OpenTree, mount_setattr, open_tree
from glassdock.runtime import (
    below,
    birth,
    cgroups,
    counted,
    devices,
    init,
    listener,
    messages,
    namespaces,
    plan,
    userns,
)
from glassdock.runtime.cgroups import Cgroup
from glassdock.runtime.messages import Failure, Report, Task
from glassdock.runtime.mounting import Shifted
from glassdock.runtime.plan import AnyStep, Plan
from glassdock.runtime.stage import attempt, reason
from glassdock.runtime.terminal import TERMINAL_MESSAGE


@dataclass(slots=True)
class Child:
    """A process in its own namespaces and cgroup that waits for a task."""

    pid: int
    pidfd: int
    channel: socket.socket
    cgroup: Cgroup | None
    kinds: tuple[str, ...]
    mounts: int = -1
    terminal: int = -1
    stocked: Mapping[str, tuple[AnyStep, ...]] = field(default_factory=dict)
    spans: list[trace.Span] = field(default_factory=list)

    @classmethod
    def make(cls, kinds: tuple[str, ...], cgroup: Cgroup | None, made: Plan | None = None, netns: int = -1) -> Child:
        """Clone; the child enters the cgroup, which exists. Raises StartFailed; nothing is left then.

        With a plan that has something outside, that is done first, and the network namespace is joined there too.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        outside = made is not None and bool(made.outside)
        inside = cgroup.descriptor() if cgroup and not outside else -1
        entering = cgroup if inside < 0 and not outside else None
        try:
            with trace.span("runtime.clone", namespaces=" ".join(kinds)), attempt("clone"):
                if made and outside:
                    born = birth.bear(made, netns, functools.partial(init.run, theirs, kinds))
                    pid, pidfd = born.pid, born.pidfd
                else:
                    pid, pidfd = clone.clone3(namespaces.flags(kinds), cgroup=inside)
                    if pid == 0:
                        init.run(theirs, kinds, entering=entering)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            if inside >= 0:
                os.close(inside)
        child = cls(pid, pidfd, ours, cgroup, kinds)
        try:
            if cgroup and inside < 0:
                with trace.span("runtime.join_cgroup", path=cgroup.path), attempt("joining the cgroup"):
                    if entering:
                        child._await_inside()
                    else:
                        cgroup.join(pid)
            if not entering:
                ours.send(init.JOINED)
            if "mount" in kinds:
                child.mounts = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        except BaseException:
            child.kill()
            raise
        return child

    def _await_inside(self) -> None:
        """Until the child has entered its cgroup; raises StartFailed."""
        said = self.channel.recv(messages.LARGEST)
        if said != init.INSIDE:
            report = messages.decode(said) if said else None
            failed = report.failure if isinstance(report, Report) else None
            raise failed.error() if failed else StartFailed("the child died before it was in its cgroup")

    def stock(self) -> None:
        """Let it mount ahead what every container gets."""
        made = plan.ahead(cgroups.layout())
        steps = [step for group in made.values() for step in group]
        self._send(init.STOCK, open_sources(steps, self.cgroup))
        self.stocked = made

    def begin(self, task: Task, memory: int, netns: int, streams: list[int]) -> None:
        """Hand the task over; the child does its steps and waits. Raises StartFailed."""
        sources = open_sources(plan.graft(task.plan.steps, self.stocked), self.cgroup)
        if root := task.plan.ids.root():
            for stream in streams if "user" in task.plan.namespaces else ():
                os.fchown(stream, *root)  # nobody inside can be given what belongs to somebody who has no id there
        self._send(init.TASK, sources, [memory, *([netns] if netns >= 0 else []), *streams])

    def execute(self) -> tuple[Report, int]:
        """Let it become the program: (report, monotonic ns of the exec). Raises StartFailed.

        With a terminal `.terminal` is its outer end afterwards.
        """
        with contextlib.suppress(BrokenPipeError):  # it failed, and its report is on the way
            self.channel.send(init.EXECUTE)
        reports: list[Report] = []
        while True:
            try:
                data, received, _, _ = socket.recv_fds(self.channel, messages.LARGEST, 4, socket.MSG_CMSG_CLOEXEC)
            except ConnectionResetError:
                continue  # said once where it ended without having read our word; what it said itself comes next
            if data == TERMINAL_MESSAGE:
                self.terminal = received[0]
            elif data:
                message = messages.decode(data)
                assert isinstance(message, Report)
                reports.append(message)
                if message.call:
                    listener.hand_over(message.call, received[0], self.pid, "creating", bundle="")
            else:
                break
        ended = time.monotonic_ns()
        if not reports:
            raise StartFailed("the container's first process died before it could execute the program")
        return reports[-1], ended

    def _send(self, word: bytes, sources: list[int], others: Iterable[int] = ()) -> None:
        """Say a word with descriptors; the sources are closed here."""
        try:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [*others, *sources]))]
            self.channel.sendmsg([word], rights)
        finally:
            _close_all(sources)

    def signal(self, number: int) -> None:
        """Send it a signal; raises ProcessLookupError when it has ended."""
        signal.pidfd_send_signal(self.pidfd, number)

    def kill(self) -> None:
        """End it, reap it, close."""
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        self.close()

    def close(self) -> None:
        """Close the descriptors."""
        self.channel.close()
        os.close(self.pidfd)
        self.release_mounts()

    def release_mounts(self) -> None:
        """Let the kernel unmount what was mounted inside; it writes to disk what is not there yet."""
        if self.mounts >= 0:
            os.close(self.mounts)
            self.mounts = -1


def open_sources(steps: Iterable[AnyStep], cgroup: Cgroup | None) -> list[int]:
    """Descriptors for the sources of the steps, in their order. Raises StartFailed; none is open then."""
    views = dict(cgroup.views()) if cgroup else {}
    found: list[int] = []
    try:
        for step in steps:
            for source in step.sources():
                with attempt(step.describe()):
                    found.append(_open_source(source, views))
    except BaseException:
        _close_all(found)
        raise
    return found


def _open_source(source: str, views: dict[str, str]) -> int:
    kind, _, rest = source.partition(":")
    if kind in ("bind", "cgroup"):
        return open_tree(AT_FDCWD, rest if kind == "bind" else views[rest], OpenTree.CLONE)
    if kind == "rbind":
        return open_tree(AT_FDCWD, rest, OpenTree.CLONE | OpenTree.RECURSIVE)
    if kind == "file":
        return os.open(rest, os.O_RDONLY | os.O_CLOEXEC)
    if kind == "count":
        return counted.namespace(int(rest))
    if kind == "below":
        return below.open_below(rest)
    if kind == "idmap":
        return _shifted(rest, views)
    if kind == "ids":
        return userns.descriptor_of(msgspec.json.decode(rest, type=userns.Ids))
    return devices.open_node(source)


def _shifted(wanted: str, views: dict[str, str]) -> int:
    """A source seen with other owners: mount_setattr(2), MOUNT_ATTR_IDMAP."""
    shift = msgspec.json.decode(wanted, type=Shifted)
    tree = _open_source(shift.source, views)
    try:
        ids = userns.descriptor_of(shift.ids)
        try:
            mount_setattr(tree, add=MountAttr.IDMAP, userns=ids, recursive=shift.recursive)
        finally:
            os.close(ids)
    except BaseException:
        os.close(tree)
        raise
    return tree


def failure_of(error: BaseException) -> Failure:
    """An error of the shim's on its way to the daemon."""
    if isinstance(error, StartFailed):
        return Failure(type(error).__name__, error.message, error.step, error.errno)
    if isinstance(error, OSError):
        return Failure("StartFailed", f"starting the container: {reason(error)}", "", error.errno or 0)
    return Failure(type(error).__name__, str(error))


def hide(name: str) -> None:
    """What launcher and shim have in common: a name, and a life that a signal to the daemon's group does not end."""
    prctl.set_name(name)
    prctl.set_child_subreaper(True)


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
