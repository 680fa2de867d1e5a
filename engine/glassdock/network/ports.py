"""Published ports: the machine listens, a relay in the daemon carries the bytes into the container.

Interface:
- `listen(binding)`: the listening socket and the binding with its real port; raises Conflict where it is in use.
- `Publisher(reach)`: `reach(family, kind)` makes a socket on the bridges' network where that is not the machine's.
- `Publisher.publish(container, bindings, address)`: listen on all or on none, relay to the container's address.
- `Publisher.withdraw(container)`: stop.

Rules: the socket is bound before the container starts, so a port in use is refused in time. Loopback unless told
otherwise (design, section 8). One end's half-close arrives at the other; a slow reader slows only its own writer.
The container sees its gateway as the sender, as with Docker's proxy. Published on all addresses is published on the
gateways' too, where other containers find it: on a network apart from the machine's that takes a second listener.
Source: https://docs.docker.com/engine/network/port-publishing/
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, cast

import msgspec

from glassdock.errors import Conflict, InvalidParameter
from glassdock.network.model import LOOPBACK, PortBinding

_BACKLOG = 1024
_UDP_IDLE = 90.0  # seconds, as Docker's proxy
_WILDCARDS = ("0.0.0.0", "::")
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}

Transport = asyncio.Transport | asyncio.DatagramTransport
Reach = Callable[[socket.AddressFamily, socket.SocketKind], Awaitable[socket.socket]]


def listen(binding: PortBinding) -> tuple[socket.socket, PortBinding]:
    """A bound socket for `binding`, and the binding with the address and port it really got."""
    host = binding.host_ip or LOOPBACK
    if binding.protocol not in _KINDS:
        raise InvalidParameter(f"invalid proto: {binding.protocol}", "A published port is tcp or udp.")
    try:
        family = socket.AF_INET if ip_address(host).version == 4 else socket.AF_INET6
    except ValueError as error:
        raise InvalidParameter(f"invalid IP address: {host}") from error
    sock = socket.socket(family, _KINDS[binding.protocol])
    _bind(sock, host, binding)
    return sock, msgspec.structs.replace(binding, host_ip=host, host_port=sock.getsockname()[1])


def _bind(sock: socket.socket, host: str, binding: PortBinding) -> None:
    """Bind, and listen where the protocol does; raises Conflict, the socket is closed then."""
    tcp = binding.protocol == "tcp"
    try:
        sock.setblocking(False)
        if tcp:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, binding.host_port))
        if tcp:
            sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise _refused(error, host, binding) from error


def _refused(error: OSError, host: str, binding: PortBinding) -> Conflict:
    """Docker's words for a port that cannot be had."""
    reason, remedy = {
        errno.EADDRINUSE: (
            "address already in use",
            f"`ss -lntup 'sport = :{binding.host_port}'` names the program. Stop it, or publish another port.",
        ),
        errno.EADDRNOTAVAIL: (
            "cannot assign requested address",
            "Publish on an address of this machine: `ip -brief address` lists them.",
        ),
        errno.EACCES: (
            "permission denied",
            f"Publish a higher port, or as root: sysctl net.ipv4.ip_unprivileged_port_start={binding.host_port}.",
        ),
    }.get(error.errno or 0, (error.strerror or str(error), None))
    shown = f"[{host}]" if ":" in host else host
    where = f"listen {binding.protocol}{6 if ':' in host else 4} {shown}:{binding.host_port}: bind: {reason}"
    return Conflict(f"Error starting userland proxy: {where}", remedy)


@dataclass(slots=True)
class _Publication:
    """One published port at work."""

    container: str
    binding: PortBinding
    waiting: list[socket.socket]
    servers: list[asyncio.Server | asyncio.DatagramTransport] = field(default_factory=list)
    relays: set[Transport] = field(default_factory=set)

    def close(self) -> None:
        for one in (*self.waiting, *self.servers):
            one.close()
        for transport in list(self.relays):
            transport.abort()


class Publisher:
    """Every published port of the engine."""

    def __init__(self, reach: Reach | None = None) -> None:
        self._reach = reach
        self._open: list[_Publication] = []

    async def publish(self, container: str, bindings: Sequence[PortBinding], address: str) -> tuple[PortBinding, ...]:
        """Listen on every binding and relay to `address`; returns them with real ports, raises Conflict for none."""
        with contextlib.ExitStack() as undo:
            made = []
            for binding in bindings:
                self._refuse_taken(binding)
                sock, real = listen(binding)
                publication = _Publication(container, real, [sock])
                undo.callback(self._close, publication)
                if self._reach and real.host_ip == _WILDCARDS[0]:
                    apart = await self._reach(socket.AF_INET, _KINDS[real.protocol])
                    _bind(apart, real.host_ip, real)
                    publication.waiting.append(apart)
                self._open.append(publication)
                made.append(publication)
            for publication in made:
                await self._serve(publication, address)
            undo.pop_all()
        return tuple(publication.binding for publication in made)

    def withdraw(self, container: str) -> None:
        """Stop listening for a container and cut its connections; nothing where it has no ports."""
        for publication in [found for found in self._open if found.container == container]:
            self._close(publication)

    def withdraw_all(self) -> None:
        """Stop listening altogether."""
        for publication in list(self._open):
            self._close(publication)

    def _close(self, publication: _Publication) -> None:
        publication.close()
        if publication in self._open:
            self._open.remove(publication)

    async def _serve(self, publication: _Publication, address: str) -> None:
        loop = asyncio.get_running_loop()
        target = _Target((address, publication.binding.container_port), self._reach)
        while publication.waiting:
            sock = publication.waiting[0]
            if publication.binding.protocol == "tcp":
                server = await loop.create_server(lambda: _Client(target, publication.relays), sock=sock)
                publication.servers.append(server)
            else:
                transport, _ = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(target, publication.relays), sock=sock
                )
                publication.servers.append(transport)
            publication.waiting.pop(0)

    def _refuse_taken(self, wanted: PortBinding) -> None:
        host = wanted.host_ip or LOOPBACK
        for found in self._open:
            have = found.binding
            same = (have.protocol, have.host_port) == (wanted.protocol, wanted.host_port)
            if same and (have.host_ip == host or have.host_ip in _WILDCARDS or host in _WILDCARDS):
                raise Conflict(
                    f"Bind for {host}:{wanted.host_port} failed: port is already allocated",
                    f"Container {found.container[:12]} has it. Stop that container, or publish another port.",
                )


@dataclass(frozen=True, slots=True)
class _Target:
    """A container's port, and how to come there."""

    address: tuple[str, int]
    reach: Reach | None

    async def connect(self, kind: socket.SocketKind) -> socket.socket:
        """A connected socket; raises OSError where nobody answers."""
        sock = await self.reach(socket.AF_INET, kind) if self.reach else socket.socket(socket.AF_INET, kind)
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, self.address)
        except BaseException:
            sock.close()
            raise
        return sock


class _Half(asyncio.Protocol):
    """One end of a relayed connection; what it receives goes to `other`."""

    def __init__(self, relays: set[Transport]) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Half | None = None
        self._relays = relays

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._relays.add(self.transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        if self.other is not None and self.other.transport is not None and self.other.transport.can_write_eof():
            self.other.transport.write_eof()
        return True  # the other direction may still have something to say

    def pause_writing(self) -> None:
        self._flow(pause=True)

    def resume_writing(self) -> None:
        self._flow(pause=False)

    def _flow(self, *, pause: bool) -> None:
        source = self.other.transport if self.other else None
        if source is not None and not source.is_closing():
            (source.pause_reading if pause else source.resume_reading)()

    def connection_lost(self, error: Exception | None) -> None:
        if self.transport is not None:
            self._relays.discard(self.transport)
        if self.other is not None and self.other.transport is not None:
            # Close and not abort: what was already said still arrives.
            (self.other.transport.abort if error else self.other.transport.close)()


class _Client(_Half):
    """The end that somebody connected to; it reads nothing until the container has answered."""

    def __init__(self, target: _Target, relays: set[Transport]) -> None:
        super().__init__(relays)
        self._target = target
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        assert self.transport is not None
        # Here and not in connection_made: with Python 3.11.2 the loop begins to read after it, paused or not.
        self.transport.pause_reading()
        other = _Half(self._relays)
        self.other, other.other = other, self
        try:
            sock = await self._target.connect(socket.SOCK_STREAM)
            await asyncio.get_running_loop().create_connection(lambda: other, sock=sock)
        except OSError:
            # Nobody listens in the container: the caller's connection ends, as with Docker's proxy.
            self.transport.abort()
            return
        if self.transport.is_closing():
            cast(asyncio.Transport, other.transport).abort()
        else:
            self.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if self._connecting is not None and not self._connecting.done():
            self._connecting.cancel()


class _Datagrams(asyncio.DatagramProtocol):
    """The machine's side of a UDP port: one flow for each address that sends."""

    def __init__(self, target: _Target, relays: set[Transport]) -> None:
        self._target = target
        self._relays = relays
        self._flows: dict[Any, _Flow] = {}
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        flow = self._flows.get(addr)
        if flow is None:
            flow = self._flows[addr] = _Flow(self, addr)
            flow.opening = asyncio.get_running_loop().create_task(self._open(flow))
        flow.send(data)

    async def _open(self, flow: _Flow) -> None:
        try:
            sock = await self._target.connect(socket.SOCK_DGRAM)
            await asyncio.get_running_loop().create_datagram_endpoint(lambda: flow, sock=sock)
        except OSError:
            self.forget(flow)

    def forget(self, flow: _Flow) -> None:
        self._flows.pop(flow.address, None)
        if flow.transport is not None:
            self._relays.discard(flow.transport)

    def remember(self, transport: Transport) -> None:
        self._relays.add(transport)

    def connection_lost(self, _error: Exception | None) -> None:
        for flow in list(self._flows.values()):
            flow.close()


class _Flow(asyncio.DatagramProtocol):
    """What one sender and the container say to each other; forgotten after 90 s of silence."""

    def __init__(self, side: _Datagrams, address: Any) -> None:
        self.address = address
        self.transport: asyncio.DatagramTransport | None = None
        self.opening: asyncio.Task[None] | None = None
        self._side = side
        self._waiting: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None

    def send(self, data: bytes) -> None:
        if self.transport is None:
            self._waiting.append(data)
        else:
            self.transport.sendto(data)
        self._touch()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)
        self._side.remember(self.transport)
        for data in self._waiting:
            self.transport.sendto(data)
        self._waiting.clear()

    def datagram_received(self, data: bytes, _sender: Any) -> None:
        if self._side.transport is not None:
            self._side.transport.sendto(data, self.address)
        self._touch()

    def error_received(self, error: Exception) -> None:
        """Port unreachable: UDP promises nothing, the sender will see silence."""

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.transport is not None:
            self.transport.close()
        elif self.opening is not None:
            self.opening.cancel()
        self._side.forget(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._side.forget(self)

    def _touch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_UDP_IDLE, self.close)
