"""Mounting: the classic calls, and those that work on descriptors instead of paths.

Interface:
- `mount`, `umount2`, `pivot_root`: paths in, nothing out.
- `fsopen` → `fsconfig_string/flag/fd` → `fsconfig_create` → `fsmount`: make a mount that is attached nowhere yet.
- `open_tree`: an existing mount or a detached copy of it, as a descriptor; `mount_setattr` changes its attributes.
- `move_mount`: attach a descriptor's mount at a place that is itself given by a descriptor.

Rules: every descriptor is close-on-exec. A place inside a container is passed as a descriptor from `openat2`, never as
a path, so that a symlink put there meanwhile is not followed.

Sources: mount(2), umount2(2), pivot_root(2), fsopen(2), open_tree(2), move_mount(2), mount_setattr(2).
"""

from __future__ import annotations

import ctypes
from enum import IntEnum, IntFlag

from glassdock.linux import libc
from glassdock.linux.libc import AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE

_mount = libc.function("mount")
_umount2 = libc.function("umount2")
_pivot_root = libc.function("pivot_root")


class MountFlag(IntFlag):
    """The flags of mount(2)."""

    RDONLY = 1
    NOSUID = 2
    NODEV = 4
    NOEXEC = 8
    SYNCHRONOUS = 16
    REMOUNT = 32
    MANDLOCK = 64
    DIRSYNC = 128
    NOSYMFOLLOW = 256
    NOATIME = 1024
    NODIRATIME = 2048
    BIND = 4096
    MOVE = 8192
    REC = 16384
    SILENT = 32768
    UNBINDABLE = 1 << 17
    PRIVATE = 1 << 18
    SLAVE = 1 << 19
    SHARED = 1 << 20
    RELATIME = 1 << 21
    STRICTATIME = 1 << 24
    LAZYTIME = 1 << 25


class UmountFlag(IntFlag):
    """The flags of umount2(2)."""

    FORCE = 1
    DETACH = 2
    EXPIRE = 4
    NOFOLLOW = 8


class MountAttr(IntFlag):
    """The attributes of fsmount(2) and mount_setattr(2); ATIME is the mask of the three access-time modes."""

    RDONLY = 0x01
    NOSUID = 0x02
    NODEV = 0x04
    NOEXEC = 0x08
    NOATIME = 0x10
    STRICTATIME = 0x20
    ATIME = 0x70
    NODIRATIME = 0x80
    IDMAP = 0x00100000
    NOSYMFOLLOW = 0x00200000


class OpenTree(IntFlag):
    """The flags of open_tree(2)."""

    CLONE = 1
    CLOEXEC = 0o2000000
    EMPTY_PATH = AT_EMPTY_PATH
    RECURSIVE = AT_RECURSIVE
    SYMLINK_NOFOLLOW = 0x100


class MoveMount(IntFlag):
    """The flags of move_mount(2)."""

    F_SYMLINKS = 0x01
    F_EMPTY_PATH = 0x04
    T_SYMLINKS = 0x10
    T_EMPTY_PATH = 0x40


class FsConfig(IntEnum):
    """The commands of fsconfig(2)."""

    SET_FLAG = 0
    SET_STRING = 1
    SET_FD = 5
    CMD_CREATE = 6
    CMD_RECONFIGURE = 7


class _Attributes(libc.Struct):
    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """mount(2). Raises OSError whose file name is the target."""
    flags = MountFlag(flags)
    arguments = (libc.string(source), libc.string(target), libc.string(kind), libc.ulong(flags), libc.string(data))
    libc.invoke("mount", _mount, *arguments, shown=(source, target, kind, flags, data), where=target)


def umount2(target: str, flags: UmountFlag = UmountFlag(0)) -> None:
    """umount2(2)."""
    libc.invoke("umount2", _umount2, libc.string(target), int(flags), shown=(target, flags), where=target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2): `(".", ".")` stacks the old root over the new one, to be unmounted next."""
    libc.invoke("pivot_root", _pivot_root, libc.string(new_root), libc.string(put_old), shown=(new_root, put_old))


def open_tree(directory: int, path: str, flags: OpenTree) -> int:
    """open_tree(2): a descriptor of the mount at `path`, or with CLONE of a detached copy of it."""
    flags |= OpenTree.CLOEXEC
    shown = (directory, path, flags)
    return libc.syscall("open_tree", 428, directory, libc.string(path), int(flags), shown=shown, where=path)


def move_mount(source: int, target: int, *, source_path: str = "", target_path: str = "") -> None:
    """move_mount(2): attach the mount of `source` at `target`; an empty path means the descriptor itself."""
    flags = (MoveMount(0) if source_path else MoveMount.F_EMPTY_PATH) | (
        MoveMount(0) if target_path else MoveMount.T_EMPTY_PATH
    )
    arguments = (source, libc.string(source_path), target, libc.string(target_path), int(flags))
    shown = (source, source_path, target, target_path, flags)
    libc.syscall("move_mount", 429, *arguments, shown=shown, where=target_path)


def fsopen(kind: str) -> int:
    """fsopen(2): a descriptor in which a file system of that kind is configured."""
    return libc.syscall("fsopen", 430, libc.string(kind), 1, shown=(kind,), where=kind)


def fsconfig_string(context: int, key: str, value: str) -> None:
    """fsconfig(2), FSCONFIG_SET_STRING; at most 256 bytes of value."""
    arguments = (context, FsConfig.SET_STRING, libc.string(key), libc.string(value), 0)
    libc.syscall("fsconfig", 431, *arguments, shown=(context, FsConfig.SET_STRING, key, value), where=key)


def fsconfig_flag(context: int, key: str) -> None:
    """fsconfig(2), FSCONFIG_SET_FLAG."""
    arguments = (context, FsConfig.SET_FLAG, libc.string(key), libc.string(None), 0)
    libc.syscall("fsconfig", 431, *arguments, shown=(context, FsConfig.SET_FLAG, key), where=key)


def fsconfig_fd(context: int, key: str, descriptor: int) -> None:
    """fsconfig(2), FSCONFIG_SET_FD."""
    arguments = (context, FsConfig.SET_FD, libc.string(key), libc.string(None), descriptor)
    libc.syscall("fsconfig", 431, *arguments, shown=(context, FsConfig.SET_FD, key, descriptor), where=key)


def fsconfig_create(context: int) -> None:
    """fsconfig(2), FSCONFIG_CMD_CREATE: make the file system that was configured."""
    arguments = (context, FsConfig.CMD_CREATE, libc.string(None), libc.string(None), 0)
    libc.syscall("fsconfig", 431, *arguments, shown=(context, FsConfig.CMD_CREATE))


def fsmount(context: int, attributes: MountAttr = MountAttr(0)) -> int:
    """fsmount(2): a descriptor of a mount of the file system that is attached nowhere yet."""
    return libc.syscall("fsmount", 432, context, 1, int(attributes), shown=(context, 1, attributes))


def mount_setattr(
    directory: int,
    path: str = "",
    *,
    add: MountAttr = MountAttr(0),
    clear: MountAttr = MountAttr(0),
    propagation: MountFlag = MountFlag(0),
    userns: int = 0,
    recursive: bool = False,
) -> None:
    """mount_setattr(2) on `path` under `directory`; an empty path means the descriptor itself."""
    flags = (0 if path else AT_EMPTY_PATH) | (AT_RECURSIVE if recursive else 0)
    wanted = _Attributes(int(add), int(clear), int(propagation), userns)
    arguments = (directory, libc.string(path), flags, libc.address(wanted), libc.size(wanted))
    shown = (directory, path, flags, f"+{add!r} -{clear!r} {propagation!r}")
    libc.syscall("mount_setattr", 442, *arguments, shown=shown, where=path)


__all__ = [
    "AT_FDCWD",
    "FsConfig",
    "MountAttr",
    "MountFlag",
    "MoveMount",
    "OpenTree",
    "UmountFlag",
    "fsconfig_create",
    "fsconfig_fd",
    "fsconfig_flag",
    "fsconfig_string",
    "fsmount",
    "fsopen",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "pivot_root",
    "umount2",
]
