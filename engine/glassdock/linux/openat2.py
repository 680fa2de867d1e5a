"""Opening a path that somebody hostile may have written, without leaving a root.

Interface:
- `openat2(directory, path, flags, mode, resolve)`: openat2(2).
- `open_in_root(root, path, flags, mode)`: `path` as a process whose root is `root` would see it.
- `make_directories(root, path, mode)`: mkdir -p inside the root; returns a descriptor of the last one.

Rules: symlinks, `..` and absolute links stay inside `root`; /proc's magic links are refused; results are close-on-exec.

Source: openat2(2) (Linux 5.6).
"""

from __future__ import annotations

import ctypes
import errno
import os
from enum import IntFlag

from glassdock.linux import libc

_MOST_LINKS = 40


class Resolve(IntFlag):
    """How openat2(2) may walk the path."""

    NO_XDEV = 0x01
    NO_MAGICLINKS = 0x02
    NO_SYMLINKS = 0x04
    BENEATH = 0x08
    IN_ROOT = 0x10
    CACHED = 0x20


class _How(libc.Struct):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def openat2(directory: int, path: str, flags: int, mode: int = 0, resolve: Resolve = Resolve(0)) -> int:
    """openat2(2), always close-on-exec. `mode` must be 0 unless O_CREAT or O_TMPFILE is given."""
    how = _How(flags | os.O_CLOEXEC, mode, int(resolve))
    shown = (directory, path, oct(flags), oct(mode), resolve)
    arguments = (directory, libc.string(path), libc.address(how), libc.size(how))
    return libc.syscall("openat2", 437, *arguments, shown=shown, where=path)


def open_in_root(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` with `root` as its root: `..` above it and absolute symlinks end there.

    Tries again where a rename somewhere in the system made the kernel unsure (EAGAIN).
    """
    resolve = Resolve.IN_ROOT | Resolve.NO_MAGICLINKS
    for attempt in range(128):
        try:
            return openat2(root, path or ".", flags, mode, resolve)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EINTR) or attempt == 127:
                raise
    raise AssertionError("unreachable")


def make_directories(root: int, path: str, mode: int = 0o755) -> int:
    """Make every missing directory of `path` inside `root`; returns an O_PATH descriptor of the last.

    A symlink that leads to nothing is followed inside the root too, and what it names is made.
    """
    directory = open_in_root(root, ".", os.O_PATH | os.O_DIRECTORY)
    walked, names, links = "", path.split("/")[::-1], 0
    try:
        while names:
            name = names.pop()
            if name in ("", "."):
                continue
            # The path is walked again from the root each time: only the kernel may resolve `..` and links.
            try:
                following = open_in_root(root, f"{walked}/{name}", os.O_PATH | os.O_DIRECTORY)
            except FileNotFoundError:
                target = _make_or_read(directory, name, mode)
                links += target is not None
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
                names += (target or name).split("/")[::-1]
                if target and target.startswith("/"):
                    os.close(directory)
                    directory, walked = open_in_root(root, ".", os.O_PATH | os.O_DIRECTORY), ""
                continue
            os.close(directory)
            directory, walked = following, f"{walked}/{name}"
    except BaseException:
        os.close(directory)
        raise
    return directory


def _make_or_read(directory: int, name: str, mode: int) -> str | None:
    """Make the directory, or where a symlink to nothing is in its place, say where it leads."""
    try:
        os.mkdir(name, mode, dir_fd=directory)
    except FileExistsError:
        return os.readlink(name, dir_fd=directory)
    return None
