"""The agent that decides system calls for a container: how the filter's listener gets from the child to it.

Interface:
- `Listener`: path and metadata of the specification's, part of a plan.
- child: `Waiting.begin()` before the filter is installed, `.until_taken()` after.
- maker: `hand_over(call, page, pid, status)`: fetch the listener, tell the agent, let the child go on.

Rules: the child cannot send the descriptor itself, because its filter may hold up every call that would do it, and the
agent does not have the listener yet. So it says beforehand which number the descriptor will have, the maker fetches it
(pidfd_getfd), and the child waits at a byte of shared memory, without any call. One connection, one state, closed.

Sources: seccomp_unotify(2), pidfd_getfd(2), config-linux.md#containerprocessstate of the runtime specification
"""

from __future__ import annotations

import array
import contextlib
import errno
import mmap
import os
import select
import signal
import socket
import time
from dataclasses import dataclass
from typing import Any

import msgspec

from glassdock.errors import StartFailed
from glassdock.linux.process import pidfd_getfd
from glassdock.runtime.stage import attempt, reason

VERSION = "1.2.0"
_PATIENCE = 30.0
_POLL = 0.0005
_TAKEN = b"\1"


class Listener(msgspec.Struct, frozen=True):
    """Where the agent listens, and what it is told beside the state."""

    path: str
    metadata: str = ""


class Call(msgspec.Struct, frozen=True):
    """What the child says before it installs the filter: the listener's number to be, whose it is, and the agent."""

    number: int
    id: str
    agent: Listener


@dataclass(slots=True)
class Waiting:
    """The child's side. `number` is the descriptor that the listener will have; `page` is shared with the maker."""

    number: int
    page: int
    _memory: mmap.mmap

    @classmethod
    def begin(cls) -> Waiting:
        """Make the shared page; to be sent to the maker, with the number, before the filter is installed."""
        page = os.memfd_create("seccomp-listener", os.MFD_CLOEXEC)
        os.ftruncate(page, mmap.PAGESIZE)
        memory = mmap.mmap(page, mmap.PAGESIZE)
        number = os.dup(page)  # the lowest one that is free: the kernel takes the same for the listener
        os.close(number)
        return cls(number, page, memory)

    def until_taken(self) -> None:
        """Wait for the maker, without a system call: the clock is read in memory (vdso(7))."""
        memory, deadline = self._memory, time.monotonic() + _PATIENCE
        while memory[0] == 0:
            if time.monotonic() > deadline:
                raise StartFailed("nobody took the listener of the seccomp filter")


def hand_over(call: Call, page: int, pid: int, status: str, **state: Any) -> None:
    """Fetch the listener of the process and give it to the agent. Closes the page. Raises StartFailed.

    `status` is the container's; `state` are more members of its state: bundle, annotations.
    """
    listener = call.agent
    told = {"ociVersion": VERSION, "id": call.id, "status": status, "pid": pid, **state}
    pidfd = os.pidfd_open(pid)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            try:
                agent.connect(listener.path)
            except OSError as error:
                raise StartFailed(
                    f"failed to connect with seccomp agent at {listener.path}: {reason(error)}",
                    "Start the agent that listens there first.",
                    errno=error.errno or 0,
                ) from error
            fetched = _fetch(pidfd, call.number)
            try:
                with attempt(f"telling the seccomp agent at {listener.path}"):
                    _tell(agent, fetched, listener.metadata, told)
            finally:
                os.close(fetched)
        os.pwrite(page, _TAKEN, 0)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):  # it waits for us
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        raise
    finally:
        os.close(page)
        os.close(pidfd)


def _fetch(pidfd: int, number: int) -> int:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return pidfd_getfd(pidfd, number)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise StartFailed(f"fetching the seccomp listener: {reason(error)}", errno=error.errno or 0) from error
        if select.select([pidfd], [], [], _POLL)[0]:
            raise StartFailed("the container's first process died before its seccomp filter was installed")
        if time.monotonic() > deadline:
            raise StartFailed("the container's first process installed no seccomp filter")


def _tell(agent: socket.socket, fetched: int, metadata: str, state: dict[str, Any]) -> None:
    told: dict[str, Any] = {"ociVersion": VERSION, "fds": ["seccompFd"], "pid": state["pid"]}
    if metadata:
        told["metadata"] = metadata
    body = msgspec.json.encode(told | {"state": state})
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fetched]))]
    sent = agent.sendmsg([body], rights)
    agent.sendall(body[sent:])
