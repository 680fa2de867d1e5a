"""A connection that turns into a container's streams: 101, then bytes both ways.

Interface:
- `await splice(request, fd, content_type)`: answers the request, then passes bytes until one side has ended; True
  where the client typed its detach keys.
- `stream_type(version, tty)`: what such a stream is called.

Rules: bytes are passed on, and looked at only for the detach keys of a terminal. The client may close its writing half
(the end of stdin) and goes on reading. Each direction stops reading while the other side's buffer is full, so a slow
reader costs no memory.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Container/operation/ContainerAttach
"""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from aiohttp import web

from glassdock.containers.detach import Watch

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"

# Seconds between the head and what is there already: the SDK for Python loses bytes that come with the head.
_GAP = 0.02


class _Side(asyncio.Protocol):
    """One end of the splice; `other` is the far end."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Side
        self.done = asyncio.get_running_loop().create_future()
        self.ends_the_other = False
        self.watch: Watch | None = None
        self.detached = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.watch is not None:
            data, self.detached = self.watch.feed(data)
        if self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.write(data)
        if self.detached and self.transport is not None:
            self.transport.close()

    def eof_received(self) -> bool:
        far = self.other.transport
        if self.ends_the_other:
            if far is not None:
                far.close()
            return False
        if far is not None and not far.is_closing() and far.can_write_eof():
            far.write_eof()
        return True  # keep our writing half: the client still wants the output

    def connection_lost(self, _: Exception | None) -> None:
        if self.other.transport is not None:
            self.other.transport.close()
        if not self.done.done():
            self.done.set_result(None)

    def pause_writing(self) -> None:
        if self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.resume_reading()


async def splice(
    request: web.Request, descriptor: int, content_type: str, before: bytes = b"", *, keys: bytes = b""
) -> bool:
    """Answer 101 (200 where the client asked for no upgrade), send `before`, and pass bytes until both sides end.

    With `keys` the client's bytes are watched for them: then it is let go, and True is returned.
    """
    loop = asyncio.get_running_loop()
    client, container = _Side(), _Side()
    client.other, container.other = container, client
    client.watch = Watch(keys) if keys else None
    container.ends_the_other = True  # the container's end of output is the end of the connection
    transport = request.transport
    if transport is None:
        socket.socket(fileno=descriptor).close()
        raise ConnectionResetError("the client has gone")
    transport.write(_head(request, content_type))
    http = transport.get_protocol()
    transport.pause_reading()  # what the client sends meanwhile waits in the kernel
    transport.set_protocol(client)
    client.connection_made(transport)
    if before:
        await asyncio.sleep(_GAP)
        transport.write(before)
    await loop.create_connection(lambda: container, sock=socket.socket(fileno=descriptor))
    if not transport.is_closing():
        transport.resume_reading()
    try:
        await client.done
    finally:
        if container.transport is not None:
            container.transport.close()
        transport.close()
        cast(asyncio.Protocol, http).connection_lost(None)
    return client.detached


def stream_type(version: str, *, tty: bool) -> str:
    """Raw with a terminal; framed without, under its own name from API 1.42."""
    return MULTIPLEXED if not tty and int(version.partition(".")[2]) >= 42 else RAW


def _head(request: web.Request, content_type: str) -> bytes:
    if "upgrade" in request.headers.get("Connection", "").lower():
        return (
            f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        ).encode()
    return f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n".encode()
