"""Published ports, over real sockets; the "container" listens on another loopback address."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import cast

import pytest

from glassdock.errors import Conflict, InvalidParameter
from glassdock.network.model import PortBinding
from glassdock.network.ports import Publisher, listen

INSIDE = "127.0.0.2"


@pytest.fixture
async def publisher() -> AsyncIterator[Publisher]:
    made = Publisher()
    yield made
    made.withdraw_all()
    await asyncio.sleep(0.05)  # the loop closes what was handed to it


async def serve(handler: object) -> tuple[asyncio.Server, int]:
    server = await asyncio.start_server(handler, INSIDE, 0)  # type: ignore[arg-type]
    return server, server.sockets[0].getsockname()[1]


async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write((await reader.read()).upper())
    await writer.drain()
    writer.close()


async def ended(reader: asyncio.StreamReader) -> bool:
    """True once the other side has closed or reset the connection without a byte."""
    try:
        return await asyncio.wait_for(reader.read(1), 5) == b""
    except ConnectionResetError:
        return True


async def test_bytes_and_half_close_go_both_ways(publisher: Publisher) -> None:
    server, port = await serve(upper)
    async with server:
        (real,) = await publisher.publish("a", [PortBinding(port)], INSIDE)
        assert (real.host_ip, real.container_port) == ("127.0.0.1", port)
        assert real.host_port > 0
        reader, writer = await asyncio.open_connection("127.0.0.1", real.host_port)
        writer.write(b"hello")
        writer.write_eof()
        assert await reader.read() == b"HELLO"
        writer.close()
        await writer.wait_closed()


async def test_a_big_answer_to_a_slow_reader_arrives_whole_and_is_not_kept_in_memory(publisher: Publisher) -> None:
    size = 32 << 20
    sent = 0

    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while sent < size:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()
        writer.close()

    server, port = await serve(pour)
    async with server:
        (real,) = await publisher.publish("a", [PortBinding(port)], INSIDE)
        reader, writer = await asyncio.open_connection("127.0.0.1", real.host_port, limit=65536)
        await asyncio.sleep(0.3)
        assert sent < size, "the writer was not slowed down"
        total = 0
        while chunk := await reader.read(1 << 20):
            total += len(chunk)
        assert total == size
        writer.close()
        await writer.wait_closed()


async def test_nobody_listening_inside_ends_the_connection(publisher: Publisher) -> None:
    (real,) = await publisher.publish("a", [PortBinding(1)], INSIDE)
    reader, writer = await asyncio.open_connection("127.0.0.1", real.host_port)
    assert await ended(reader)
    writer.close()


async def test_datagrams_find_their_way_back_to_each_sender(publisher: Publisher) -> None:
    loop = asyncio.get_running_loop()

    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.DatagramTransport, transport)

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            self.transport.sendto(data.upper(), addr)

    transport, _ = await loop.create_datagram_endpoint(Echo, local_addr=(INSIDE, 0))
    port = transport.get_extra_info("sockname")[1]
    (real,) = await publisher.publish("a", [PortBinding(port, "udp")], INSIDE)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as two,
    ):
        for sender, text in ((one, b"one"), (two, b"two"), (one, b"uno")):
            sender.connect(("127.0.0.1", real.host_port))
            await loop.sock_sendall(sender, text)
            assert await asyncio.wait_for(loop.sock_recv(sender, 100), 5) == text.upper()
    transport.close()


async def test_a_port_of_another_container_is_allocated_already(publisher: Publisher) -> None:
    (real,) = await publisher.publish("a" * 64, [PortBinding(80)], INSIDE)
    for host in ("", "127.0.0.1", "0.0.0.0"):
        with pytest.raises(Conflict, match=rf":{real.host_port} failed: port is already allocated") as caught:
            await publisher.publish("b" * 64, [PortBinding(80, "tcp", host, real.host_port)], INSIDE)
        assert caught.value.remedy


async def test_a_port_of_another_program_is_in_use_and_none_of_the_rest_stays_open(publisher: Publisher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as probe:
            free = probe.getsockname()[1]
        wanted = [PortBinding(80, host_port=free), PortBinding(81, host_port=taken)]
        with pytest.raises(Conflict, match=f"listen tcp4 127.0.0.1:{taken}: bind: address already in use"):
            await publisher.publish("a", wanted, INSIDE)
    with socket.create_server(("127.0.0.1", free)):
        pass


async def test_withdrawn_ports_are_free_and_their_connections_are_cut(publisher: Publisher) -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server, port = await serve(hold)
    async with server:
        (real,) = await publisher.publish("a", [PortBinding(port)], INSIDE)
        reader, writer = await asyncio.open_connection("127.0.0.1", real.host_port)
        writer.write(b"x")
        await asyncio.sleep(0.05)
        publisher.withdraw("a")
        assert await ended(reader)
        writer.close()
        (again,) = await publisher.publish("b", [real], INSIDE)
        assert again == real


@pytest.mark.parametrize("binding", [PortBinding(80, "sctp"), PortBinding(80, host_ip="nowhere")])
def test_what_cannot_be_published_is_refused(binding: PortBinding) -> None:
    with pytest.raises(InvalidParameter):
        listen(binding)


def test_an_address_that_the_machine_has_not_is_refused_in_words() -> None:
    with pytest.raises(Conflict, match="cannot assign requested address"):
        listen(PortBinding(80, host_ip="203.0.113.9"))
