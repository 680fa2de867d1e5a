"""A folder as a root: names out of an archive are resolved inside it, as a process whose root it is would see them.

Interface:
- `Inside(folder)`: `parent(path)` gives the directory that holds the path's last component, `find(path)` the same
  without making anything, `forget()` after something was removed or replaced.
- `clean(name)`: a name's components, `.` and `..` resolved lexically (above the root is the root).
- `Place`: a descriptor of a directory, the path there from the root without any symlink, and a name in it.

Rules: every component is opened on its own, never followed; a symlink is read and walked from the root or from where it
lies, at most 40 of them, so the walk cannot leave the folder whatever the archive put there before. It needs no
openat2(2), and can make missing directories on the way. Nobody else may write in the folder meanwhile.

Source: path_resolution(7); containerd's `fs.RootPath` gives the same answers.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from glassdock.errors import Corrupt
from glassdock.images.tar import show
from glassdock.unionfs import marks

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS = 40
_PATH_MAX = 4096
_KEPT = 64
_IMPLIED = 0o755  # whatever the umask

Parts = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """`name` in the directory `fd`, whose path from the root is `above`. The descriptor is valid for a few calls."""

    fd: int
    above: Parts
    name: bytes

    @property
    def path(self) -> Parts:
        """The path from the root, without symlinks except perhaps the last component."""
        return (*self.above, self.name)

    def status(self) -> os.stat_result | None:
        """What is there, not followed; None where nothing is."""
        try:
            return os.stat(self.name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def is_whiteout(self, status: os.stat_result) -> bool:
        """True if what is there, with this status, marks a deleted name."""
        return marks.is_whiteout(status, self.name, self.fd)


def clean(name: bytes) -> Parts:
    """The components of a name from an archive; raises Corrupt for one longer than the kernel takes."""
    if len(name) > _PATH_MAX:
        raise Corrupt(f"the archive has a name of {len(name)} bytes; the kernel takes {_PATH_MAX}")
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if parts:
                parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return tuple(parts)


@dataclass(slots=True)
class Inside:
    """The root, the directories opened lately, and which were made although the archive has no entry for them."""

    folder: Path
    fd: int = field(init=False)
    implied: dict[Parts, None] = field(default_factory=dict)
    _open: OrderedDict[Parts, tuple[int, Parts]] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.fd = os.open(self.folder, _DIRECTORY)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.forget()
        os.close(self.fd)

    def parent(self, parts: Parts) -> Place:
        """Where the last of `parts` is or will be; missing directories are made. Raises Corrupt, OSError."""
        fd, above = self._directory(parts[:-1], make=True)
        return Place(fd, above, parts[-1])

    def find(self, parts: Parts) -> Place | None:
        """Where the last of `parts` is; None where a directory on the way is missing."""
        try:
            fd, above = self._directory(parts[:-1], make=False)
        except FileNotFoundError:
            return None
        return Place(fd, above, parts[-1])

    def forget(self) -> None:
        """A name was removed: what was resolved through it may lead elsewhere now."""
        for fd, _ in self._open.values():
            os.close(fd)
        self._open.clear()

    def _directory(self, parts: Parts, *, make: bool) -> tuple[int, Parts]:
        if not parts:
            return self.fd, ()
        if parts in self._open:
            self._open.move_to_end(parts)
            return self._open[parts]
        found = self._walk(parts, make=make)
        self._open[parts] = found
        if len(self._open) > _KEPT:
            os.close(self._open.popitem(last=False)[1][0])
        return found

    def _walk(self, parts: Parts, *, make: bool) -> tuple[int, Parts]:
        fd = os.dup(self.fd)
        above: list[bytes] = []
        coming = list(reversed(parts))
        links = 0
        try:
            while coming:
                name = coming.pop()
                if name in (b"", b"."):
                    continue
                if name == b"..":
                    if above:
                        above.pop()
                        fd = _swap(fd, b"..")
                    continue
                target = self._step(fd, name, (*above, name), make)
                if target is None:
                    fd = _swap(fd, name)
                    above.append(name)
                    continue
                links += 1
                _limit(links, parts)
                if target.startswith(b"/"):
                    os.close(fd)
                    fd = os.dup(self.fd)
                    above.clear()
                coming += reversed(target.split(b"/"))
            return fd, tuple(above)
        except BaseException:
            os.close(fd)
            raise

    def _step(self, fd: int, name: bytes, path: Parts, make: bool) -> bytes | None:
        """None where `name` is a directory (made if need be), a symlink's target where it is one."""
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            if not make:
                raise
            os.mkdir(name, dir_fd=fd)
            os.chmod(name, _IMPLIED, dir_fd=fd)
            self.implied[path] = None
            return None
        if stat.S_ISDIR(status.st_mode):
            return None
        if stat.S_ISLNK(status.st_mode):
            return os.readlink(name, dir_fd=fd)
        if make and marks.is_whiteout(status, name, fd):
            os.unlink(name, dir_fd=fd)
            os.mkdir(name, dir_fd=fd)
            os.chmod(name, _IMPLIED, dir_fd=fd)
            hide_below(fd, name)
            return None
        raise Corrupt(f"the archive puts something below {show(b'/'.join(path))}, which is not a directory")


def _limit(links: int, parts: Parts) -> None:
    if links > _LINKS:
        raise Corrupt(f"the archive has too many symlinks on the way to {show(b'/'.join(parts))}")


def hide_below(fd: int, name: bytes) -> None:
    """Make the directory `name` opaque: what lower layers have in it is not seen."""
    directory = os.open(name, _DIRECTORY, dir_fd=fd)
    try:
        marks.make_opaque(directory)
    finally:
        os.close(directory)


def _swap(fd: int, name: bytes) -> int:
    """The directory `name` of `fd` in its place; `fd` is closed. Raises OSError (and `fd` stays open)."""
    try:
        following = os.open(name, _DIRECTORY, dir_fd=fd)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise Corrupt(f"the folder was changed while {show(name)} was unpacked") from error
        raise
    os.close(fd)
    return following
