"""A layer's tar becomes a folder in overlay's form, and nothing outside that folder is touched, whatever the tar says.

Interface:
- `unpack(chunks, folder)`: decompress, hash and write in one pass; returns `Unpacked` with the diff id.
- `check(unpacked, diff_id)`: is it what the image's config names?
- `scan(chunks)`: the same reading without writing, where nothing can be unpacked (not root).
- `unpack_blob(...)`: all of it for a blob that is here already.

Rules, which are Docker's:
- A name is resolved inside the folder (`inside.py`): absolute names, `..` and symlinks end at its root.
- An entry replaces what an earlier one put there, except a directory a directory.
- `.wh.NAME` becomes a whiteout device, `.wh..wh..opq` an opaque directory; both hide what is in lower layers only.
- Refused, with a sentence: a whiteout of `.` or `..`, names reserved for whiteouts, something below a file, a link
  without a target, a device 0:0 (it would be a whiteout), numbers that nothing can hold, too many entries.
- Extended attributes that belong to overlayfs itself are dropped: they would be orders to the kernel.

Source: https://github.com/opencontainers/image-spec/blob/main/layer.md
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from glassdock import trace
from glassdock.errors import Corrupt, GlassdockError, NotSupported, StorageFull, from_oserror
from glassdock.images import below, tar
from glassdock.images.compression import CHUNK, decompress
from glassdock.images.inside import Inside, Parts, Place, clean, hide_below
from glassdock.images.tar import Entry, Reader, show
from glassdock.unionfs import marks, ownership, trees
from glassdock.unionfs.overlay import Snapshotter

_WHITEOUT = b".wh."
_META = b".wh..wh."
_OPAQUE = b".wh..wh..opq"
_NODES = {tar.CHARACTER: stat.S_IFCHR, tar.DEVICE: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}
_IDS = (1 << 32) - 1
_OVERHEAD = 1 << 30  # of headers and padding, beside the files
_TIMES = 1 << 34  # ext4's last second


@dataclass(frozen=True, slots=True)
class Limits:
    """What one layer may hold. `size` is in bytes; None means what is free where it is unpacked."""

    entries: int = 2_000_000
    size: int | None = None
    reserve: int = 64 << 20


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What a layer's tar held: its digest and length uncompressed, and the size of the files in bytes.

    `implied` are directories that the tar has no entry for, `links` hard links (name, target) to files that it does
    not hold: both are for `below.settle`.
    """

    diff_id: str
    tar_size: int
    size: int
    entries: int
    implied: tuple[Parts, ...] = ()
    links: tuple[tuple[Parts, Parts], ...] = ()


def unpack(chunks: Iterable[bytes], folder: Path, limits: Limits | None = None) -> Unpacked:
    """Fill the empty `folder`. Raises Corrupt, StorageFull, NotSupported; what was written by then stays."""
    if os.geteuid() != 0:
        raise NotSupported(
            "a layer's owners, devices and whiteouts can only be unpacked by root",
            "`glassdock doctor` says what keeps this user from a root of its own; images can be had and looked at.",
        )
    with trace.span("images.unpack") as span, Inside(folder) as inside:
        unpacker = _Unpacker(inside, limits or Limits(), folder)
        found = unpacker.run(Reader(decompress(chunks), unpacker.room + _OVERHEAD))
        if span is not None:
            span.attributes |= {"entries": found.entries, "bytes": found.tar_size, "diff_id": found.diff_id}
    return found


def scan(chunks: Iterable[bytes]) -> Unpacked:
    """Read a layer without writing it. Raises Corrupt."""
    reader = Reader(decompress(chunks))
    size = entries = 0
    for entry in reader:
        entries += 1
        size += entry.size
    return Unpacked(reader.digest, reader.size, size, entries)


def unpack_blob(snapshotter: Snapshotter, blob: Path, diff_id: str, chain_id: str, parent: str | None) -> Unpacked:
    """The layer of a blob that is here, on top of `parent`. Raises Corrupt where its diff id is another one."""
    with snapshotter.unpacking(chain_id, parent) as folder, blob.open("rb") as file:
        found = unpack(iter(lambda: file.read(CHUNK), b""), folder)
        check(found, diff_id)
        below.settle(
            folder,
            found.implied,
            found.links,
            [snapshotter.layer_path(chain) for chain in snapshotter.chain(parent)] if parent else [],
        )
    return found


def check(found: Unpacked, diff_id: str) -> None:
    """Raise Corrupt unless the tar is the one that the image's config names."""
    if found.diff_id != diff_id:
        raise Corrupt(f"the layer's content is {found.diff_id}, the image's config says {diff_id}")


class _Unpacker:
    """One layer on its way into its folder."""

    def __init__(self, inside: Inside, limits: Limits, folder: Path) -> None:
        self._inside = inside
        self._limits = limits
        self.room = limits.size if limits.size is not None else _free(folder) - limits.reserve
        self._times: dict[Parts, tuple[int, int]] = {}
        self._links: list[tuple[Parts, Parts]] = []

    def run(self, reader: Reader) -> Unpacked:
        size = entries = 0
        for entry in reader:
            entries += 1
            if entries > self._limits.entries:
                raise Corrupt(f"the layer has more than {self._limits.entries} entries")
            size += entry.size
            if size > self.room:
                raise StorageFull(
                    f"{entry.shown()} brings the layer to {size} bytes, and there is room for {max(self.room, 0)}",
                    "Free some space: `glassdock system prune`.",
                )
            try:
                self._entry(entry, reader)
            except OSError as error:
                raise _explain(error, entry) from error
        self._finish()
        return Unpacked(reader.digest, reader.size, size, entries, tuple(self._inside.implied), tuple(self._links))

    def _entry(self, entry: Entry, reader: Reader) -> None:
        parts = clean(entry.name)
        if not parts:
            if entry.kind != tar.DIRECTORY:
                raise Corrupt(f"the layer replaces its root: {entry.shown()} is no directory")
            _attributes(self._inside.fd, entry)
            return
        if parts[0].startswith(_META) and parts[0] != _OPAQUE:
            return  # AUFS's own files: Docker skips them
        if any(part.startswith(_WHITEOUT) for part in parts[:-1]):
            raise Corrupt(f"{entry.shown()} has a name that is reserved for whiteouts")
        place = self._inside.parent(parts)
        if parts[-1].startswith(_WHITEOUT):
            self._whiteout(place, entry)
        elif entry.kind == tar.DIRECTORY:
            self._directory(place, entry)
        else:
            self._other(place, entry, reader)

    def _whiteout(self, place: Place, entry: Entry) -> None:
        if place.name == _OPAQUE:
            marks.make_opaque(place.fd)
            return
        if place.name.startswith(_META):
            return
        hidden = Place(place.fd, place.above, place.name[len(_WHITEOUT) :])
        if hidden.name in (b"", b".", b".."):
            raise Corrupt(f"{entry.shown()} is a whiteout of {show(hidden.name)}")
        status = hidden.status()
        if status is None:
            marks.make_whiteout(hidden.name, place.fd)
        elif stat.S_ISDIR(status.st_mode):
            hide_below(place.fd, hidden.name)  # this layer's directory stays, the lower layers' goes

    def _directory(self, place: Place, entry: Entry) -> None:
        status = place.status()
        hides = status is not None and place.is_whiteout(status)
        if status is None or not stat.S_ISDIR(status.st_mode):
            place = self._replace(place, status)
            os.mkdir(place.name, 0o700, dir_fd=place.fd)
        if hides:
            hide_below(place.fd, place.name)
        fd = os.open(place.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.fd)
        try:
            _attributes(fd, entry)
            self._times[place.path] = (_bounded(entry.mtime_ns), os.fstat(fd).st_ino)
        finally:
            os.close(fd)
        self._inside.implied.pop(place.path, None)

    def _other(self, place: Place, entry: Entry, reader: Reader) -> None:
        status = place.status()
        if entry.kind == tar.LINK:
            self._link(place, entry, status)
            return
        place = self._replace(place, status)
        if entry.kind == tar.FILE:
            self._file(place, entry, reader)
            return
        if entry.kind == tar.SYMLINK:
            if not entry.link:
                raise Corrupt(f"the symlink {entry.shown()} has no target")
            os.symlink(entry.link, place.name, dir_fd=place.fd)
        else:
            device = os.makedev(entry.major, entry.minor)
            if entry.kind == tar.CHARACTER and device == 0:
                raise Corrupt(f"{entry.shown()} is a device 0:0, which overlayfs takes for a whiteout")
            ownership.make_device(place.name, _NODES[entry.kind] | 0o600, device, place.fd)
        _node_attributes(place, entry)

    def _file(self, place: Place, entry: Entry, reader: Reader) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(place.name, flags, 0o600, dir_fd=place.fd)
        try:
            for offset, part in reader.data():
                _write(fd, part, offset)
            if entry.holes is not None:
                os.ftruncate(fd, entry.size)
            _attributes(fd, entry)
        finally:
            os.close(fd)

    def _link(self, place: Place, entry: Entry, status: os.stat_result | None) -> None:
        target = clean(entry.link)
        if not target:
            raise Corrupt(f"the hard link {entry.shown()} has no target")
        found = self._inside.find(target)
        there = found.status() if found else None
        if there is not None and (stat.S_ISDIR(there.st_mode) or (found and found.is_whiteout(there))):
            raise Corrupt(f"the hard link {entry.shown()} leads to {show(entry.link)}, which is no file")
        if there is not None and status is not None and status.st_ino == there.st_ino:
            return
        path = found.path if found else target
        place = self._replace(place, status)
        # What was replaced may have held the target, or the symlink on the way to it.
        found = self._inside.find(path)
        if found is None or (now := found.status()) is None:
            self._links.append((place.path, path))
        elif stat.S_ISDIR(now.st_mode):
            raise Corrupt(f"the hard link {entry.shown()} leads to {show(entry.link)}, which is no file")
        else:
            os.link(found.name, place.name, src_dir_fd=found.fd, dst_dir_fd=place.fd, follow_symlinks=False)

    def _replace(self, place: Place, status: os.stat_result | None) -> Place:
        """Make room; returns the same place, which a removal has closed and opened again."""
        if status is None:
            return place
        if stat.S_ISDIR(status.st_mode):
            trees.remove(place.name, dir_fd=place.fd)
        else:
            os.unlink(place.name, dir_fd=place.fd)
            if not stat.S_ISLNK(status.st_mode):
                return place
        self._inside.forget()
        return self._inside.parent(place.path)

    def _finish(self) -> None:
        """Directories' times last: every name made in one had changed them."""
        for path, (mtime, inode) in sorted(self._times.items(), reverse=True):
            place = self._inside.find(path)
            status = place.status() if place is not None and place.path == path else None
            if place is not None and status is not None and status.st_ino == inode:
                os.utime(place.name, ns=(mtime, mtime), dir_fd=place.fd, follow_symlinks=False)


def _attributes(fd: int, entry: Entry) -> None:
    """Owner first: it clears the set-id bits and capabilities that come after."""
    _chown(entry, lambda: ownership.give(fd, entry.uid, entry.gid))
    for key, value in _kept_xattrs(entry):
        _set_xattr(fd, key, value, entry)
    os.fchmod(fd, entry.mode)
    mtime = _bounded(entry.mtime_ns)
    os.utime(fd, ns=(mtime, mtime))


def _node_attributes(place: Place, entry: Entry) -> None:
    """The same for what must not be opened: a symlink, a device, a fifo."""
    mtime = _bounded(entry.mtime_ns)
    os.utime(place.name, ns=(mtime, mtime), dir_fd=place.fd, follow_symlinks=False)
    _chown(entry, lambda: ownership.give_node(place.name, place.fd, entry.uid, entry.gid))
    for key, value in _kept_xattrs(entry):
        path = b"/proc/self/fd/%d/%s" % (place.fd, place.name)
        _set_xattr(path, key, value, entry)
    if entry.kind != tar.SYMLINK:
        os.chmod(place.name, entry.mode, dir_fd=place.fd)  # made just now, nobody else is here: it is no symlink


def _chown(entry: Entry, call: Callable[[], None]) -> None:
    if entry.uid >= _IDS or entry.gid >= _IDS:
        raise Corrupt(f"{entry.shown()} belongs to {entry.uid}:{entry.gid}, which is no user")
    call()


def _kept_xattrs(entry: Entry) -> Iterator[tuple[bytes, bytes]]:
    return ((key, value) for key, value in entry.xattrs.items() if not marks.is_private(os.fsdecode(key)))


def _set_xattr(where: int | bytes, key: bytes, value: bytes, entry: Entry) -> None:
    try:
        # Where this file system has none, or not for such a file, Docker goes on, too.
        ownership.set_attribute(where, os.fsdecode(key), value)
    except OSError as error:
        raise Corrupt(f"{entry.shown()}: the attribute {show(key)} cannot be set: {error.strerror}") from error


def _write(fd: int, part: memoryview, offset: int) -> None:
    while part:
        written = os.pwrite(fd, part, offset)
        part, offset = part[written:], offset + written


def _bounded(mtime_ns: int) -> int:
    return max(-(1 << 31) * 10**9, min(mtime_ns, _TIMES * 10**9))


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _explain(error: OSError, entry: Entry) -> GlassdockError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return from_oserror(error, "unpacking a layer")
    return Corrupt(f"the layer's entry {entry.shown()} cannot be made: {error.strerror}")
