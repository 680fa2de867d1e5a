"""One more program in the container of a bundle: joined by a fork of the command itself, which need not stay.

Interface:
- `find(place)` → `Running`: the container as it runs. Raises NotFound, Conflict in runc's words.
- `begin(running, process, ...)` → (pid, warnings): the program runs, a child of the caller. Raises StartFailed.

Rules: the child is exec_child.py's, as that of the daemon's exec; here it outlives its maker. What the process may do
is planned like the container's own, from the specification with this process in it.

Sources: setns(2), pidfd_open(2), pid_namespaces(7)
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from glassdock.errors import Conflict, StartFailed
from glassdock.linux import clone, prctl
from glassdock.linux.clone import CloneFlag
from glassdock.oci import runtime as oci
from glassdock.runtime import (
    bundle,
    bundle_root,
    bundle_state,
    cgroup_places,
    exec_child,
    listener,
    messages,
    plan_process,
    priority,
)
from glassdock.runtime.bundle_state import Place, Record
from glassdock.runtime.exec_child import Entry
from glassdock.runtime.messages import ExecTask, Report
from glassdock.runtime.stage import attempt
from glassdock.runtime.terminal import TERMINAL_MESSAGE


@dataclass(frozen=True, slots=True)
class Running:
    """A container that runs, and the specification that it was made from."""

    record: Record
    spec: oci.Spec
    rootfs: str


def find(place: Place, *, ignore_paused: bool = False) -> Running:
    """The container at this place; raises NotFound, and Conflict where no program can join it."""
    record = place.read()
    now = bundle_state.status(place, record)
    if now == "stopped":
        raise Conflict("cannot exec in a stopped container")
    if now == "paused" and not ignore_paused:
        raise Conflict("cannot exec in a paused container (use --ignore-paused to override)")
    spec = oci.decode(place.kept())
    spec = msgspec.structs.replace(spec, mounts=bundle_root.absolute(spec.mounts, record.bundle))
    return Running(record, spec, record.rootfs)


def begin(
    running: Running,
    process: oci.Process,
    *,
    console: Callable[[int], None] | None = None,
    preserved: int = 0,
    inner: Sequence[str] = (),
) -> tuple[int, list[str]]:
    """Fork the child that joins; returns when its program runs. `inner` are cgroups below the container's."""
    own = running.spec.process or oci.Process()
    process = msgspec.structs.replace(process, capabilities=process.capabilities or own.capabilities)
    size = process.console_size
    task = ExecTask(
        id=running.record.id,
        args=process.args,
        env=process.env,
        cwd=process.cwd,
        stdin=True,
        terminal=process.terminal,
        height=size.height if size and process.terminal else 0,
        width=size.width if size and process.terminal else 0,
    )
    spec = msgspec.structs.replace(running.spec, process=msgspec.structs.replace(process, console_size=None))
    plan, _ = bundle.steps_of(bundle.Bundle(running.record.bundle, spec, running.rootfs))
    group = cgroup_places.inner(running.record.cgroup, inner)
    try:
        container = os.pidfd_open(running.record.pid)
    except ProcessLookupError as error:
        raise Conflict("cannot exec in a stopped container") from error
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        if not bundle_state.alive(running.record):  # its number may be another's by now
            raise Conflict("cannot exec in a stopped container")
        affinity = process.exec_cpu_affinity or oci.CPUAffinity()
        if affinity.initial:
            with attempt("setting the initial CPU affinity"):
                os.sched_setaffinity(0, priority.cpus(affinity.initial))
        final = priority.cpus(affinity.final) if affinity.initial or affinity.final else None
        entry = Entry(
            task, plan, group, container, running.record.pid, theirs, (), orphan=True, preserved=preserved, cpus=final
        )
        pid = _fork(entry)
        theirs.close()
        os.close(container)
        try:
            return pid, plan_process.warnings(spec) + _hear(ours, console, pid, running.record)
        except BaseException:
            os.waitpid(pid, 0)
            raise


def _fork(entry: Entry) -> int:
    inside = entry.cgroup.descriptor() if entry.cgroup else -1
    # From its first moment in the container nobody there may look into it (2016-9962).
    prctl.set_dumpable(False)
    with attempt("joining the pid namespace"):
        clone.setns(entry.container, CloneFlag.NEWPID)
    with attempt("clone"):
        pid, pidfd = clone.clone3(CloneFlag(0), cgroup=inside)
    if pid == 0:
        exec_child.run(entry, in_cgroup=inside >= 0)
    for descriptor in (pidfd, *([inside] if inside >= 0 else [])):
        os.close(descriptor)
    return pid


def _hear(channel: socket.socket, console: Callable[[int], None] | None, pid: int, record: Record) -> list[str]:
    """The terminal, the report, and the end of the channel: the program runs, or never will."""
    report: Report | None = None
    while True:
        data, received, _, _ = socket.recv_fds(channel, messages.LARGEST, 4, socket.MSG_CMSG_CLOEXEC)
        if data == TERMINAL_MESSAGE:
            assert console is not None
            console(received[0])
        elif data:
            message = messages.decode(data)
            assert isinstance(message, Report)
            report = message
            if message.call:
                more = {"bundle": record.bundle, "annotations": record.annotations}
                listener.hand_over(message.call, received[0], pid, "running", **more)
        else:
            break
    if report is None:
        raise StartFailed("the process died before it could execute the program")
    if report.failure:
        raise report.failure.error()
    return list(report.warnings)
