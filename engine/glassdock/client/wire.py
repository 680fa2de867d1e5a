"""HTTP by hand, for the two things that the SDK does not do: a ping without its import, and an upgrade.

Interface:
- `ping(socket)`: does an engine answer there?
- `upgrade(host, path)`: POST and keep the connection: `Upgraded`, the raw stream of attach and exec.

Rules: addresses are `unix://PATH` or `tcp://HOST:PORT`; `Upgraded` is a context manager that closes the socket.
Source: Docker Engine API, "Attach to a container", https://docs.docker.com/reference/api/engine/.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket as sockets
import struct
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from glassdock import errors

_HEAD_LIMIT = 64 * 1024


def ping(path: Path, *, timeout: float = 5.0) -> bool:
    """True if an engine answers `GET /_ping` on the unix socket `path`.

    False where nothing listens: no socket, or a stale one whose daemon died.
    Raises `Unavailable` if something accepts and does not answer, `Forbidden` if the socket may not be opened.
    """
    with sockets.socket(sockets.AF_UNIX) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            return False
        except PermissionError as error:
            raise _somebody_elses(path) from error
        except OSError as error:
            raise errors.InvalidParameter(
                f"{path} cannot be an engine's socket: {error.strerror or error}", "Choose another with GLASSDOCK_HOST."
            ) from error
        _, uid, _ = struct.unpack("3i", connection.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, 12))
        if os.geteuid() != 0 and uid not in (0, os.geteuid()):
            raise _somebody_elses(path)  # the default folder may be in /tmp, where anybody could have been first
        try:
            connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n")
            return connection.recv(64).split(b" ")[1:2] == [b"200"]
        except TimeoutError as error:
            raise errors.Unavailable(
                f"the engine on {path} does not answer", "Look at its log next to the socket, or stop it."
            ) from error
        except ConnectionError:
            return False


class Upgraded:
    """A connection after its 101: what arrives, what is sent, and the half-close of stdin."""

    def __init__(self, connection: sockets.socket, early: bytes) -> None:
        self._connection = connection
        self._early = early

    def fileno(self) -> int:
        """The socket's descriptor, for a selector."""
        return self._connection.fileno()

    def pending(self) -> bool:
        """True while bytes are here that came with the response's head; a selector does not see them."""
        return bool(self._early)

    def recv(self, size: int = 65536) -> bytes:
        """The next bytes; b"" at the end, a connection that was reset included."""
        if self._early:
            early, self._early = self._early, b""
            return early
        try:
            return self._connection.recv(size)
        except ConnectionResetError:
            return b""

    def send(self, data: bytes) -> int:
        """Send some of `data`, never waiting; how many bytes were taken. A peer that is gone takes everything."""
        try:
            return self._connection.send(data, sockets.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except (BrokenPipeError, ConnectionResetError):
            return len(data)

    def close_stdin(self) -> None:
        """Half-close: the container reads the end of its stdin, its output goes on."""
        try:
            self._connection.shutdown(sockets.SHUT_WR)
        except OSError:
            return  # the other side has already gone

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._connection.close()


def upgrade(host: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Upgraded:
    """POST `path` and take the connection over. Raises the engine's error, or `Unavailable`."""
    lines = [f"POST {path} HTTP/1.1", "Host: engine", "Connection: Upgrade", "Upgrade: tcp"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(_dial(host))
        connection.sendall("\r\n".join(lines).encode() + body)
        head, rest = _head(connection)
        status = int(head.split(b" ", 2)[1])
        if status not in (101, 200):
            raise _refusal(status, head, rest, connection)
        stack.pop_all()
        return Upgraded(connection, rest)


def _somebody_elses(path: Path) -> errors.Forbidden:
    return errors.Forbidden(
        f"the engine's socket {path} belongs to another user",
        "Use your own engine: set GLASSDOCK_HOST and GLASSDOCK_ROOT, or become that user.",
    )


def _dial(host: str) -> sockets.socket:
    parts = urlsplit(host)
    try:
        if parts.scheme in ("tcp", "http"):
            return sockets.create_connection((parts.hostname or "127.0.0.1", parts.port or 2375))
        connection = sockets.socket(sockets.AF_UNIX)
        try:
            connection.connect(parts.path)
        except BaseException:
            connection.close()
            raise
        return connection
    except OSError as error:
        raise errors.Unavailable(f"no engine answers on {host}", "Start one: `glassdock daemon`.") from error


def _head(connection: sockets.socket) -> tuple[bytes, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(4096)
        if not more or len(received) > _HEAD_LIMIT:
            raise errors.Unavailable("the engine closed the connection while it was asked to attach")
        received += more
    head, _, rest = received.partition(b"\r\n\r\n")
    return head, rest


def _refusal(status: int, head: bytes, rest: bytes, connection: sockets.socket) -> errors.GlassdockError:
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while len(rest) < length:
        more = connection.recv(65536)
        if not more:
            break
        rest += more
    try:
        body = json.loads(rest)
    except ValueError:
        body = {}
    return errors.from_body(status, body if isinstance(body, dict) else {})
