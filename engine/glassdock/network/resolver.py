"""The name server of one container: 127.0.0.11 in its own network, served by the daemon's loop.

Interface:
- `listen()`: the two sockets, made by a thread that is in the container's network (`namespaces.visit`).
- `Resolver(sockets, lookup, servers, reach)`: `await open()`, `close()`; `names.py` looks up.

Rules: what is not the name of a container is asked of the servers: those that were given with --dns from within the
container's network (`reach` makes sockets there), the machine's own from the machine's. A container without a way out
gets no answer from elsewhere. The sockets keep the namespace alive, so they go with the container.
Source: https://docs.docker.com/engine/network/#dns-services
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence

from glassdock.network import dnswire, nft
from glassdock.network.dnswire import Question, Record

ADDRESS, PORT = "127.0.0.11", 53
_PATIENCE = 4.0  # seconds a server may take
_MOST = 512  # questions of one container under way
_LONGEST = 1 << 16
_IDLE = 10.0  # seconds a TCP connection may say nothing
_TABLE = "glassdock-dns"

Lookup = Callable[[Question], Sequence[Record] | None]
Reach = Callable[[socket.AddressFamily, socket.SocketKind], Awaitable[socket.socket]]


def listen() -> tuple[socket.socket, socket.socket]:
    """UDP and TCP at the address: port 53 leads to ports of the kernel's choice, so 53 is free for the container.

    Where the kernel has no nftables for us they are at port 53 itself.
    """
    sockets = _bound(0)
    try:
        _lead(sockets)
    except OSError as error:
        for made in sockets:
            made.close()
        if error.errno not in (errno.EPERM, errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.ENOENT, errno.EINVAL):
            raise
        sockets = _bound(PORT)
    return sockets


def _bound(port: int) -> tuple[socket.socket, socket.socket]:
    with contextlib.ExitStack() as failed:
        made = []
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            one = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            failed.callback(one.close)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((ADDRESS, port))
            made.append(one)
        made[1].listen(64)
        failed.pop_all()
    return made[0], made[1]


def _lead(sockets: Sequence[socket.socket]) -> None:
    rules = [
        nft.leading(f"{'tcp' if one.type == socket.SOCK_STREAM else 'udp'}", ADDRESS, PORT, one.getsockname()[1])
        for one in sockets
    ]
    nft.transaction(
        [
            # Made, deleted and made again: the ports of a dead daemon's sockets are gone.
            nft.table(nft.NEW_TABLE, _TABLE),
            nft.table(nft.DELETE_TABLE, _TABLE),
            nft.table(nft.NEW_TABLE, _TABLE),
            nft.chain(_TABLE, "output", "nat", nft.OUTPUT_HOOK, nft.DSTNAT),
            *(nft.rule(_TABLE, rule) for rule in rules),
        ]
    )


class Resolver:
    """Serves one container until it is closed. `servers` are asked through `reach`, or as the machine asks its own."""

    def __init__(
        self,
        sockets: tuple[socket.socket, socket.socket],
        lookup: Lookup,
        servers: Callable[[], Sequence[str]],
        reach: Reach | None = None,
    ) -> None:
        self._udp, self._tcp = sockets
        self._lookup = lookup
        self._servers = servers
        self._reach = reach or _here
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Begin to serve."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._udp, self._received)
        loop.add_reader(self._tcp, self._called)

    def close(self) -> None:
        """Stop serving, and let go of the namespace."""
        loop = asyncio.get_running_loop()
        for one in (self._udp, self._tcp):
            loop.remove_reader(one)
            one.close()
        for task in self._tasks:
            task.cancel()

    def _received(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            data, sender = self._udp.recvfrom(_LONGEST)
            self._spawn(self._answer_datagram(data, sender))

    def _called(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            connection, _ = self._tcp.accept()
            connection.setblocking(False)
            if not self._spawn(self._answer_stream(connection)):
                connection.close()

    def _spawn(self, work: Awaitable[None]) -> bool:
        if len(self._tasks) >= _MOST:
            asyncio.ensure_future(work).cancel()
            return False
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _answer_datagram(self, data: bytes, sender: tuple[str, int]) -> None:
        answer = await self._answer(data, socket.SOCK_DGRAM)
        if answer is not None:
            # Who asked has gone, or does not read: as with any datagram, it asks again.
            with contextlib.suppress(OSError):
                self._udp.sendto(answer, sender)

    async def _answer_stream(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection(sock=connection)
            with contextlib.closing(writer):
                while True:
                    data = await asyncio.wait_for(_read(reader), _IDLE)
                    answer = await self._answer(data, socket.SOCK_STREAM)
                    if answer is None:
                        return
                    writer.write(struct.pack(">H", len(answer)) + answer)
                    await asyncio.wait_for(writer.drain(), _IDLE)

    async def _answer(self, data: bytes, kind: socket.SocketKind) -> bytes | None:
        """The answer to a message; None where it is none that a server answers."""
        try:
            asked = dnswire.question(data)
        except ValueError:
            return None
        records = self._lookup(asked)
        if records is None:
            return await self._forward(data, asked, kind)
        answer = dnswire.found(asked, records)
        if kind == socket.SOCK_DGRAM and len(answer) > dnswire.MOST_OVER_UDP:
            return dnswire.shortened(answer)
        return answer

    async def _forward(self, data: bytes, asked: Question, kind: socket.SocketKind) -> bytes:
        for server in self._servers():
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                return await asyncio.wait_for(self._ask(server, data, kind), _PATIENCE)
        return dnswire.failed(asked, dnswire.SERVFAIL)

    async def _ask(self, server: str, data: bytes, kind: socket.SocketKind) -> bytes:
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        with await self._reach(family, kind) as door:
            door.setblocking(False)
            await loop.sock_connect(door, (server, PORT))
            if kind == socket.SOCK_STREAM:
                reader, writer = await asyncio.open_connection(sock=door)
                with contextlib.closing(writer):
                    writer.write(struct.pack(">H", len(data)) + data)
                    return await _read(reader)
            await loop.sock_sendall(door, data)
            while True:
                answer = await loop.sock_recv(door, _LONGEST)
                if answer[:2] == data[:2]:  # else a late answer to somebody else's question
                    return answer


async def _read(reader: asyncio.StreamReader) -> bytes:
    """One message of a stream: its length and itself."""
    return await reader.readexactly(struct.unpack(">H", await reader.readexactly(2))[0])


async def _here(family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
    """A socket of the daemon's own network."""
    return socket.socket(family, kind)
