"""The tar format, read as a stream that nobody trusts.

Interface:
- `Reader(chunks, limit)`: iterate for `Entry` values; between two of them `data()` gives the content with its offsets.
- `Reader.digest`, `.size`: of everything read, to the last byte, once the iteration has ended.
- `Entry`: names and links are bytes, as they were written.

Rules: ustar, GNU (long names, base-256 numbers, sparse) and PAX (paths, sizes, ids, sub-second times, xattrs, sparse).
A header that cannot be read raises Corrupt; nothing is guessed. Headers of headers are at most 1 MiB. Types other than
files, links, devices, fifos and directories are refused, and a global PAX header is ignored, both as Docker does.

Sources: https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html (POSIX) and
https://www.gnu.org/software/tar/manual/html_node/Standard.html (GNU)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from glassdock.errors import Corrupt

BLOCK = 512
FILE, LINK, SYMLINK, CHARACTER, DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"

_ZEROS = bytes(BLOCK)
_SPECIAL_LIMIT = 1 << 20
_SPARSE_LIMIT = 1 << 16
_FILES = {b"\0": FILE, b"0": FILE, b"7": FILE, b"S": FILE}
_KINDS = {LINK, SYMLINK, CHARACTER, DEVICE, DIRECTORY, FIFO}
_XATTR = b"SCHILY.xattr."


@dataclass(slots=True)
class Entry:
    """One member: `kind` is the type flag, `mtime_ns` nanoseconds since 1970, `size` that of the file made of it."""

    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    holes: list[tuple[int, int]] | None = None

    def shown(self) -> str:
        """The name, fit for a message."""
        return show(self.name)


def show(name: bytes) -> str:
    """Any name, fit for a message."""
    text = repr(name.decode("utf-8", "backslashreplace"))
    return text if len(text) <= 200 else f"{text[:200]}…"


class Reader:
    """A tar archive as it comes."""

    def __init__(self, chunks: Iterable[bytes], limit: int | None = None) -> None:
        self._chunks = iter(chunks)
        self._limit = limit
        self._hash = hashlib.sha256()
        self._buffer = b""
        self._at = 0
        self._left = 0  # bytes of the current member's content that are still to come
        self._padding = 0
        self._entry: Entry | None = None
        self.size = 0

    @property
    def digest(self) -> str:
        """The digest of what was read so far; of the whole stream once the iteration has ended."""
        return f"sha256:{self._hash.hexdigest()}"

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self._next()) is not None:
            self._entry = entry
            yield entry
        while self._fill():
            self._at = len(self._buffer)

    def data(self) -> Iterator[tuple[int, memoryview]]:
        """The current file's content as (offset, bytes); what lies between is zero."""
        entry = self._entry
        if entry is None or entry.kind != FILE:
            return
        if entry.holes is None:
            offset = 0
            while self._left:
                part = self._take(self._left)
                yield offset, part
                offset += len(part)
            return
        for offset, length in entry.holes:
            done = 0
            while done < length:
                part = self._take(min(length - done, self._left))
                yield offset + done, part
                done += len(part)

    # Headers

    def _next(self) -> Entry | None:
        long: dict[bytes, bytes] = {}
        pax: dict[bytes, bytes] = {}
        while True:
            self._skip()
            header = self._read(BLOCK, at_end=True)
            if not header or header == _ZEROS:
                self._end(header, bool(long or pax))
                return None
            _check(header)
            kind = header[156:157]
            if kind in (b"L", b"K"):
                long[kind] = self._special(header).split(b"\0")[0]
            elif kind == b"x":
                pax = _records(self._special(header))
            elif kind == b"g":
                self._special(header)
            else:
                return self._member(header, long, pax)

    def _end(self, header: bytes, pending: bool) -> None:
        """After a block of zeros nothing but another may follow, and then what nobody reads."""
        if pending:
            raise Corrupt("the archive ends after a header that belongs to a next one")
        if header and (following := self._read(BLOCK, at_end=True)) and following != _ZEROS:
            raise Corrupt("the archive has a block of zeros between its members")

    def _special(self, header: bytes) -> bytes:
        size = _number(header[124:136])
        if size > _SPECIAL_LIMIT:
            raise Corrupt(f"the archive has a header of {size} bytes; more than {_SPECIAL_LIMIT} is refused")
        data = self._read(size)
        self._padding = -size % BLOCK
        return data

    def _member(self, header: bytes, long: dict[bytes, bytes], pax: dict[bytes, bytes]) -> Entry:
        kind = header[156:157]
        name = long.get(b"L", pax.get(b"path", _name(header)))
        kind = DIRECTORY if kind == b"\0" and name.endswith(b"/") else _FILES.get(kind, kind)
        if kind not in _KINDS and kind != FILE:
            raise Corrupt(f"the archive's member {show(name)} has the unknown type {header[156:157]!r}")
        size = _decimal(pax[b"size"]) if b"size" in pax else _number(header[124:136])
        entry = Entry(
            name=name,
            kind=kind,
            mode=_number(header[100:108]) & 0o7777,
            uid=_decimal(pax[b"uid"]) if b"uid" in pax else _number(header[108:116]),
            gid=_decimal(pax[b"gid"]) if b"gid" in pax else _number(header[116:124]),
            size=size if kind == FILE else 0,
            mtime_ns=_nanoseconds(pax[b"mtime"]) if b"mtime" in pax else _signed(header[136:148]) * 10**9,
            link=long.get(b"K", pax.get(b"linkpath", header[157:257].split(b"\0")[0])),
            major=_number(header[329:337]) if kind in (CHARACTER, DEVICE) else 0,
            minor=_number(header[337:345]) if kind in (CHARACTER, DEVICE) else 0,
            xattrs={key[len(_XATTR) :]: value for key, value in pax.items() if key.startswith(_XATTR)},
        )
        if size < 0 or entry.uid < 0 or entry.gid < 0:
            raise Corrupt(f"the archive's member {entry.shown()} has a negative number")
        if b"\0" in entry.name or b"\0" in entry.link:
            raise Corrupt(f"the archive's member {entry.shown()} has a zero byte in a name")
        # Go's reader, and so Docker, takes no content for what is no file, whatever its header says.
        self._left = entry.size
        self._padding = -entry.size % BLOCK
        if kind == FILE:
            self._sparse(entry, header, pax)
        return entry

    def _sparse(self, entry: Entry, header: bytes, pax: dict[bytes, bytes]) -> None:
        """The four ways in which GNU tar writes a file with holes."""
        real = 0
        numbers: list[int] = []
        if header[156:157] == b"S":
            numbers, more = _pairs(header[386:482]), header[482]
            real = _number(header[483:495])
            while more:
                block = self._read(BLOCK)
                numbers += _pairs(block[:504])
                more = block[504]
                if len(numbers) > _SPARSE_LIMIT:
                    raise Corrupt(f"{entry.shown()} has too many holes")
        elif pax.get(b"GNU.sparse.major") == b"1":
            real = _decimal(pax.get(b"GNU.sparse.realsize", b""))
            numbers = self._sparse_map(entry)
        elif b"GNU.sparse.map" in pax:
            real = _decimal(pax.get(b"GNU.sparse.size", b""))
            numbers = [_decimal(number) for number in pax[b"GNU.sparse.map"].split(b",")]
        else:
            return
        entry.name = pax.get(b"GNU.sparse.name", entry.name)
        entry.size = real
        entry.holes = list(zip(numbers[::2], numbers[1::2], strict=False))
        at = 0
        for offset, length in entry.holes:
            if offset < at or length < 0 or offset + length > real:
                raise Corrupt(f"{entry.shown()} has holes that do not fit")
            at = offset + length
        if sum(length for _, length in entry.holes) != self._left or b"\0" in entry.name:
            raise Corrupt(f"{entry.shown()} has holes that do not fit its content")

    def _sparse_map(self, entry: Entry) -> list[int]:
        """PAX 1.0: decimal numbers, a line each, in whole blocks before the content."""
        text = b""
        wanted = None
        while wanted is None or text.count(b"\n") < wanted + 1:
            if self._left < BLOCK or len(text) > _SPECIAL_LIMIT:
                raise Corrupt(f"{entry.shown()} has a damaged map of holes")
            text += self._read(BLOCK)
            self._left -= BLOCK
            if wanted is None and b"\n" in text:
                wanted = 2 * _decimal(text.split(b"\n")[0])
        return [_decimal(line) for line in text.split(b"\n")[1 : wanted + 1]]

    # Bytes

    def _skip(self) -> None:
        """Go to the next header."""
        count = self._left + self._padding
        self._left = self._padding = 0
        while count:
            if self._at == len(self._buffer) and not self._fill():
                raise Corrupt("the archive ends in the middle of a member")
            step = min(count, len(self._buffer) - self._at)
            self._at += step
            count -= step

    def _take(self, count: int) -> memoryview:
        """Between one and `count` bytes of the current member's content."""
        if self._at == len(self._buffer) and not self._fill():
            raise Corrupt("the archive ends in the middle of a member")
        part = memoryview(self._buffer)[self._at : self._at + count]
        self._at += len(part)
        self._left -= len(part)
        return part

    def _read(self, count: int, *, at_end: bool = False) -> bytes:
        """Exactly `count` bytes; nothing at the end of the stream where that is allowed."""
        end = self._at + count
        if end <= len(self._buffer):
            part = self._buffer[self._at : end]
            self._at = end
            return part
        parts = [self._buffer[self._at :]]
        missing = count - len(parts[0])
        self._at = len(self._buffer)
        while missing and self._fill():
            parts.append(self._buffer[:missing])
            self._at = len(parts[-1])
            missing -= self._at
        if missing and not (at_end and missing == count):
            raise Corrupt("the archive ends in the middle of a member")
        return b"".join(parts)

    def _fill(self) -> bool:
        chunk = next(self._chunks, b"")
        if not chunk:
            return False
        self._hash.update(chunk)
        self.size += len(chunk)
        if self._limit is not None and self.size > self._limit:
            raise Corrupt(
                f"the archive is longer than {self._limit} bytes: headers without files, or nothing at its end"
            )
        self._buffer, self._at = chunk, 0
        return True


def _check(header: bytes) -> None:
    """The checksum is the sum of the bytes with its own field as spaces; old writers summed signed bytes."""
    expected = _number(header[148:156])
    total = sum(header) - sum(header[148:156]) + 256
    if expected != total and expected != total - 256 * sum(byte > 127 for byte in header[:148] + header[156:]):
        raise Corrupt("the archive has a header with a wrong checksum")


def _name(header: bytes) -> bytes:
    name = header[:100].split(b"\0")[0]
    prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _number(field: bytes) -> int:
    value = _signed(field)
    if value < 0:
        raise Corrupt("the archive has a header with a negative number")
    return value


def _signed(field: bytes) -> int:
    """Octal text, or base 256 where the first bit is set (negative where the second is, too)."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big") - (
            1 << (8 * len(field) - 1) if field[0] & 0x40 else 0
        )
    text = field.split(b"\0")[0].strip()
    if not text:
        return 0
    if text.strip(b"01234567"):
        raise Corrupt(f"the archive has a header with the number {text!r}")
    return int(text, 8)


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise Corrupt(f"the archive has a PAX header with the number {text[:40]!r}")
    return int(text)


def _nanoseconds(text: bytes) -> int:
    whole, _, fraction = text.partition(b".")
    digits = whole.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > 20 or (fraction and not fraction.isdigit()):
        raise Corrupt(f"the archive has a PAX header with the time {text[:40]!r}")
    value = int(digits) * 10**9 + int(fraction[:9].ljust(9, b"0") or b"0")
    return -value if whole.startswith(b"-") else value


def _pairs(table: bytes) -> list[int]:
    """The used rows of an old GNU sparse map: offset and length, twelve bytes each."""
    fields = [table[start : start + 12] for start in range(0, len(table) - 11, 12)]
    return [
        _number(field)
        for pair in zip(fields[::2], fields[1::2], strict=False)
        if pair[1].strip(b"\0")
        for field in pair
    ]


def _records(data: bytes) -> dict[bytes, bytes]:
    """PAX records: `length SP key=value LF`, the length in decimal and counting itself; a later key wins."""
    found: dict[bytes, bytes] = {}
    sparse: list[bytes] = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 21)
        length = _decimal(data[at:space]) if space > at else 0
        key, equals, value = data[space + 1 : at + length - 1].partition(b"=")
        if (
            space < 0
            or length < 5
            or at + length > len(data)
            or data[at + length - 1 : at + length] != b"\n"
            or not equals
        ):
            raise Corrupt("the archive has a damaged PAX header")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            sparse.append(value)  # PAX 0.0 repeats these two
        found[key] = value
        at += length
    if sparse:
        found[b"GNU.sparse.map"] = b",".join(sparse)
    return found
