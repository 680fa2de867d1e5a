"""A layer's folder becomes a tar again, the same bytes every time.

Interface:
- `pack(folder, out)`: write the tar; returns its digest, the layer's diff id.
- `seal(snapshotter, key)`: the writable layer of a build step or container becomes a layer; returns its record.
- `member(node, first, out)`: one node of a folder.
- `header(entry)`: one member's header, with a PAX header before it where ustar cannot say it.

Rules: parents first, names sorted by bytes; whiteout devices and opaque directories back to `.wh.` files; hard links to
the first name; no user names, no access and change times, no sockets; extended attributes only of the kinds that belong
to a file's content (`security.capability`, `user.*`). Times keep their nanoseconds.

Sources: https://github.com/opencontainers/image-spec/blob/main/layer.md, POSIX pax
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from glassdock import trace
from glassdock.errors import GlassdockError, from_oserror
from glassdock.images import tar
from glassdock.images.compression import Sink
from glassdock.images.model import LayerRecord, chain_ids
from glassdock.images.tar import BLOCK, Entry
from glassdock.oci import digest as digests
from glassdock.unionfs import marks, ownership, trees
from glassdock.unionfs.overlay import Snapshotter
from glassdock.unionfs.trees import Node

_CHUNK = 1 << 20
_KINDS = {
    stat.S_IFREG: tar.FILE,
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFCHR: tar.CHARACTER,
    stat.S_IFBLK: tar.DEVICE,
    stat.S_IFDIR: tar.DIRECTORY,
    stat.S_IFIFO: tar.FIFO,
}


class Hashing:
    """Counts and hashes what goes through it, to `out` or to nowhere."""

    def __init__(self, out: Sink | None = None) -> None:
        self._out = out
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        """The digest of what went through so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def write(self, data: bytes) -> int:
        """Pass `data` on."""
        self._hash.update(data)
        self.size += len(data)
        if self._out is not None:
            self._out.write(data)
        return len(data)


@dataclass(frozen=True, slots=True)
class Packed:
    """A layer's tar: its digest, its length, and the size of the files in it, in bytes."""

    diff_id: str
    tar_size: int
    size: int


def pack(folder: Path, out: Sink | None = None) -> str:
    """Write the layer in `folder` as a tar to `out`; returns its digest. Raises GlassdockError."""
    return measure(folder, out).diff_id


def measure(folder: Path, out: Sink | None = None) -> Packed:
    """As `pack`, with the sizes; without `out` the tar is only hashed."""
    target = Hashing(out)
    first: dict[int, bytes] = {}
    size = 0
    with trace.span("images.pack", folder=str(folder)):
        try:
            if marks.is_opaque(os.fsencode(folder)):
                target.write(header(Entry(b".wh..wh..opq", tar.FILE, 0, 0, 0, 0, 0)))
            for node in trees.walk(folder):
                size += member(node, first, target)
        except OSError as error:
            raise from_oserror(error, "reading a layer") from error
        target.write(bytes(2 * BLOCK))
    return Packed(target.digest, target.size, size)


def seal(snapshotter: Snapshotter, key: str) -> LayerRecord:
    """Turn the writable layer `key`, mounted nowhere any more, into a layer of the snapshotter, without copying it."""
    packed = measure(snapshotter.finish(key))
    parent = snapshotter.base(key)
    chain = digests.of(f"{parent} {packed.diff_id}".encode()) if parent else packed.diff_id
    snapshotter.commit(key, chain)
    return LayerRecord(packed.diff_id, packed.size, None, packed.tar_size)


def member(node: Node, first: dict[int, bytes], out: Hashing) -> int:
    """Write one node; returns the bytes of content. `first` remembers names of hard links from member to member."""
    path = node.path
    status = ownership.seen_node(node.name, node.parent, node.status)
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return 0  # a socket: its process is gone
    if marks.is_whiteout(node.status, node.name, node.parent):
        above, _, name = path.rpartition(b"/")
        out.write(header(Entry(above + b"/.wh." + name if above else b".wh." + name, tar.FILE, 0, 0, 0, 0, 0)))
        return 0
    mode, mtime = stat.S_IMODE(status.st_mode), status.st_mtime_ns
    entry = Entry(path, kind, mode, status.st_uid, status.st_gid, 0, mtime)
    if kind == tar.DIRECTORY:
        entry.name += b"/"
    if kind == tar.SYMLINK:
        entry.link = os.readlink(node.name, dir_fd=node.parent)
    elif kind in (tar.CHARACTER, tar.DEVICE):
        entry.major, entry.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    elif kind == tar.FILE and status.st_nlink > 1 and first.setdefault(status.st_ino, path) != path:
        entry.kind, entry.link = tar.LINK, first[status.st_ino]
    if entry.kind not in (tar.FILE, tar.DIRECTORY):
        out.write(header(entry))
        return 0
    fd = node.open()
    try:
        entry.xattrs = _xattrs(fd)
        if entry.kind == tar.DIRECTORY:
            out.write(header(entry))
            if marks.is_opaque(fd):
                out.write(header(Entry(path + b"/.wh..wh..opq", tar.FILE, 0, 0, 0, 0, 0)))
            return 0
        entry.size = status.st_size
        out.write(header(entry))
        _content(fd, entry, out)
        return entry.size
    finally:
        os.close(fd)


def _content(fd: int, entry: Entry, out: Hashing) -> None:
    left = entry.size
    while left:
        data = os.read(fd, min(_CHUNK, left))
        if not data:
            raise GlassdockError(
                f"{entry.shown()} became shorter while it was read", "Pause the container, or try again."
            )
        out.write(data)
        left -= len(data)
    out.write(bytes(-entry.size % BLOCK))


def _xattrs(fd: int) -> dict[bytes, bytes]:
    return {
        os.fsencode(key): value
        for key, value in ownership.attributes(fd).items()
        if key == "security.capability" or key.startswith("user.")
    }


def header(entry: Entry) -> bytes:
    """The header blocks of a member, without its content."""
    pax: dict[bytes, bytes] = {}
    if len(entry.name) > 100 or not entry.name.isascii():
        pax[b"path"] = entry.name
    if len(entry.link) > 100 or not entry.link.isascii():
        pax[b"linkpath"] = entry.link
    seconds, fraction = divmod(entry.mtime_ns, 10**9)
    if fraction or not 0 <= seconds < 1 << 33:
        pax[b"mtime"] = _time(entry.mtime_ns)
    if entry.size >= 1 << 33:
        pax[b"size"] = b"%d" % entry.size
    if entry.uid >= 1 << 21:
        pax[b"uid"] = b"%d" % entry.uid
    if entry.gid >= 1 << 21:
        pax[b"gid"] = b"%d" % entry.gid
    pax |= {b"SCHILY.xattr." + key: value for key, value in entry.xattrs.items()}
    plain = _ustar(entry, seconds if 0 <= seconds < 1 << 33 else 0)
    if not pax:
        return plain
    records = b"".join(_record(key, pax[key]) for key in sorted(pax))
    above = _ustar(Entry(b"PaxHeaders.0/" + entry.name[-80:].strip(b"/"), b"x", 0o644, 0, 0, len(records), 0), 0)
    return above + records + bytes(-len(records) % BLOCK) + plain


def _ustar(entry: Entry, seconds: int) -> bytes:
    numbers = (
        b"%07o\0" % (entry.mode & 0o7777),
        b"%07o\0" % (entry.uid if entry.uid < 1 << 21 else 0),
        b"%07o\0" % (entry.gid if entry.gid < 1 << 21 else 0),
        b"%011o\0" % (entry.size if entry.size < 1 << 33 else 0),
        b"%011o\0" % seconds,
    )
    devices = b"%07o\0%07o\0" % (entry.major, entry.minor)
    parts = (
        entry.name[:100].ljust(100, b"\0"),
        *numbers,
        b" " * 8,
        entry.kind,
        entry.link[:100].ljust(100, b"\0"),
        b"ustar\00000",
        bytes(64),
        devices,
        bytes(167),
    )
    block = b"".join(parts)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _record(key: bytes, value: bytes) -> bytes:
    """A PAX record, whose length counts its own digits."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


def _time(nanoseconds: int) -> bytes:
    sign, value = (b"-", -nanoseconds) if nanoseconds < 0 else (b"", nanoseconds)
    whole, fraction = divmod(value, 10**9)
    digits = b"%09d" % fraction
    return sign + b"%d" % whole + (b"." + digits.rstrip(b"0") if fraction else b"")


__all__ = ["Hashing", "Packed", "chain_ids", "header", "measure", "member", "pack", "seal"]
