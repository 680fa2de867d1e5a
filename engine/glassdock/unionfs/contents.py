"""One file's content and facts, copied or compared.

Interface:
- `copy(source, made)`: the content of an open file, holes kept.
- `copy_node(node, directory)`: a file, link, device or fifo with all its facts; a socket is left out.
- `dress(source, status, made)`: owner, attributes, mode and times of a file or directory.
- `equal(node, directory)`: whether two nodes of the same kind, name and facts have the same content.

Rules: what the kernel can share or copy by itself, it does. Notes (`ownership.py`) are copied as they are, overlayfs's
marks never.

Source: copy_file_range(2), lseek(2)
"""

from __future__ import annotations

import errno
import os
import stat

from glassdock.unionfs import marks
from glassdock.unionfs.trees import Node

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CANNOT_CLONE = (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
_CHUNK = 1 << 20


def copy(source: int, made: int) -> None:
    """Copy the content of an open file into an empty one. Raises OSError."""
    status = os.fstat(source)
    if status.st_blocks * 512 >= status.st_size:
        _stretch(source, made, status.st_size)
        return
    at = 0
    while at < status.st_size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # nothing but a hole is left
        end = os.lseek(source, at, os.SEEK_HOLE)
        os.lseek(source, at, os.SEEK_SET)
        os.lseek(made, at, os.SEEK_SET)
        _stretch(source, made, end - at)
        at = end
    os.ftruncate(made, status.st_size)


def _stretch(source: int, made: int, count: int) -> None:
    try:
        while count > 0 and (done := os.copy_file_range(source, made, count)):
            count -= done
    except OSError as error:
        if error.errno not in _CANNOT_CLONE:
            raise
        while count > 0 and (done := os.sendfile(made, source, None, count)):
            count -= done


def copy_node(node: Node, directory: int) -> None:
    """Make the node again under the same name in another directory, where nothing is. Raises OSError."""
    status = node.status
    if stat.S_ISREG(status.st_mode):
        source = node.open()
        try:
            made = os.open(node.name, _NEW, 0o600, dir_fd=directory)
            try:
                copy(source, made)
                dress(source, status, made)
            finally:
                os.close(made)
        finally:
            os.close(source)
        return
    if stat.S_ISSOCK(status.st_mode):
        return
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(node.name, dir_fd=node.parent), node.name, dir_fd=directory)
    else:
        os.mknod(node.name, status.st_mode, status.st_rdev, dir_fd=directory)
    os.chown(node.name, status.st_uid, status.st_gid, dir_fd=directory, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(node.name, stat.S_IMODE(status.st_mode), dir_fd=directory)
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(node.name, ns=times, dir_fd=directory, follow_symlinks=False)


def dress(source: int, status: os.stat_result, made: int) -> None:
    """Give `made` the facts of `source`; owner first, which takes set-id bits and capabilities away."""
    os.chown(made, status.st_uid, status.st_gid)
    wanted = {key for key in os.listxattr(source) if not marks.is_private(key)}
    for key in set(os.listxattr(made)) - wanted:
        if not marks.is_private(key) and not key.startswith("security."):
            os.removexattr(made, key)
    for key in wanted:
        _set(made, key, os.getxattr(source, key))
    os.chmod(made, stat.S_IMODE(status.st_mode))
    os.utime(made, ns=(status.st_atime_ns, status.st_mtime_ns))


def _set(made: int, key: str, value: bytes) -> None:
    try:
        os.setxattr(made, key, value)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP) or key.startswith("user."):
            raise


def equal(node: Node, directory: int) -> bool:
    """Whether the node has the content and attributes of the one of that name in the directory."""
    if stat.S_ISLNK(node.status.st_mode):
        return os.readlink(node.name, dir_fd=node.parent) == os.readlink(node.name, dir_fd=directory)
    if not stat.S_ISREG(node.status.st_mode) and not stat.S_ISDIR(node.status.st_mode):
        return True
    one = node.open()
    try:
        two = os.open(node.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            return _attributes(one) == _attributes(two) and (stat.S_ISDIR(node.status.st_mode) or _same(one, two))
        finally:
            os.close(two)
    finally:
        os.close(one)


def _attributes(fd: int) -> dict[str, bytes]:
    return {key: os.getxattr(fd, key) for key in os.listxattr(fd) if not marks.is_private(key)}


def _same(one: int, two: int) -> bool:
    while data := os.read(one, _CHUNK):
        other = os.read(two, len(data))
        while other and len(other) < len(data):
            more = os.read(two, len(data) - len(other))
            other += more
            if not more:
                break
        if data != other:
            return False
    return not os.read(two, 1)
