"""ADD of an archive: is it one, and what is in it.

Interface:
- `content(file)`: the chunks of the tar inside, whatever compressed it; None if the file is no tar archive.

Rules: decided by the content, never by the name; a compressed file without a tar in it is an ordinary file.
Source: https://docs.docker.com/reference/dockerfile/#adding-local-tar-archives
"""

from __future__ import annotations

import bz2
import itertools
import lzma
from collections.abc import Callable, Iterator
from typing import IO, Protocol

from glassdock.errors import Corrupt
from glassdock.images.compression import decompress


class Source(Protocol):
    """Where bytes come from."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, none at the end."""


_CHUNK = 1 << 18
_BLOCK = 512
_OTHERS: dict[bytes, tuple[Callable[[IO[bytes]], Source], type[Exception]]] = {
    b"BZh": (bz2.BZ2File, OSError),
    b"\xfd7zXZ\0": (lzma.LZMAFile, lzma.LZMAError),
}


def content(file: IO[bytes]) -> Iterator[bytes] | None:
    """The uncompressed tar in `file`, read from its beginning. Raises Corrupt while it is read."""
    file.seek(0)
    chunks = _uncompressed(file)
    head = b""
    try:
        while len(head) < _BLOCK and (chunk := next(chunks, b"")):
            head += chunk
    except Corrupt:
        return None
    if not _is_header(head[:_BLOCK]):
        return None
    return itertools.chain([head], chunks)


def _uncompressed(file: IO[bytes]) -> Iterator[bytes]:
    magic = file.read(6)
    file.seek(0)
    for start, (opened, failure) in _OTHERS.items():
        if magic.startswith(start):
            return _read(opened(file), failure)
    return decompress(_read(file, OSError))


def _read(file: Source, failure: type[Exception]) -> Iterator[bytes]:
    try:
        while chunk := file.read(_CHUNK):
            yield chunk
    except (failure, EOFError) as error:
        raise Corrupt(f"the archive cannot be read: {error}") from error


def _is_header(block: bytes) -> bool:
    """A tar header sums up its own bytes."""
    if len(block) < _BLOCK:
        return False
    text = block[148:156].strip(b"\0 ")
    try:
        stated = int(text, 8)
    except ValueError:
        return False
    return stated == sum(block[:148]) + 8 * ord(" ") + sum(block[156:])
