"""The standard streams of a container: pipes or a terminal on one side, the log and attached clients on the other.

Interface:
- `Streams(selector, log, ...)`: `open()` makes the ends that the child gets; `adopt_terminal(fd)`.
- `attach(sock, ...)`: a client joins; `.finished`: the outputs have ended; `drain()`, `close()`.

Rules: nothing blocks. A client that does not read holds the container back after 1 MiB, as with Docker; a client that
is gone holds back nobody. Without a terminal what a client gets is framed: stream, three zeros, length, bytes.
Half-close of a client's side closes the container's stdin where `stdin_once` is set.

Source: https://docs.docker.com/reference/api/engine/version/v1.43/#tag/Container/operation/ContainerAttach
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import struct
from collections.abc import Callable

from glassdock.runtime.jsonlog import JsonLog

_CHUNK = 32 * 1024
_FULL = 1 << 20
_NAMES = {1: "stdout", 2: "stderr"}

Handler = Callable[[int], None]


class Client:
    """One attached client: what it has not read yet."""

    def __init__(
        self, sock: socket.socket, streams: Streams, *, stdin: bool, wants: frozenset[int], framed: bool
    ) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.wants = wants
        self.framed = framed
        self.pending = bytearray()
        self.reading = stdin
        self._streams = streams
        self._events = 0

    def put(self, stream: int, data: bytes) -> None:
        """Send, or keep what does not fit."""
        if stream in self.wants:
            if self.framed:
                self.pending += struct.pack(">BxxxL", stream, len(data))
            self.pending += data
            self.flush()

    def flush(self) -> None:
        """Write as much as the client takes; raises nothing: a client that is gone is forgotten."""
        while self.pending:
            try:
                sent = self.sock.send(self.pending[: 1 << 18])
            except BlockingIOError:
                break
            except OSError:
                self._streams.forget(self)
                return
            del self.pending[:sent]
        self.watch()

    def watch(self) -> None:
        """Tell the selector what this client waits for."""
        room = self.reading and self._streams.room_for_stdin
        wanted = (selectors.EVENT_READ if room else 0) | (selectors.EVENT_WRITE if self.pending else 0)
        if wanted != self._events:
            self._streams.register(self.sock, self._events, wanted, self.ready)
            self._events = wanted

    def ready(self, events: int) -> None:
        """The selector's call."""
        if events & selectors.EVENT_WRITE:
            self.flush()
            self._streams.balance()
        if events & selectors.EVENT_READ and self.sock.fileno() >= 0:
            try:
                data = self.sock.recv(_CHUNK)
            except BlockingIOError:
                return
            except OSError:
                self._streams.forget(self)
                return
            if data:
                self._streams.put_stdin(data)
            else:
                self.reading = False
                self.watch()
                self._streams.end_stdin()

    def close(self) -> None:
        """Stop watching and close."""
        if self.sock.fileno() >= 0:
            self._streams.register(self.sock, self._events, 0, self.ready)
            self._events = 0
            self.sock.close()


class Streams:
    """All streams of one container."""

    def __init__(
        self, selector: selectors.BaseSelector, log: JsonLog, *, terminal: bool, stdin: bool, once: bool
    ) -> None:
        self.terminal = terminal
        self.clients: list[Client] = []
        self._selector = selector
        self.log = log
        self._has_stdin = stdin
        self._once = once
        self._outputs: dict[int, int] = {}
        self._stdin = -1
        self._typed = bytearray()
        self._typed_end = False
        self._writing = False
        self._paused = False

    def open(self) -> list[int]:
        """The child's ends: [stdin], stdout, stderr; none with a terminal. The caller closes them after the clone."""
        ends: list[int] = []
        if self.terminal:
            return ends
        if self._has_stdin:
            inner, self._stdin = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self._stdin, False)
            ends.append(inner)
        for number in (1, 2):
            outer, inner = os.pipe2(os.O_CLOEXEC)
            self._watch_output(outer, number)
            ends.append(inner)
        return ends

    def adopt_terminal(self, descriptor: int) -> None:
        """The outer end of the container's terminal: its output is stdout, its input is stdin."""
        self._watch_output(descriptor, 1)
        # A descriptor of its own, so that the selector can wait for its two directions apart.
        self._stdin = os.dup(descriptor) if self._has_stdin else -1

    def attach(
        self, sock: socket.socket, *, stdin: bool, stdout: bool, stderr: bool, framed: bool | None = None
    ) -> None:
        """A client joins; it gets what is written from now on, in frames unless there is a terminal."""
        wants = frozenset(number for number, wanted in ((1, stdout), (2, stderr)) if wanted)
        framed = not self.terminal if framed is None else framed
        client = Client(sock, self, stdin=stdin and self._stdin >= 0, wants=wants, framed=framed)
        self.clients.append(client)
        client.watch()

    @property
    def finished(self) -> bool:
        """True when all outputs have ended."""
        return not self._outputs

    @property
    def drained(self) -> bool:
        """True when every client has read everything."""
        return not any(client.pending for client in self.clients)

    @property
    def room_for_stdin(self) -> bool:
        """False while the container does not read what was typed."""
        return len(self._typed) < 1 << 16

    def resize_target(self) -> int:
        """The terminal, or -1."""
        return next(iter(self._outputs), -1) if self.terminal else -1

    def put_stdin(self, data: bytes) -> None:
        """Bytes from a client for the container."""
        if self._stdin >= 0:
            self._typed += data
            self._flush_stdin()

    def end_stdin(self) -> None:
        """A client has closed its side."""
        if self._once and not self.terminal:
            self._typed_end = True
            self._flush_stdin()

    def drain(self) -> None:
        """Read what is in the pipes now, without waiting: for outputs that somebody outside still holds open."""
        for descriptor in list(self._outputs):
            while descriptor in self._outputs and self._read(descriptor):
                pass

    def close(self) -> None:
        """Close everything; what clients have not read is lost."""
        for descriptor in list(self._outputs):
            self._end_output(descriptor)
        self._close_stdin()
        for client in list(self.clients):
            self.forget(client)

    def forget(self, client: Client) -> None:
        """A client is gone."""
        if client in self.clients:
            self.clients.remove(client)
            ended = client.reading
            client.pending.clear()
            client.close()
            self.balance()
            if ended:
                self.end_stdin()

    def balance(self) -> None:
        """Stop reading the container while a client is behind, go on when it has caught up."""
        behind = max((len(client.pending) for client in self.clients), default=0)
        paused = behind > (_FULL // 2 if self._paused else _FULL)
        if paused != self._paused:
            self._paused = paused
            for descriptor in self._outputs:
                if paused:
                    self._selector.unregister(descriptor)
                else:
                    self._selector.register(descriptor, selectors.EVENT_READ, self._reader(descriptor))

    def register(self, target: socket.socket | int, before: int, after: int, handler: Handler) -> None:
        """Change what the selector watches for `target`."""
        if before and after:
            self._selector.modify(target, after, handler)
        elif after:
            self._selector.register(target, after, handler)
        elif before:
            self._selector.unregister(target)

    def _watch_output(self, descriptor: int, number: int) -> None:
        os.set_blocking(descriptor, False)
        self._outputs[descriptor] = number
        self._selector.register(descriptor, selectors.EVENT_READ, self._reader(descriptor))

    def _reader(self, descriptor: int) -> Handler:
        def handler(_events: int) -> None:
            self._read(descriptor)

        return handler

    def _read(self, descriptor: int) -> bool:
        """Take one chunk; False where there is none now or it was the end."""
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal whose inner end is closed
                raise
            data = b""
        if not data:
            self._end_output(descriptor)
            return False
        number = self._outputs[descriptor]
        self.log.write(_NAMES[number], data)
        for client in list(self.clients):
            client.put(number, data)
        self.balance()
        return True

    def _end_output(self, descriptor: int) -> None:
        del self._outputs[descriptor]
        if not self._paused:
            self._selector.unregister(descriptor)
        os.close(descriptor)
        if self.terminal:
            self._close_stdin()

    def _flush_stdin(self) -> None:
        blocked = False
        while self._typed and self._stdin >= 0:
            try:
                sent = os.write(self._stdin, self._typed)
            except BlockingIOError:
                blocked = True
                break
            except OSError:
                self._close_stdin()  # the process has closed its end
                return
            del self._typed[:sent]
        if self._stdin >= 0:
            self.register(self._stdin, int(self._writing), selectors.EVENT_WRITE if blocked else 0, self._stdin_ready)
            self._writing = blocked
        if self._typed_end and not self._typed:
            self._close_stdin()
        for client in self.clients:
            client.watch()

    def _stdin_ready(self, _events: int) -> None:
        self._flush_stdin()

    def _close_stdin(self) -> None:
        if self._stdin >= 0:
            if self._writing:
                self._selector.unregister(self._stdin)
                self._writing = False
            os.close(self._stdin)
            self._stdin = -1
            self._typed.clear()
