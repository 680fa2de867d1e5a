"""The shim's hand on the execs: further programs in the container, each with streams of its own.

Interface:
- `Execs(selector, answer)`: `begin(task, ...)`, `resize(...)`, `abandoned(connection)`, `ended(pid, code)`, `turn()`,
  `patience()`, `end_all()`.
- `answer(connection, message)` is called with `Started` or `Failed`, and with `Exited` at the end.

Rules: nothing blocks: the child reports over a socket that the shim's selector watches, so a slow start holds nobody
up. `Exited` is said before the streams are closed, so that who reads their end can ask for the exit code. A program
that has ended while others hold its streams open is waited for a second, as the container's own.

Sources: setns(2), clone3(2), pid_namespaces(7).
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from glassdock.errors import Conflict, GlassdockError
from glassdock.linux import clone, prctl
from glassdock.linux.clone import CloneFlag
from glassdock.runtime import exec_child, listener, messages, terminal
from glassdock.runtime.child import Child, failure_of
from glassdock.runtime.exec_child import Entry
from glassdock.runtime.jsonlog import JsonLog
from glassdock.runtime.messages import AnyMessage, ExecTask, Exited, ExitStatus, Failed, Failure, Report, Started
from glassdock.runtime.plan import Plan
from glassdock.runtime.streams import Streams
from glassdock.runtime.terminal import TERMINAL_MESSAGE

_STUCK_OUTPUT = 1.0
_LINGER = 10.0

Answer = Callable[[socket.socket, AnyMessage], None]


class Wants(NamedTuple):
    """What an exec's client reads, and how; and whether the program ends when the asker goes."""

    stdout: bool
    stderr: bool
    framed: bool
    leash: bool = False


@dataclass(slots=True)
class _Exec:
    """One program. `due` is when it is not waited for any longer."""

    task: ExecTask
    pid: int
    channel: socket.socket
    connection: socket.socket
    streams: Streams
    client: socket.socket | None
    wants: Wants
    started_at_ns: int = 0
    report: Report | None = None
    starting: bool = True
    code: int | None = None
    told: bool = False
    due: float = 0.0


class Execs:
    """All execs of one container."""

    def __init__(self, selector: selectors.BaseSelector, answer: Answer) -> None:
        self._selector = selector
        self._answer = answer
        self._log = JsonLog("")
        self._all: dict[int, _Exec] = {}

    def begin(
        self,
        task: ExecTask,
        plan: Plan,
        child: Child,
        connection: socket.socket,
        client: socket.socket | None,
        wants: Wants,
    ) -> None:
        """Fork the child that joins; the answer comes when it executes, or does not."""
        streams = Streams(self._selector, self._log, terminal=task.terminal, stdin=task.stdin, once=True)
        ends = streams.open()
        if "user" in plan.namespaces and (root := plan.ids.root()):
            for descriptor in ends:
                os.fchown(descriptor, *root)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid = _fork(Entry(task, plan, child.cgroup, child.pidfd, child.pid, theirs, tuple(ends)))
        except BaseException:
            ours.close()
            streams.close()
            raise
        finally:
            theirs.close()
            for descriptor in ends:
                os.close(descriptor)
        made = _Exec(task, pid, ours, connection, streams, client, wants)
        self._all[pid] = made
        if not task.terminal:
            self._attach(made)
        self._selector.register(ours, selectors.EVENT_READ, lambda _events: self._hear(made))

    def resize(self, identity: str, height: int, width: int) -> None:
        """Set the size of an exec's terminal; raises Conflict where there is none."""
        for one in self._all.values():
            target = one.streams.resize_target() if one.task.id == identity else -1
            if target >= 0:
                terminal.resize(target, height, width)
                return
        raise Conflict(f"the exec {identity[:12]} has no terminal")

    def abandoned(self, connection: socket.socket) -> None:
        """Whoever asked over this connection is gone: what nobody was told of, or is on a leash, ends."""
        for one in self._all.values():
            if one.connection is connection and one.code is None and (one.starting or one.wants.leash):
                os.kill(one.pid, signal.SIGKILL)

    def ended(self, pid: int, code: int) -> None:
        """A child of the shim's was reaped: perhaps an exec."""
        one = self._all.get(pid)
        if one is not None and one.code is None:
            one.code, one.due = code, time.monotonic() + _STUCK_OUTPUT

    def patience(self) -> float | None:
        """Seconds until `turn` has something to do by itself; None for never."""
        dues = [one.due for one in self._all.values() if one.code is not None and not one.starting]
        return max(0.0, min(dues) - time.monotonic()) if dues else None

    def turn(self) -> None:
        """Let go of those that are over."""
        now = time.monotonic()
        for pid, one in list(self._all.items()):
            if one.code is None or one.starting:
                continue
            if not one.told and (one.streams.finished or now >= one.due):
                one.streams.drain()
                one.told, one.due = True, now + _LINGER
                self._tell(one, one.code)
            if one.told and (one.streams.drained or now >= one.due):
                one.streams.close()
                del self._all[pid]

    def end_all(self) -> None:
        """The container is over: what is left of the execs was killed with it."""
        for one in list(self._all.values()):
            if not one.told and not one.starting:
                one.streams.drain()
                self._tell(one, 137 if one.code is None else one.code)
            one.streams.close()
            if one.starting:
                self._refuse(one, Failure("Conflict", "the container ended before the exec started"))
        self._all.clear()

    @staticmethod
    def _attach(one: _Exec) -> None:
        """The client joins before anything can have been read from the streams."""
        if one.client is not None:
            wants = one.wants
            one.streams.attach(
                one.client, stdin=one.task.stdin, stdout=wants.stdout, stderr=wants.stderr, framed=wants.framed
            )
            one.client = None

    def _tell(self, one: _Exec, code: int) -> None:
        self._answer(one.connection, Exited(ExitStatus(code, False, time.time_ns(), one.started_at_ns)))

    def _hear(self, one: _Exec) -> None:
        """The child's terminal, its report, and the end of the channel: it executes, or is no more."""
        try:
            data, received, _, _ = socket.recv_fds(one.channel, messages.LARGEST, 4, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            data, received = b"", []
        if data == TERMINAL_MESSAGE:
            one.streams.adopt_terminal(received[0])
            self._attach(one)
        elif data:
            message = messages.decode(data)
            assert isinstance(message, Report)
            one.report = message
            if message.call:
                listener.hand_over(message.call, received[0], one.pid, "running", bundle="")
        else:
            self._selector.unregister(one.channel)
            one.channel.close()
            one.starting = False
            self._decide(one)

    def _decide(self, one: _Exec) -> None:
        report = one.report
        if report is None or report.failure:
            died = Failure("StartFailed", "the exec died before it could execute the program")
            self._refuse(one, report.failure if report and report.failure else died)
            # Closed by the next `turn`: events of its streams may be waiting to be handled in this one.
            one.code, one.told, one.due = 126, True, time.monotonic()
            return
        one.started_at_ns = time.time_ns()
        self._answer(one.connection, Started(one.pid, one.started_at_ns, report.spans, report.warnings))

    def _refuse(self, one: _Exec, failure: Failure) -> None:
        if one.client is not None:
            one.client.close()
        self._answer(one.connection, Failed(failure, one.report.spans if one.report else []))


def _fork(entry: Entry) -> int:
    """A child in the container's PID namespace; not dumpable from its first moment. Raises Conflict, OSError."""
    group = entry.cgroup.descriptor() if entry.cgroup else -1
    prctl.set_dumpable(False)
    try:
        # For the children to come alone, which are execs, all of them: the shim stays where it is (pid_namespaces(7)).
        if "pid" in exec_child.separate(entry.plan):
            clone.setns(entry.container, CloneFlag.NEWPID)
        pid, pidfd = clone.clone3(CloneFlag(0), cgroup=group)
        if pid == 0:
            exec_child.run(entry, in_cgroup=group >= 0)
    except ProcessLookupError as error:
        raise Conflict("the container is not running") from error
    finally:
        prctl.set_dumpable(True)
        if group >= 0:
            os.close(group)
    os.close(pidfd)
    return pid


def refusal(error: GlassdockError | OSError) -> Failed:
    """An exec that could not even be forked."""
    return Failed(failure_of(error))
