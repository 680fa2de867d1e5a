"""A layer put together from files of this machine, the same bytes for the same files.

Interface:
- `Assembly()`: `folder`, `file`, `text`, `symlink`; `write(out)` the tar, `fingerprint()` what went in.

Rules: names are sorted, times are one fixed time, owners are root, extended attributes are left out. Two names for one
file are hard links. Programs come without their debugging sections. Parents are made where nobody names them.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from glassdock.errors import GlassdockError
from glassdock.images import tar
from glassdock.images.compression import Sink
from glassdock.images.elf import stripped
from glassdock.images.pack import header
from glassdock.images.tar import BLOCK, Entry

# 2026-01-01: what the course's images are dated, whenever and wherever they are put together.
EPOCH = 1767225600
CREATED = "2026-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class _Member:
    kind: bytes
    mode: int
    content: Path | bytes = b""
    link: str = ""


@dataclass(slots=True)
class Assembly:
    """Members by path, without a leading slash."""

    members: dict[str, _Member] = field(default_factory=dict)

    def folder(self, path: str, mode: int = 0o755) -> None:
        """A directory."""
        self._add(path, _Member(tar.DIRECTORY, mode))

    def file(self, path: str, source: Path, mode: int = 0o644) -> None:
        """A file of this machine, symlinks followed."""
        self._add(path, _Member(tar.FILE, mode, Path(os.path.realpath(source))))

    def text(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """A file with this content."""
        self._add(path, _Member(tar.FILE, mode, content.encode() if isinstance(content, str) else content))

    def symlink(self, path: str, target: str) -> None:
        """A symlink."""
        self._add(path, _Member(tar.SYMLINK, 0o777, link=target))

    def fingerprint(self) -> str:
        """A digest over all paths, modes and contents."""
        total = hashlib.sha256()
        for path, member in sorted(self.members.items()):
            content = hashlib.sha256(_bytes(member)).hexdigest()
            total.update(f"{path}\0{member.kind!r}\0{member.mode}\0{member.link}\0{content}\n".encode())
        return total.hexdigest()

    def write(self, out: Sink) -> int:
        """Write the tar; returns the bytes of all files."""
        first: dict[tuple[Path, int], bytes] = {}
        size = 0
        for path, member in sorted(self.members.items(), key=lambda pair: os.fsencode(pair[0])):
            name = os.fsencode(path) + (b"/" if member.kind == tar.DIRECTORY else b"")
            link = os.fsencode(member.link)
            entry = Entry(name, member.kind, member.mode, 0, 0, 0, EPOCH * 10**9, link)
            if isinstance(member.content, Path):
                earlier = first.setdefault((member.content, member.mode), name)
                if earlier != name:
                    entry.kind, entry.link = tar.LINK, earlier
            data = _bytes(member) if entry.kind == tar.FILE else b""
            entry.size = len(data)
            out.write(header(entry))
            out.write(data + bytes(-len(data) % BLOCK))
            size += len(data)
        out.write(bytes(2 * BLOCK))
        return size

    def _add(self, path: str, member: _Member) -> None:
        above = os.path.dirname(path)
        if above and above not in self.members:
            self.folder(above)
        self.members[path] = member


def _bytes(member: _Member) -> bytes:
    if isinstance(member.content, bytes):
        return member.content
    try:
        return stripped(member.content.read_bytes())
    except OSError as error:
        raise GlassdockError(f"a file for the course's images cannot be read: {error}") from error
