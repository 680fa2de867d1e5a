"""Owners, devices and attributes that cannot be made here are remembered beside the file, and come back on reading.

In a user namespace only some ids have a name, with a single id only one. An image has files of many users all the same,
and a layer that is built here must name them as a layer built by root would.

Interface:
- `give(fd, uid, gid)`, `give_node(name, dir_fd, uid, gid)`: chown, or remember.
- `make_device(name, mode, rdev, dir_fd)`: mknod, or an empty file that stands for the device.
- `set_attribute(where, key, value)`: setxattr, or remember; False where neither can be.
- `seen(fd, status)`, `seen_node(name, dir_fd, status)`: the status as it should be. `attributes(fd)`: the same.

Rules: what can be made is made; nothing is remembered of it. The notes are `user.` attributes of the file, so they move
with it through copies, overlayfs and renames:

    user.rootlesscontainers       owner, in the form of umoci and PRoot (a protobuf message of two numbers)
    user.glassdock.device         `c 1 3`: the file stands for a device
    user.glassdock.kept.KEY       the value of the attribute KEY that the kernel refused
    user.glassdock.nodes          of a directory: owners of symlinks and fifos in it, which have no `user.` attributes

A node in the last table is found by a digest of its name, target and time, so that one which a container puts in its
place later is not taken for it. Where a file system has no such attributes, nothing is remembered.

Sources: xattr(7), https://github.com/rootless-containers/proto (the first form)
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import struct

from glassdock.linux import ids
from glassdock.unionfs import marks

_OWNER = "user.rootlesscontainers"
_OWN = "user.glassdock."
_DEVICE = _OWN + "device"
_NODES = _OWN + "nodes"
_KEPT = _OWN + "kept."
_NOTE = re.compile(rb"([bc]) (\d{1,4}) (\d{1,7})")
_ROW = struct.Struct("<6sII")
_NOT_HERE = (errno.ENODATA, errno.ENOTSUP, errno.EPERM, errno.EACCES)
_ABSENT = 0xFFFFFFFF  # the message's word for "as it is"


def give(fd: int, uid: int, gid: int) -> None:
    """The open file belongs to `uid` and `gid` from now on. Raises OSError."""
    here = ids.mapping()
    if here.kind == "initial":
        os.chown(fd, uid, gid)
        return
    os.chown(fd, uid if here.has_uid(uid) else 0, gid if here.has_gid(gid) else 0)
    if here.has_uid(uid) and here.has_gid(gid):
        _forget(fd, _OWNER)
    else:
        _remember(fd, _OWNER, _message(uid, gid))


def give_node(name: bytes | str, dir_fd: int, uid: int, gid: int) -> None:
    """The same for a symlink, fifo or device, once its time is set; it is not followed. Raises OSError."""
    here = ids.mapping()
    mapped = here.has_uid(uid), here.has_gid(gid)
    owner = uid if mapped[0] else 0, gid if mapped[1] else 0
    os.chown(name, *owner, dir_fd=dir_fd, follow_symlinks=False)
    if all(mapped):
        return
    status = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    if stat.S_ISREG(status.st_mode):  # it stands for a device
        _remember(_path(name, dir_fd), _OWNER, _message(uid, gid))
        return
    row = _ROW.pack(_mark(os.fsencode(name), dir_fd, status), uid, gid)
    table = b"".join(old for old in _rows(dir_fd) if old[:6] != row[:6])
    _remember(dir_fd, _NODES, table + row)


def make_device(name: bytes | str, mode: int, rdev: int, dir_fd: int) -> None:
    """A node of `mode` (kind and permissions); where the kernel refuses a device, a file that stands for it."""
    try:
        os.mknod(name, mode, rdev, dir_fd=dir_fd)
        return
    except PermissionError:
        if not stat.S_ISCHR(mode) and not stat.S_ISBLK(mode):
            raise
    kind = b"c" if stat.S_ISCHR(mode) else b"b"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, stat.S_IMODE(mode), dir_fd=dir_fd)
    try:
        _remember(fd, _DEVICE, b"%s %d %d" % (kind, os.major(rdev), os.minor(rdev)))
    finally:
        os.close(fd)


def set_attribute(where: int | bytes, key: str, value: bytes) -> bool:
    """Set the attribute of a file, or remember it; False where neither can be. Raises OSError for a wrong value."""
    if not ids.initial() and (key == _OWNER or key.startswith(_OWN)):
        return False  # it would be taken for our own note
    follow = isinstance(where, int)
    try:
        os.setxattr(where, key, value, follow_symlinks=follow)
        return True
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM):
            raise
    if ids.initial() or not key.startswith("security."):
        return False
    return _remember(where, _KEPT + key, value)


def seen(fd: int | bytes, status: os.stat_result) -> os.stat_result:
    """The status of a regular file or a directory, with what is remembered in the place of what was made."""
    if ids.initial():
        return status
    owner = _read(fd, _OWNER)
    device = _NOTE.fullmatch(_read(fd, _DEVICE))
    if not owner and not device:
        return status
    uid, gid = _owner(owner, status)
    if device is None:
        return _with(status, status.st_mode, uid, gid, status.st_rdev)
    kind = stat.S_IFCHR if device[1] == b"c" else stat.S_IFBLK
    rdev = os.makedev(int(device[2]), int(device[3]))
    return _with(status, stat.S_IMODE(status.st_mode) | kind, uid, gid, rdev)


def seen_node(name: bytes | str, dir_fd: int, status: os.stat_result) -> os.stat_result:
    """The same for any node, by its directory; nothing is followed."""
    if ids.initial():
        return status
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        return seen(_path(name, dir_fd), status)
    rows = _rows(dir_fd)
    if not rows:
        return status
    mark = _mark(os.fsencode(name), dir_fd, status)
    found = next((row for row in rows if row[:6] == mark), None)
    if found is None:
        return status
    _, uid, gid = _ROW.unpack(found)
    return _with(status, status.st_mode, uid, gid, status.st_rdev)


def attributes(fd: int | bytes) -> dict[str, bytes]:
    """The extended attributes of a file as they should be, in the order of their names: neither notes nor marks."""
    found = {}
    noted = not ids.initial()
    path, follow = _named(fd)
    for key in os.listxattr(path, follow_symlinks=follow):
        own = key == _OWNER or (key.startswith(_OWN) and not key.startswith(_KEPT))
        if marks.is_private(key) or (noted and own):
            continue
        found[key.removeprefix(_KEPT)] = os.getxattr(path, key, follow_symlinks=follow)
    return dict(sorted(found.items()))


def _with(status: os.stat_result, mode: int, uid: int, gid: int, rdev: int) -> os.stat_result:
    plain = (mode, status.st_ino, status.st_dev, status.st_nlink, uid, gid, status.st_size)
    times = (int(status.st_atime), int(status.st_mtime), int(status.st_ctime))
    more = {name: getattr(status, name) for name in ("st_atime_ns", "st_mtime_ns", "st_ctime_ns", "st_blocks")}
    return os.stat_result((*plain, *times), more | {"st_rdev": rdev, "st_blksize": status.st_blksize})


def _path(name: bytes | str, dir_fd: int) -> bytes:
    return b"/proc/self/fd/%d/%s" % (dir_fd, os.fsencode(name))


def _mark(name: bytes, dir_fd: int, status: os.stat_result) -> bytes:
    target = os.readlink(name, dir_fd=dir_fd) if stat.S_ISLNK(status.st_mode) else b""
    said = b"%s\0%s\0%d" % (name, target, status.st_mtime_ns)
    return hashlib.sha256(said).digest()[:6]


def _named(where: int | bytes) -> tuple[bytes, bool]:
    """A path, and whether to follow it; a descriptor may be one that only names a file (O_PATH)."""
    return (b"/proc/self/fd/%d" % where, True) if isinstance(where, int) else (where, False)


def _rows(dir_fd: int) -> list[bytes]:
    table = _read(dir_fd, _NODES)
    return [table[at : at + _ROW.size] for at in range(0, len(table), _ROW.size)]


def _read(where: int | bytes, key: str) -> bytes:
    path, follow = _named(where)
    try:
        return os.getxattr(path, key, follow_symlinks=follow)
    except OSError as error:
        if error.errno in _NOT_HERE:
            return b""
        raise


def _remember(where: int | bytes, key: str, value: bytes) -> bool:
    """False where this file system has no place for it: the file is then what the kernel made of it."""
    path, follow = _named(where)
    try:
        os.setxattr(path, key, value, follow_symlinks=follow)
    except OSError as error:
        # Of a directory's table ext4 takes 290 rows. The files themselves matter more than a symlink's owner.
        if error.errno in (errno.ENOTSUP, errno.E2BIG, errno.ERANGE) or (error.errno == errno.ENOSPC and key == _NODES):
            return False
        raise
    return True


def _forget(where: int | bytes, key: str) -> None:
    path, follow = _named(where)
    try:
        os.removexattr(path, key, follow_symlinks=follow)
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise


def _message(uid: int, gid: int) -> bytes:
    """`message Resource { uint32 uid = 1; uint32 gid = 2; }`; a number that is zero is left out."""
    return b"".join(bytes([tag]) + _varint(number) for tag, number in ((0x08, uid), (0x10, gid)) if number)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _owner(message: bytes, status: os.stat_result) -> tuple[int, int]:
    """The ids of a note; a note that cannot be read (a container may write it) counts as none."""
    if not message:
        return status.st_uid, status.st_gid
    numbers = {0x08: 0, 0x10: 0}
    at = 0
    while at < len(message):
        tag, value, shift = message[at], 0, 0
        at += 1
        while at < len(message) and shift < 35:
            value |= (message[at] & 0x7F) << shift
            shift += 7
            at += 1
            if not message[at - 1] & 0x80:
                break
        if tag not in numbers or not shift or message[at - 1] & 0x80 or value > _ABSENT:
            return status.st_uid, status.st_gid
        numbers[tag] = value
    uid, gid = numbers[0x08], numbers[0x10]
    return status.st_uid if uid == _ABSENT else uid, status.st_gid if gid == _ABSENT else gid
