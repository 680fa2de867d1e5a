"""The birth of a process whose namespaces its maker cannot give it directly: somebody goes outside first.

Interface:
- `bear(plan, netns, enter)` → `Born`: a process that does `plan.outside` clones the child and goes; the child is the
  caller's, and goes on with `enter(stage)`.

Rules: only for plans that have something outside; the others are cloned directly. The one in between never comes back,
so the caller stays in its namespaces. The maps of a new user namespace are the caller's to write, who is out here.

Sources: clone3(2) on CLONE_PARENT, setns(2), user_namespaces(7).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from glassdock import trace
from glassdock.errors import StartFailed
from glassdock.linux import clone, prctl
from glassdock.linux.clone import CloneFlag
from glassdock.runtime import init, messages, namespaces, userns
from glassdock.runtime.messages import Report, Started
from glassdock.runtime.plan import Plan
from glassdock.runtime.stage import Stage


@dataclass(frozen=True, slots=True)
class Born:
    """The child, by its number and a descriptor; what the one in between had to say."""

    pid: int
    pidfd: int
    warnings: list[str] = field(default_factory=list)


def bear(plan: Plan, netns: int, enter: Callable[[Stage], NoReturn]) -> Born:
    """Let somebody go outside and clone from there; the maps are written. Raises StartFailed; nothing is left then."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        between, pidfd = clone.clone3(CloneFlag(0))
        if between == 0:
            ours.close()
            _go(plan, Stage(netns=netns), theirs, enter)
        theirs.close()
        data, received, _, _ = socket.recv_fds(ours, messages.LARGEST, 1, socket.MSG_CMSG_CLOEXEC)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    answer = messages.decode(data) if data else None
    if isinstance(answer, Report) and answer.failure:
        trace.adopt(answer.spans)
        raise answer.failure.error()
    if not isinstance(answer, Started):
        raise StartFailed("the process that joins the namespaces died")
    trace.adopt(answer.spans)
    born = Born(answer.pid, received[0], answer.warnings)
    try:
        if "user" in plan.namespaces:
            userns.write(born.pid, plan.ids)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(born.pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, born.pidfd, os.WEXITED)
        os.close(born.pidfd)
        raise
    return born


def _go(plan: Plan, stage: Stage, channel: socket.socket, enter: Callable[[Stage], NoReturn]) -> NoReturn:
    spans: list[trace.Span] = []
    try:
        if "user" not in plan.namespaces:
            # Who is in a joined namespace must not look into the child. A new user namespace has nobody in it yet,
            # and an ordinary user can only write the maps of a process that may be looked into.
            prctl.set_dumpable(False)
        with trace.recording("outside") as recording:
            spans = recording.spans
            for step in plan.outside:
                init.do(step, stage)
        pid, pidfd = clone.clone3(namespaces.flags(plan.namespaces) | CloneFlag.PARENT)
        if pid == 0:
            channel.close()
            enter(stage)
        messages.send(channel, Started(pid, 0, spans, stage.warnings), [pidfd])
    except BaseException as error:  # noqa: BLE001 - told to the one who waits
        with contextlib.suppress(OSError):
            messages.send(channel, Report(spans, failure=init.failure_of(error, spans)))
    finally:
        os._exit(0)
