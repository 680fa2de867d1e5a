"""The marks by which a layer's folder says what it hides: whiteouts and opaque directories, as overlayfs reads them.

Interface:
- `make_whiteout(name, dir_fd)`, `is_whiteout(status, name, dir_fd)`: a deleted name.
- `make_opaque(fd)`, `is_opaque(directory)`: a directory through which nothing below shows.
- `is_private(key)`: an extended attribute that is overlayfs's own, and no file's.
- `namespace()`: where overlayfs keeps its attributes here, `trusted` or `user`.

Rules: a whiteout is a character device 0:0. Where that cannot be made (overlayfs refuses it inside itself, and a pod's
files are on one) it is an empty file with the attribute `overlay.whiteout`, in a directory that is marked `x`: the
kernel's second form. Only root of the machine may write `trusted.` attributes; in a user namespace overlayfs is mounted
with `userxattr` and reads `user.` ones. Writers use what is right here, readers know all of them.

Source: https://docs.kernel.org/filesystems/overlayfs.html#whiteouts-and-opaque-directories
"""

from __future__ import annotations

import errno
import os
import stat

from glassdock.linux import ids

_PREFIXES = ("trusted.overlay.", "user.overlay.")
_OPAQUE = tuple(prefix + "opaque" for prefix in _PREFIXES)
_WHITEOUT = tuple(prefix + "whiteout" for prefix in _PREFIXES)


def namespace() -> str:
    """`trusted` for root of the machine, `user` in a user namespace."""
    return "trusted" if ids.initial() else "user"


def is_private(key: str) -> bool:
    """True for an attribute that would be an order to overlayfs."""
    return key.startswith(_PREFIXES)


def make_whiteout(name: bytes, dir_fd: int) -> None:
    """Mark `name`, which is not there, as deleted in the directory. Raises OSError."""
    try:
        os.mknod(name, stat.S_IFCHR, 0, dir_fd=dir_fd)
        return
    except PermissionError:
        pass
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=dir_fd)
    try:
        os.setxattr(fd, f"{namespace()}.overlay.whiteout", b"y")
    finally:
        os.close(fd)
    if not is_opaque(dir_fd):
        os.setxattr(dir_fd, f"{namespace()}.overlay.opaque", b"x")


def is_whiteout(status: os.stat_result, name: bytes, dir_fd: int | None = None) -> bool:
    """True if what `status` was read from, `name` in the directory (or a path), is the mark of a deleted name."""
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == 0
    if not stat.S_ISREG(status.st_mode) or status.st_size:
        return False
    fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        return any(_attribute(fd, key) == b"y" for key in _WHITEOUT)
    finally:
        os.close(fd)


def make_opaque(fd: int) -> None:
    """Let nothing that is below show through the directory. Raises OSError."""
    os.setxattr(fd, f"{namespace()}.overlay.opaque", b"y")


def is_opaque(directory: bytes | int) -> bool:
    """True if nothing below this directory shows through it."""
    return any(_attribute(directory, key) == b"y" for key in _OPAQUE)


def _attribute(where: bytes | int, key: str) -> bytes:
    """The attribute; nothing where there is none, or none that this process may see."""
    try:
        return os.getxattr(where, key, follow_symlinks=isinstance(where, int))
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.EPERM, errno.EACCES):
            return b""
        raise
