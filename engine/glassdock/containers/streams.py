"""Which of a container's streams somebody wants, and the socket over which they get them.

Interface: `Streams`, `pair()`.

Rules: what travels over the socket is what the API sends (raw with a terminal, Docker's frames without), made by
the shim; everybody above only passes bytes on. A closed writing half means the end of stdin.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Streams:
    """A wish: stdin to the container, stdout and stderr from it."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False


def pair() -> tuple[int, int]:
    """Two ends of a stream socket, as file descriptors: ours and the shim's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return ours.detach(), theirs.detach()
