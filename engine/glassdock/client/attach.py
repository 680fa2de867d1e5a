"""The streams of a container: frames taken apart, stdin sent, half-close.

Interface:
- `attach(session, container, ...)`: the connection of `POST /containers/{id}/attach`.
- `pump(stream, output, framed=..., stdin=...)`: copy until the container's side ends.
- `Frames`: splits Docker's framed stream, whatever pieces it arrives in.

Rules: one thread and one selector; stdin is a descriptor, ready bytes, or None for closed at once.
Source: Docker Engine API, "Attach to a container", stream format.
"""

from __future__ import annotations

import os
import selectors
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from glassdock.client import wire
from glassdock.client.session import Output, Session
from glassdock.containers.detach import Watch

_HIGH_WATER = 256 * 1024
STDOUT, STDERR = 1, 2


class Frames:
    """Splits a framed stream: 8 bytes (stream, three zeros, length big-endian), then the payload."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The (stream, payload) pairs that are complete with `data`."""
        buffer = self._rest + data
        at = 0
        while len(buffer) - at >= 8:
            length = int.from_bytes(buffer[at + 4 : at + 8], "big")
            if len(buffer) - at - 8 < length:
                break
            yield buffer[at], buffer[at + 8 : at + 8 + length]
            at += 8 + length
        self._rest = buffer[at:]


def attach(
    session: Session,
    container: str,
    *,
    stdin: bool,
    stdout: bool = True,
    stderr: bool = True,
    logs: bool = False,
    keys: str = "",
) -> wire.Upgraded:
    """Attach to a container, before or after its start; `keys` are the detach keys. Raises what the engine says."""
    wanted = {"stream": True, "stdin": stdin, "stdout": stdout, "stderr": stderr, "logs": logs}
    query = "&".join(f"{name}=1" for name, on in wanted.items() if on)
    query += f"&detachKeys={quote(keys)}" if keys else ""
    trace = session.api.headers.get("Glassdock-Trace", "")
    path = f"/v{session.api.api_version}/containers/{container}/attach?{query}"
    return wire.upgrade(session.address, path, {"Glassdock-Trace": trace})


def pump(stream: wire.Upgraded, output: Output, *, framed: bool, stdin: int | bytes | None, keys: bytes = b"") -> bool:
    """Copy the container's output to `output` and `stdin` to the container, until its output ends.

    True where the detach keys were typed first.
    """
    frames = Frames()

    def deliver(data: bytes) -> None:
        for kind, payload in frames.feed(data) if framed else ((STDOUT, data),):
            (output.err if kind == STDERR else output.out)(payload)

    with selectors.PollSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        sender = _Sender(stream, stdin, selector, keys)
        if stream.pending():
            deliver(stream.recv())
        while True:
            sender.give()
            if sender.detached:
                return True
            for key, events in selector.select():
                if key.fileobj is not stream:
                    sender.take()
                elif events & selectors.EVENT_READ:
                    data = stream.recv()
                    if not data:
                        return False
                    deliver(data)


class _Sender:
    """Stdin on its way to the container: what was read and not yet sent."""

    def __init__(
        self, stream: wire.Upgraded, stdin: int | bytes | None, selector: selectors.BaseSelector, keys: bytes
    ) -> None:
        self._stream, self._selector = stream, selector
        self._keys = Watch(keys) if keys else None
        self.detached = False
        self._waiting = stdin if isinstance(stdin, bytes) else b""
        self._source = stdin if isinstance(stdin, int) else None
        self._open = stdin is not None
        self._watched = False

    def take(self) -> None:
        """Read what the person wrote."""
        assert self._source is not None
        data = os.read(self._source, 65536)
        if self._keys is not None:
            typed, self.detached = self._keys.feed(data)
            self._waiting += typed
        else:
            self._waiting += data
        if not data:
            self._watch(False)
            self._source = None

    def give(self) -> None:
        """Send what the socket takes without waiting; half-close at the end; say what to wake up for."""
        if self._waiting:
            self._waiting = self._waiting[self._stream.send(self._waiting) :]
        if not self._waiting and self._source is None and self._open:
            self._open = False
            self._stream.close_stdin()
        self._selector.modify(self._stream, selectors.EVENT_READ | (selectors.EVENT_WRITE if self._waiting else 0))
        self._watch(self._source is not None and len(self._waiting) < _HIGH_WATER)

    def _watch(self, on: bool) -> None:
        if self._source is None or on == self._watched:
            return
        if on:
            self._selector.register(self._source, selectors.EVENT_READ)
        else:
            self._selector.unregister(self._source)
        self._watched = on


def resize(session: Session, container: str, size: tuple[int, int]) -> None:
    """Tell a container's terminal its size, (rows, columns)."""
    session.api.resize(container, height=size[0], width=size[1])


def log_frames(response: Any, output: Output, *, framed: bool) -> None:
    """Deliver the body of a logs response until it ends."""
    frames = Frames()
    for data in response.iter_content(None):
        for kind, payload in frames.feed(data) if framed else ((STDOUT, data),):
            (output.err if kind == STDERR else output.out)(payload)
