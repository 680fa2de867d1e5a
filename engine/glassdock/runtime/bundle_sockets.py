"""What a caller of the runtime's command line is handed over a unix socket that he listens at.

Interface: `send_console(path, terminal)`: the terminal's outer end, closed here; `console_of(path)`: the same as what
`bundle.create` takes. `send_pidfd(path, pid)`: the process as a descriptor, of a child that nobody has waited for yet.

Rules: one message with its name and one descriptor, as runc's callers expect it. Raises StartFailed.

Sources: unix(7), pidfd_open(2), https://github.com/opencontainers/runc/blob/main/docs/terminals.md
"""

from __future__ import annotations

import array
import functools
import os
import socket
from collections.abc import Callable

from glassdock.errors import StartFailed
from glassdock.runtime.stage import reason


def send_console(path: str, terminal: int) -> None:
    """Hand the terminal's outer end to whoever listens at `path`, with its name as the message."""
    _send("console", path, b"/dev/ptmx", terminal)


def console_of(path: str) -> Callable[[int], None] | None:
    """What `create` takes as `console`; none where there is no path."""
    return functools.partial(send_console, path) if path else None


def send_pidfd(path: str, pid: int) -> None:
    """Hand the process to whoever listens at `path`; nothing where there is no path."""
    if path:
        _send("pidfd", path, b"pidfd", os.pidfd_open(pid))


def _send(what: str, path: str, message: bytes, descriptor: int) -> None:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(path)
            connection.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))])
    except OSError as error:
        raise StartFailed(f"{what} socket {path}: {reason(error)}", errno=error.errno or 0) from error
    finally:
        os.close(descriptor)
