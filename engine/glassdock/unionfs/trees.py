"""Walking and removing folders that somebody hostile may have filled.

Interface:
- `walk(folder)`: every node below it, parents first, names sorted, nothing followed.
- `remove(name, dir_fd)`: the node and all below it; a missing one is no error.
- `usage(folder)`: the bytes in its files, each inode once.
- `Follower(top)`: the directories of another tree, in the order in which one is walked.

Rules: one open descriptor whatever the depth, and no path longer than a name, so that neither a thousand nested
folders nor names beyond PATH_MAX stop us. A folder that is moved meanwhile (by a running container) raises OSError
ESTALE instead of leading us out of the tree.

Source: openat(2), unlinkat(2)
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Node:
    """`path` from the folder that is walked; `name` inside `parent`, a descriptor valid until the next node."""

    path: bytes
    name: bytes
    parent: int
    status: os.stat_result

    def open(self, flags: int = os.O_RDONLY) -> int:
        """A descriptor of the node itself, never of what a symlink points to."""
        return os.open(self.name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.parent)


class _Cursor:
    """The directory we are in, and how to get back up."""

    def __init__(self, folder: bytes, dir_fd: int | None = None) -> None:
        self.fd = os.open(folder, _DIRECTORY, dir_fd=dir_fd)
        self._above: list[tuple[int, int]] = []

    def down(self, name: bytes) -> None:
        status = os.fstat(self.fd)
        following = os.open(name, _DIRECTORY, dir_fd=self.fd)
        self._above.append((status.st_dev, status.st_ino))
        os.close(self.fd)
        self.fd = following

    def up(self) -> None:
        following = os.open(b"..", _DIRECTORY, dir_fd=self.fd)
        os.close(self.fd)
        self.fd = following
        status = os.fstat(following)
        if (status.st_dev, status.st_ino) != self._above.pop():
            raise OSError(errno.ESTALE, "a folder was moved while it was read")

    def close(self) -> None:
        os.close(self.fd)


class Follower:
    """A second tree, followed while the first is walked; directories that are missing are made, or with `make` not."""

    def __init__(self, top: Path, *, make: bool = True) -> None:
        self._cursor = _Cursor(os.fsencode(top))
        self._make = make
        self._at: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cursor.close()

    def directory(self, path: bytes) -> int:
        """A descriptor of the directory, valid until the next call; -1 where there is none. Raises OSError."""
        wanted = path.split(b"/") if path else []
        same = 0
        while same < min(len(wanted), len(self._at)) and wanted[same] == self._at[same]:
            same += 1
        while len(self._at) > same:
            self._cursor.up()
            self._at.pop()
        for name in wanted[same:]:
            try:
                self._cursor.down(name)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    raise
                if not self._make:
                    return -1
                os.mkdir(name, 0o755, dir_fd=self._cursor.fd)
                self._cursor.down(name)
            self._at.append(name)
        return self._cursor.fd


def walk(folder: Path | bytes) -> Iterator[Node]:
    """Yield what is below `folder`; a name that vanishes meanwhile is left out. Raises OSError."""
    cursor = _Cursor(os.fsencode(folder))
    names = [_names(cursor.fd)]
    prefix: list[bytes] = []
    try:
        while names:
            if not names[-1]:
                names.pop()
                if names:
                    cursor.up()
                    prefix.pop()
                continue
            name = names[-1].pop()
            try:
                status = os.stat(name, dir_fd=cursor.fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield Node(b"/".join([*prefix, name]), name, cursor.fd, status)
            if stat.S_ISDIR(status.st_mode):
                try:
                    cursor.down(name)
                except FileNotFoundError:
                    continue
                prefix.append(name)
                names.append(_names(cursor.fd))
    finally:
        cursor.close()


def remove(name: Path | bytes, *, dir_fd: int | None = None) -> None:
    """Remove a file or a whole folder; it must be nobody's working place any more. Raises OSError."""
    top = os.fsencode(name)
    try:
        status = os.stat(top, dir_fd=dir_fd, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(top, dir_fd=dir_fd)
            return
    except FileNotFoundError:
        return
    cursor = _Cursor(top, dir_fd)
    entered: list[bytes] = []
    folders = [_clear(cursor.fd)]
    try:
        while True:
            if folders[-1]:
                entered.append(folders[-1].pop())
                cursor.down(entered[-1])
                folders.append(_clear(cursor.fd))
                continue
            folders.pop()
            if not folders:
                break
            cursor.up()
            os.rmdir(entered.pop(), dir_fd=cursor.fd)
    finally:
        cursor.close()
    os.rmdir(top, dir_fd=dir_fd)


def usage(folder: Path) -> int:
    """The size of the files below `folder` in bytes, hard links once: Docker's SizeRw."""
    total = 0
    seen: set[int] = set()
    for node in walk(folder):
        if not stat.S_ISREG(node.status.st_mode):
            continue
        if node.status.st_nlink > 1:
            if node.status.st_ino in seen:
                continue
            seen.add(node.status.st_ino)
        total += node.status.st_size
    return total


def _names(fd: int) -> list[bytes]:
    """The names in a directory, last first, to be taken from the end."""
    return sorted((os.fsencode(name) for name in os.listdir(fd)), reverse=True)


def _clear(fd: int) -> list[bytes]:
    """Unlink what is no directory; returns the names of those that are."""
    folders = []
    with os.scandir(fd) as entries:
        found = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if is_folder:
            folders.append(name)
        else:
            os.unlink(name, dir_fd=fd)
    return folders
