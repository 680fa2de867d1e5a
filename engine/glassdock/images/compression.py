"""How layers travel: gzip, zstd or plain, told apart by their first bytes.

Interface:
- `decompress(chunks)`: the uncompressed chunks, at most 1 MiB each whatever goes in.
- `Gzip(out)`: a file-like writer that compresses, the same bytes for the same input.

Rules: what a stream claims to be (its media type) is not asked: registries and tools get it wrong. Several gzip members
and zstd frames in a row are one stream. A stream that ends early raises Corrupt.

Sources: RFC 1952, RFC 8878
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Protocol, cast

import zstandard

from glassdock.errors import Corrupt

CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_KNOWN = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"PK\3\4": "zip"}
_GZIP_WITH_HEADER = 31
# What did not fit into one chunk of output is copied each time; small steps keep that cheap.
_GZIP_STEP = 1 << 16
# A zstd frame may ask for gigabytes of window; 128 MiB is the limit of zstd's own command line.
_WINDOW_LIMIT = 1 << 27


class Sink(Protocol):
    """Where bytes can be written."""

    def write(self, data: bytes, /) -> object:
        """Take all of `data`."""


def decompress(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The content of a stream; raises Corrupt."""
    coming = iter(chunks)
    head = b""
    while len(head) < 6 and (chunk := next(coming, b"")):
        head += chunk
    whole = itertools.chain([head], coming)
    if head.startswith(_GZIP):
        return _gunzip(whole)
    if head.startswith(_ZSTD) or (head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F):
        return _unzstd(whole)
    for magic, name in _KNOWN.items():
        if head.startswith(magic):
            raise Corrupt(f"the layer is compressed with {name}", "Glassdock reads gzip, zstd and plain tar.")
    return _split(whole)


def _split(chunks: Iterable[bytes], size: int = CHUNK) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), size):
            yield chunk[start : start + size]


def _gunzip(chunks: Iterable[bytes]) -> Iterator[bytes]:
    inflate = zlib.decompressobj(_GZIP_WITH_HEADER)
    begun = False
    for data in _split(chunks, _GZIP_STEP):
        while True:
            if not begun and not data.strip(b"\0"):
                break  # nothing left, or padding after the last member
            begun = True
            try:
                out = inflate.decompress(data, CHUNK)
            except zlib.error as error:
                raise Corrupt(f"the layer's gzip stream is damaged: {error}") from error
            if out:
                yield out
            data = inflate.unconsumed_tail
            if inflate.eof:
                data = inflate.unused_data
                inflate, begun = zlib.decompressobj(_GZIP_WITH_HEADER), False
            elif not data and len(out) < CHUNK:
                break
    if begun:
        raise Corrupt("the layer's gzip stream ends early")


class _Reader:
    """Chunks as a file."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._left = b""

    def read(self, count: int = -1) -> bytes:
        data = self._left or next(self._chunks, b"")
        while not data and (data := next(self._chunks, b"")):
            pass
        if 0 <= count < len(data):
            data, self._left = data[:count], data[count:]
        else:
            self._left = b""
        return data


def _unzstd(chunks: Iterable[bytes]) -> Iterator[bytes]:
    context = zstandard.ZstdDecompressor(max_window_size=_WINDOW_LIMIT)
    with context.stream_reader(cast("IO[bytes]", _Reader(chunks)), read_across_frames=True) as stream:
        try:
            while out := stream.read(CHUNK):
                yield out
        except zstandard.ZstdError as error:
            raise Corrupt(f"the layer's zstd stream is damaged: {error}") from error


class Gzip:
    """Compresses into `out`; no name and no time in the header, so that equal input gives equal bytes."""

    def __init__(self, out: Sink, level: int = 5) -> None:
        self._out = out
        self._deflate = zlib.compressobj(level, zlib.DEFLATED, _GZIP_WITH_HEADER)

    def write(self, data: bytes) -> int:
        """Compress `data`."""
        if out := self._deflate.compress(data):
            self._out.write(out)
        return len(data)

    def close(self) -> None:
        """Write what is held back; `out` stays open."""
        self._out.write(self._deflate.flush())
