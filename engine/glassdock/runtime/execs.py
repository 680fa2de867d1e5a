"""The daemon's side of an exec: ask a container's shim for one more program, and hold what comes back.

Interface:
- `await begin(run_dir, task, client, ...)` → `Running`: `.pid`, `.spans`, `.status` (an `ExitStatus` once it has
  ended), `wait()`, `resize()`, `detach()`.

Rules: a program that cannot be executed raises what the container's own would. The status is set in the same turn of
the loop in which the stream's end arrives, or before: who has read the end can ask for the code.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from pathlib import Path

from glassdock import trace
from glassdock.errors import Conflict
from glassdock.runtime import messages
from glassdock.runtime.launch import ask, connect, receive
from glassdock.runtime.messages import Exec, ExecTask, Exited, ExitStatus, Failed, Refused, Started

__all__ = ["ExecTask", "Running", "begin"]


class Running:
    """A program in a container; times are wall-clock nanoseconds."""

    def __init__(self, run_dir: Path, identity: str, started: Started, connection: socket.socket) -> None:
        self.pid = started.pid
        self.started_at_ns = started.started_at_ns
        self.spans = started.spans
        self.status: ExitStatus | None = None
        self._run_dir = run_dir
        self._id = identity
        self._connection = connection
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(connection, self._hear)

    async def wait(self) -> ExitStatus:
        """Until it has ended and its output is on its way; 137 where the container's shim was killed."""
        await self._ended.wait()
        assert self.status is not None
        return self.status

    async def resize(self, height: int, width: int) -> None:
        """Set the terminal's size in characters; raises Conflict where there is none."""
        await ask(self._run_dir, messages.Resize(height, width, self._id))

    def detach(self) -> None:
        """Stop watching; the program goes on."""
        if self._connection.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._connection)
            self._connection.close()

    def _hear(self) -> None:
        try:
            message, _ = messages.receive(self._connection)
        except BlockingIOError:
            return
        except OSError:
            message = None
        killed = ExitStatus(137, False, time.time_ns(), self.started_at_ns, "the container's shim was killed")
        self.status = message.status if isinstance(message, Exited) else killed
        self.detach()
        self._ended.set()


async def begin(
    run_dir: Path,
    task: ExecTask,
    client: int = -1,
    *,
    stdout: bool = True,
    stderr: bool = True,
    framed: bool | None = None,
    leash: bool = False,
) -> Running:
    """Run a program in the container of `run_dir`; `client` is the shim's end of a stream, closed here in any case.

    `framed`: whether the client gets Docker's frames; None: unless the program has a terminal.
    `leash`: the program ends with this process.

    Raises Conflict where nothing runs there, StartFailed, CommandNotFound, CommandNotExecutable.
    """
    try:
        framed = not task.terminal if framed is None else framed
        connection = _said(run_dir, task, client, Exec(stdout, stderr, framed, leash))
    finally:
        if client >= 0:
            os.close(client)
    with contextlib.ExitStack() as undo:
        undo.callback(connection.close)
        answer = await receive(connection)
        if isinstance(answer, Started):
            undo.pop_all()
            return Running(run_dir, task.id, answer, connection)
        if isinstance(answer, Failed):
            trace.adopt(answer.spans)
            raise answer.failure.error()
        raise Conflict(answer.message if isinstance(answer, Refused) else "the container is not running")


def _said(run_dir: Path, task: ExecTask, client: int, message: Exec) -> socket.socket:
    try:
        connection = connect(run_dir)
    except OSError:
        raise Conflict("the container is not running") from None
    memory = messages.pack_task(task)
    try:
        messages.send(connection, message, [memory, *([client] if client >= 0 else [])])
    except OSError:
        connection.close()
        raise Conflict("the container is not running") from None
    finally:
        os.close(memory)
    return connection
