"""What daemon, launcher, shim and child say to each other.

Interface:
- daemon → launcher → shim: an `Order` with descriptors; the long part, a `Task`, lies in a memfd.
- child → shim: `Report`. shim → daemon: `Started` or `Failed`, later `Exited`; `OutOfMemory` when it happens.
- anybody → shim.sock: `Watch`, `Attach`, `Signal`, `Resize`; answers `Started`, `Done`, `Refused`. `Exec` is answered
  by `Started` or `Failed`, and later, over the same connection, by `Exited`.

Rules: one message a datagram of a SOCK_SEQPACKET socket, msgpack, tagged with its kind. Descriptors ride along with
SCM_RIGHTS in the order that the message's class gives.
"""

from __future__ import annotations

import array
import os
import socket
from typing import TypeAlias

import msgspec

from glassdock.errors import (
    CommandNotExecutable,
    CommandNotFound,
    GlassdockError,
    InvalidParameter,
    NotSupported,
    StartFailed,
)
from glassdock.oci.runtime import Resources
from glassdock.runtime.jsonlog import LogOptions
from glassdock.runtime.listener import Call
from glassdock.runtime.plan import Plan
from glassdock.trace import Span

LARGEST = 1 << 18
MOST_DESCRIPTORS = 253  # SCM_MAX_FD, unix(7)


class Message(msgspec.Struct, frozen=True, tag=True):
    """One thing said."""


class Task(msgspec.Struct, frozen=True):
    """A launch, complete. `attaches` are (stdin, stdout, stderr) of clients that are there already.

    `init`: process 1 is ours and starts the program (reaper.py).
    """

    id: str
    run_dir: str
    plan: Plan
    cgroup: str = ""
    resources: Resources | None = None
    log_path: str = ""
    log: LogOptions = LogOptions()
    stdin: bool = False
    stdin_once: bool = False
    terminal: bool = False
    attaches: tuple[tuple[bool, bool, bool], ...] = ()
    netns: bool = False
    syscalls: bool = False
    init: bool = False


class Order(Message, frozen=True):
    """Start a container. Descriptors: the task's memfd, the control socket, [network namespace], attached clients."""

    id: str
    namespaces: tuple[str, ...]
    cgroup_parent: str


_STARTS: dict[str, type[StartFailed]] = {
    "CommandNotFound": CommandNotFound,
    "CommandNotExecutable": CommandNotExecutable,
}


class Failure(msgspec.Struct, frozen=True):
    """An error on its way to the daemon; `kind` is its class in errors.py."""

    kind: str
    message: str
    step: str = ""
    errno: int = 0

    def error(self) -> GlassdockError:
        """The error to raise."""
        if self.kind == "InvalidParameter":
            return InvalidParameter(self.message)
        if self.kind == "NotSupported":
            return NotSupported(self.message)
        return _STARTS.get(self.kind, StartFailed)(self.message, step=self.step, errno=self.errno)


class Report(Message, frozen=True):
    """The child, before exec (no failure), or instead of it.

    With `call` an agent is to get its seccomp listener; the page to answer in rides along (listener.py).
    """

    spans: list[Span]
    failure: Failure | None = None
    warnings: list[str] = []
    call: Call | None = None


class Started(Message, frozen=True):
    """The program runs. `pid` is the machine's number."""

    pid: int
    started_at_ns: int
    spans: list[Span] = []
    warnings: list[str] = []


class Failed(Message, frozen=True):
    """It does not run, and nothing is left of it."""

    failure: Failure
    spans: list[Span] = []


class ExitStatus(msgspec.Struct, frozen=True):
    """How it ended: 128+n by signal n; times are wall-clock nanoseconds. `error`: what could not be cleared away."""

    code: int
    oom_killed: bool
    finished_at_ns: int
    started_at_ns: int = 0
    error: str = ""


class Exited(Message, frozen=True):
    """It has ended, and its output is written."""

    status: ExitStatus


class OutOfMemory(Message, frozen=True):
    """The kernel has just killed one of its processes, because memory was short."""


class Watch(Message, frozen=True):
    """Tell me its pid now, and its end when it comes."""


class Attach(Message, frozen=True):
    """Join its streams. Descriptor: one end of a stream socketpair."""

    stdin: bool = False
    stdout: bool = True
    stderr: bool = True


class ExecTask(msgspec.Struct, frozen=True):
    """One more program for a container that runs. `user` is Docker's `name|uid[:group|gid]`, "" the container's own."""

    id: str
    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str = "/"
    user: str = ""
    privileged: bool = False
    stdin: bool = False
    terminal: bool = False
    height: int = 0
    width: int = 0


class Exec(Message, frozen=True):
    """Run one more program. Descriptors: the memfd of its `ExecTask`, [a client's end of a stream socketpair].

    `framed`: the client gets Docker's frames, which does not hang on whether the program has a terminal.
    `leash`: the program ends with the connection that asked for it.
    """

    stdout: bool = True
    stderr: bool = True
    framed: bool = True
    leash: bool = False


class Signal(Message, frozen=True):
    """Send its first process a signal."""

    number: int


class Resize(Message, frozen=True):
    """Set its terminal's size in characters, or that of an exec."""

    height: int
    width: int
    exec: str = ""


class Done(Message, frozen=True):
    """It is done."""


class Refused(Message, frozen=True):
    """It is not done."""

    message: str


AnyMessage: TypeAlias = (
    Order | Report | Started | Failed | Exited | OutOfMemory | Watch | Attach | Exec | Signal | Resize | Done | Refused
)

_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)
_encoder = msgspec.msgpack.Encoder()
_tasks = msgspec.msgpack.Decoder(Task)
_exec_tasks = msgspec.msgpack.Decoder(ExecTask)


def send(sock: socket.socket, message: AnyMessage, descriptors: list[int] | tuple[int, ...] = ()) -> None:
    """Send one message; raises OSError (EPIPE where the other side is gone)."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    sock.sendmsg([_encoder.encode(message)], rights)


def receive(sock: socket.socket) -> tuple[AnyMessage | None, list[int]]:
    """One message and its descriptors, close-on-exec; None where the other side is gone."""
    data, descriptors, _, _ = socket.recv_fds(sock, LARGEST, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    return (_decoder.decode(data) if data else None), list(descriptors)


def decode(data: bytes) -> AnyMessage:
    """A message from its bytes."""
    return _decoder.decode(data)


def pack_task(task: Task | ExecTask) -> int:
    """The task in a memfd; the caller closes it."""
    memory = os.memfd_create("glassdock-task", os.MFD_CLOEXEC)
    os.write(memory, _encoder.encode(task))
    return memory


def unpack_task(memory: int) -> Task:
    """The task in a memfd; the offset is not moved, so that shim and child both read it."""
    return _tasks.decode(os.pread(memory, os.fstat(memory).st_size, 0))


def unpack_exec_task(memory: int) -> ExecTask:
    """The exec's task in a memfd."""
    return _exec_tasks.decode(os.pread(memory, os.fstat(memory).st_size, 0))
