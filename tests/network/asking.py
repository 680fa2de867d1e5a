"""A DNS client of a few lines, from within a container's network, and a server that says one thing."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

from tests.network.inside import inside

SERVER = ("127.0.0.11", 53)


def query(name: str, kind: int = 1, identity: int = 4711) -> bytes:
    """The bytes of a question."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split(".")) + b"\0"
    return struct.pack(">HHHHHH", identity, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">HH", kind, 1)


def read(answer: bytes, asked: bytes) -> tuple[int, list[str]]:
    """The code of an answer, and its A records or the names of its PTR records."""
    identity, flags, _, count, _, _ = struct.unpack_from(">HHHHHH", answer)
    assert identity == struct.unpack_from(">H", asked)[0]
    assert flags & 0x8000
    place, found = len(asked), []
    for _ in range(count):
        kind, _, _, length = struct.unpack_from(">HHIH", answer, place + 2)
        data = answer[place + 12 : place + 12 + length]
        found.append(str(IPv4Address(data)) if kind == 1 else _name(data))
        place += 12 + length
    return flags & 0xF, found


def _name(data: bytes) -> str:
    labels = []
    while length := data[0]:
        labels.append(data[1 : 1 + length].decode())
        data = data[1 + length :]
    return ".".join(labels)


def ask(netns: int | None, name: str, kind: int = 1, *, tcp: bool = False) -> tuple[int, list[str]]:
    """Ask the container's own server from within; TimeoutError or ConnectionError where nobody answers."""
    asked = query(name, kind)
    return read(inside(netns, lambda: _over_tcp(asked) if tcp else _over_udp(asked)), asked)


def _over_udp(asked: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.settimeout(5)
        door.connect(SERVER)
        door.send(asked)
        return door.recv(4096)


def _over_tcp(asked: bytes) -> bytes:
    with socket.create_connection(SERVER, 5) as door, door.makefile("rb") as stream:
        door.sendall(struct.pack(">H", len(asked)) + asked)
        return stream.read(struct.unpack(">H", stream.read(2))[0])


@contextmanager
def server(netns: int | None, address: str, saying: str) -> Iterator[None]:
    """A name server in a namespace, which answers every question with the one address, over UDP and over TCP."""
    udp = inside(netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    tcp = inside(netns, lambda: socket.create_server((address, 53)))
    udp.bind((address, 53))

    def answer(asked: bytes) -> bytes:
        record = struct.pack(">HHHIH", 0xC00C, 1, 1, 60, 4) + IPv4Address(saying).packed
        return asked[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0) + asked[12:] + record

    def over_udp() -> None:
        while True:
            data, sender = udp.recvfrom(4096)
            if not data:
                return
            udp.sendto(answer(data), sender)

    def over_tcp() -> None:
        while True:
            connection, _ = tcp.accept()
            with connection, connection.makefile("rb") as stream:
                head = stream.read(2)
                if not head:
                    return
                said = answer(stream.read(struct.unpack(">H", head)[0]))
                connection.sendall(struct.pack(">H", len(said)) + said)

    threads = [threading.Thread(target=work) for work in (over_udp, over_tcp)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        inside(netns, lambda: _say_nothing(address))
        for thread in threads:
            thread.join()
        udp.close()
        tcp.close()


def _say_nothing(address: str) -> None:
    """An empty datagram and an empty connection: the server's threads end."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.sendto(b"", (address, 53))
    socket.create_connection((address, 53), 5).close()
