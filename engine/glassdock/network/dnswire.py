"""DNS messages, as much of them as a name server needs that knows names and asks others for the rest.

Interface:
- `question(data)`: what a query asks; raises ValueError where it is none.
- `found(asked, records)`: the answer with A, AAAA or PTR records; none means that the name has no such record.
- `failed(asked, code)`: the answer that there is none; `shortened(data)`: come again over TCP.

Rules: only the header and the question are read; what is passed on to other servers passes as it is. A label is ASCII
and compared in lower case; a question has one name and no compression, as all resolvers send it.
Source: https://www.rfc-editor.org/rfc/rfc1035#section-4
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

A, PTR, AAAA, ANY = 1, 12, 28, 255
SERVFAIL, NXDOMAIN = 2, 3
MOST_OVER_UDP = 512
_IN = 1
_HEADER = struct.Struct(">HHHHHH")  # id, flags, questions, answers, authorities, additional
_QR, _TC, _RD, _RA = 0x8000, 0x0200, 0x0100, 0x0080
_OPCODE = 0x7800
_SECONDS = 600  # how long an answer may be kept: Docker's
_SAME_NAME = 0xC000 | _HEADER.size  # a pointer to the question's name

Record = IPv4Address | IPv6Address | str


@dataclass(frozen=True, slots=True)
class Question:
    """`name` in lower case without its last dot; `text` are the question's bytes."""

    id: int
    flags: int
    name: str
    kind: int
    text: bytes


def question(data: bytes) -> Question:
    """The one question of a query; raises ValueError."""
    try:
        identity, flags, questions, *_ = _HEADER.unpack_from(data)
        if flags & (_QR | _OPCODE) or questions != 1:
            raise ValueError("not a query with one question")
        labels, place = [], _HEADER.size
        while length := data[place]:
            if length > 63:
                raise ValueError("a compressed name in a question")
            labels.append(data[place + 1 : place + 1 + length].decode("ascii").lower())
            place += 1 + length
        kind, group = struct.unpack_from(">HH", data, place + 1)
    except (struct.error, IndexError) as error:
        raise ValueError("a query that ends too early") from error
    if group != _IN:
        raise ValueError("not of the internet's class")
    return Question(identity, flags, ".".join(labels), kind, data[_HEADER.size : place + 5])


def found(asked: Question, records: Sequence[Record]) -> bytes:
    """The records for the name that was asked for."""
    return _message(asked, 0, b"".join(map(_record, records)), len(records))


def failed(asked: Question, code: int) -> bytes:
    """No answer, and why."""
    return _message(asked, code, b"", 0)


def shortened(data: bytes) -> bytes:
    """Header and question alone, with the mark that there is more."""
    asked = _HEADER.unpack_from(data)
    end = data.index(b"\0", _HEADER.size) + 5
    return _HEADER.pack(asked[0], asked[1] | _TC, 1, 0, 0, 0) + data[_HEADER.size : end]


def _message(asked: Question, code: int, records: bytes, count: int) -> bytes:
    flags = _QR | asked.flags & _RD | _RA | code
    return _HEADER.pack(asked.id, flags, 1, count, 0, 0) + asked.text + records


def _record(value: Record) -> bytes:
    if isinstance(value, str):
        labels = value.encode("ascii").split(b".")
        kind, data = PTR, b"".join(bytes((len(label),)) + label for label in labels if label) + b"\0"
    else:
        kind, data = (A if value.version == 4 else AAAA), value.packed
    return struct.pack(">HHHIH", _SAME_NAME, kind, _IN, _SECONDS, len(data)) + data
