"""Talking to the kernel about interfaces: many messages in one send, every answer checked.

Interface:
- `Socket()`: a door to the network namespace of the calling thread; usable from any thread afterwards.
- `Socket.apply(steps)`: send the messages of a plan at once; the first refusal raises OSError that names its step.
- `Socket.links()`, `.link(name)`, `.addresses()`, `.routes()`: what is there now, as values.
- `Step`: anything with `describe()` (the `ip` command that does the same) and `message()` (its netlink message).

Rules: pyroute2 knows the attributes and packs them, and nobody outside network/ imports it. Its own sockets run an
event loop each and cost ten times a plain one (decision 0040), so the socket here is the standard library's.

Sources: rtnetlink(7), netlink(7), https://docs.kernel.org/userspace-api/netlink/intro.html
"""

from __future__ import annotations

import errno
import functools
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, ip_address
from types import SimpleNamespace, TracebackType
from typing import Any, Protocol, Self

_SOL_NETLINK = 270
_NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 10, 11
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_CREATE, _EXCLUSIVE, _REPLACE = 0x400, 0x200, 0x100
_ACK_TLVS = 0x200
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port: nlmsghdr

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_GETADDR = 20, 22
RTM_NEWROUTE, RTM_GETROUTE = 24, 26
IFF_UP = 1


class Step(Protocol):
    """One change to the network: one netlink message. A frozen value."""

    def __hash__(self) -> int:
        """Equal steps have the same message."""

    def describe(self) -> str:
        """The command of iproute2 that does the same."""

    def message(self) -> bytes:
        """The message for the kernel."""


@dataclass(frozen=True, slots=True)
class Link:
    """An interface as the kernel knows it; `master` and `index` are interface numbers, 0 for none."""

    index: int
    name: str
    master: int = 0
    kind: str = ""
    alias: str = ""
    mac: str = ""
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the main table; the default route's `network` is 0.0.0.0/0."""

    network: IPv4Network
    index: int


@functools.cache
def messages() -> SimpleNamespace:
    """pyroute2's message classes. Importing them takes 200 ms: not before they are needed."""
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

    return SimpleNamespace(link=ifinfmsg, address=ifaddrmsg, route=rtmsg)


def encode(kind: Any, number: int, fields: dict[str, Any], attributes: Sequence[tuple[str, Any]], flags: int) -> bytes:
    """Pack one message of pyroute2's class `kind`; `number` is its type, `flags` come on top of REQUEST."""
    made = kind()
    for name, value in fields.items():
        made[name] = value
    made["attrs"] = attributes
    made["header"].update(type=number, flags=_REQUEST | flags, sequence_number=0, pid=0)
    made.encode()
    return bytes(made.data)


def change_link(
    attributes: Sequence[tuple[str, Any]], *, create: bool = False, index: int = 0, up: bool = False
) -> bytes:
    """A message that makes or changes an interface, found by number or by the name among the attributes."""
    flags = _ACK | (_CREATE | _EXCLUSIVE if create else 0)
    fields = {"index": index, **({"flags": IFF_UP, "change": IFF_UP} if up else {})}
    return encode(messages().link, RTM_NEWLINK, fields, attributes, flags)


def delete_link(attributes: Sequence[tuple[str, Any]], *, index: int = 0) -> bytes:
    """A message that deletes an interface, or a whole group of them."""
    return encode(messages().link, RTM_DELLINK, {"index": index}, attributes, _ACK)


def new_address(fields: dict[str, Any], attributes: Sequence[tuple[str, Any]]) -> bytes:
    """A message that gives an interface an address."""
    return encode(messages().address, RTM_NEWADDR, fields, attributes, _ACK | _CREATE | _EXCLUSIVE)


def new_route(fields: dict[str, Any], attributes: Sequence[tuple[str, Any]], *, replace: bool = False) -> bytes:
    """A message that adds a route; `replace`: in the place of one to the same network."""
    flags = _ACK | _CREATE | (_REPLACE if replace else _EXCLUSIVE)
    return encode(messages().route, RTM_NEWROUTE, fields, attributes, flags)


class Socket:
    """A netlink socket of the namespace in which it was made."""

    def __init__(self, protocol: int = 0) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it; the namespace lives as long as something else holds it."""
        self._socket.close()

    def apply(self, steps: Sequence[Step]) -> None:
        """Send all steps in one message; raises the first refusal after every answer has been read."""
        refused = self.exchange([_encoded(step) for step in steps])
        for number, code, text in refused:
            why = f"{os.strerror(code)}{f' ({text})' if text else ''}"
            raise OSError(code, f"{steps[number].describe()}: {why}")

    def exchange(self, batch: Sequence[bytes]) -> list[tuple[int, int, str]]:
        """Send messages that want an acknowledgement; return (place, errno, the kernel's words) of each refusal."""
        if not batch:
            return []
        first = self._sequence + 1
        numbered = []
        for data in batch:
            self._sequence += 1
            numbered.append(data[:8] + struct.pack("=I", self._sequence) + data[12:])
        self._socket.send(b"".join(numbered))
        wanted = {number for number, data in enumerate(batch, first) if struct.unpack_from("=H", data, 6)[0] & _ACK}
        refused = []
        while wanted:
            for number, kind, flags, body in self._received():
                if kind != _ERROR or number < first:
                    continue
                wanted.discard(number)
                code = -struct.unpack_from("=i", body)[0]
                if code:
                    refused.append((number - first, code, _words(body) if flags & _ACK_TLVS else ""))
        return sorted(refused)

    def links(self, master: int = 0) -> list[Link]:
        """Every interface of the namespace, or those that are plugged into the bridge of that number."""
        wanted = [("IFLA_MASTER", master)] if master else []
        found = [_link(message) for message in self.dump(messages().link, RTM_GETLINK, wanted)]
        return [link for link in found if not master or link.master == master]

    def link(self, *, name: str = "", index: int = 0) -> Link | None:
        """One interface, None where it is not there; a machine full of containers has thousands."""
        wanted = [("IFLA_IFNAME", name)] if name else []
        try:
            (found,) = self._ask(encode(messages().link, RTM_GETLINK, {"index": index}, wanted, _ACK), messages().link)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            return None
        return _link(found)

    def addresses(self) -> list[tuple[int, IPv4Interface]]:
        """Every IPv4 address with the number of its interface."""
        return [
            (message["index"], IPv4Interface(f"{message.get_attr('IFA_LOCAL')}/{message['prefixlen']}"))
            for message in self.dump(messages().address, RTM_GETADDR, family=socket.AF_INET)
            if message["family"] == socket.AF_INET
        ]

    def routes(self) -> list[Route]:
        """Every IPv4 route of the main table."""
        return [
            Route(
                IPv4Network(f"{message.get_attr('RTA_DST') or '0.0.0.0'}/{message['dst_len']}"),
                message.get_attr("RTA_OIF") or 0,
            )
            for message in self.dump(messages().route, RTM_GETROUTE, family=socket.AF_INET)
            if message["family"] == socket.AF_INET and message["table"] == 254
        ]

    def dump(self, kind: Any, number: int, wanted: Sequence[tuple[str, Any]] = (), **fields: Any) -> list[Any]:
        """Everything of a kind, as pyroute2's messages; `wanted` are attributes by which the kernel chooses."""
        return self._ask(encode(kind, number, fields, wanted, _DUMP), kind)

    def _ask(self, data: bytes, kind: Any) -> list[Any]:
        """What the kernel answers until it says that this was all."""
        self._sequence += 1
        self._socket.send(data[:8] + struct.pack("=I", self._sequence) + data[12:])
        found: list[Any] = []
        while True:
            for sequence, answer, _, body in self._received():
                if sequence != self._sequence:
                    continue
                if answer == _DONE:
                    return found
                if answer == _ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    if not code:
                        return found
                    raise OSError(code, f"netlink: {os.strerror(code)}")
                header = _HEADER.pack(_HEADER.size + len(body), answer, 0, sequence, 0)
                message = kind(header + body)
                message.decode()
                found.append(message)

    def _received(self) -> Iterator[tuple[int, int, int, bytes]]:
        """The messages of one datagram: sequence number, type, flags, body."""
        data = self._socket.recv(1 << 16)
        if not data:
            raise OSError(errno.EPIPE, "netlink: the socket is closed")
        offset = 0
        while offset < len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
            yield sequence, kind, flags, data[offset + _HEADER.size : offset + length]
            offset += (length + 3) & ~3


def _link(message: Any) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        master=message.get_attr("IFLA_MASTER") or 0,
        kind=(info.get_attr("IFLA_INFO_KIND") if info else "") or "",
        alias=message.get_attr("IFLA_IFALIAS") or "",
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=message.get_attr("IFLA_MTU") or 0,
    )


def _words(body: bytes) -> str:
    """The text of an extended acknowledgement: attribute 1 after the error number and the header it answers."""
    offset = 4 + _HEADER.size
    while offset + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, offset)
        if kind & 0x3FFF == 1:
            return body[offset + 4 : offset + length].rstrip(b"\0").decode(errors="replace")
        offset += max(4, (length + 3) & ~3)
    return ""


@functools.lru_cache(maxsize=4096)
def _encoded(step: Step) -> bytes:
    """A step is a value, so its message is the same every time; packing one takes 0.1 ms, more than the kernel does."""
    return step.message()


def family_of(address: str) -> int:
    """AF_INET or AF_INET6."""
    return socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6
