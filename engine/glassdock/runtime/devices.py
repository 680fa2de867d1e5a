"""Device nodes: those that every container has, those that are asked for, and FIFOs.

Interface:
- steps: `DeviceNode`, `Fifo`, `DeviceLinks`.
- `open_node(source)`: what a `DeviceNode` needs from outside, as a detached mount.

Rules: a device node is a read-only bind mount of the machine's, so that chmod in here does not change the machine's; a
node that is made in the root itself opens nothing, because all that can be written is nodev. One that is to have an
owner or a mode of its own, or that this machine has no node for, is made in a file system of its own.

Source: https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#devices
"""

from __future__ import annotations

import errno
import functools
import os
import stat

from glassdock.errors import StartFailed
from glassdock.linux import mount as linux
from glassdock.linux.mount import AT_FDCWD, MountAttr, MountFlag, OpenTree
from glassdock.linux.openat2 import make_directories, open_in_root
from glassdock.runtime import filesystems
from glassdock.runtime.rootfs import attach, place
from glassdock.runtime.stage import Stage, Step, attempt, reason


class DeviceNode(Step, frozen=True, tag="device"):
    """A device of the machine's. `mode`, `uid` and `gid` are -1 where it is to look as it does outside."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int = -1
    uid: int = -1
    gid: int = -1

    def places(self) -> tuple[str, ...]:
        return (self.path,)

    def describe(self) -> str:
        looks = f", mode {self.mode:o}" if self.mode >= 0 else ""
        return f"device {self.path} ({self.kind} {self.major}:{self.minor}{looks})"

    def sources(self) -> tuple[str, ...]:
        looks = (self.mode, self.uid, self.gid)
        told = "".join(f":{value}" for value in looks) if looks != (-1, -1, -1) else ""
        return (f"{'block' if self.kind == 'b' else 'char'}:{self.major}:{self.minor}{told}",)

    def apply(self, stage: Stage) -> None:
        tree = stage.take(self.sources()[0])
        with attempt(f"creating device node {self.path}"):
            try:
                linux.mount_setattr(
                    tree,
                    add=MountAttr.RDONLY | MountAttr.NOSUID | MountAttr.NOEXEC,
                    clear=MountAttr.NODEV,
                    propagation=MountFlag.PRIVATE,
                )
                target = place(stage, self.path, directory=False)
                self._check(os.fstat(target), os.fstat(tree))
                attach(tree, target)
            finally:
                os.close(tree)

    def _check(self, found: os.stat_result, wanted: os.stat_result) -> None:
        """What is there is an empty file, ours of an earlier start perhaps, or the device itself."""
        if stat.S_ISREG(found.st_mode) and found.st_size == 0:
            return
        if stat.S_IFMT(found.st_mode) != stat.S_IFMT(wanted.st_mode) or found.st_rdev != wanted.st_rdev:
            raise StartFailed(f"device {self.path}: a file is there that is not this device", errno=errno.EEXIST)


class Fifo(Step, frozen=True, tag="fifo"):
    """A named pipe."""

    path: str
    mode: int = 0o666
    uid: int = 0
    gid: int = 0

    def places(self) -> tuple[str, ...]:
        return (self.path,)

    def describe(self) -> str:
        return f"fifo {self.path}"

    def apply(self, stage: Stage) -> None:
        with attempt(f"creating device node {self.path}"):
            folder = make_directories(stage.root, os.path.dirname(self.path))
            name = os.path.basename(self.path)
            # No chmod afterwards: it would follow a link that somebody put there meanwhile.
            before = os.umask(0)
            try:
                os.mkfifo(name, self.mode, dir_fd=folder)
                os.chown(name, self.uid, self.gid, dir_fd=folder, follow_symlinks=False)
            except FileExistsError:
                if not stat.S_ISFIFO(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    raise
            finally:
                os.umask(before)
                os.close(folder)


def open_node(source: str) -> int:
    """`char:1:3` or `block:8:0:MODE:UID:GID` as a detached mount of a node. Raises StartFailed, OSError."""
    kind, *numbers = source.split(":")
    major, minor, *looks = map(int, numbers)
    mode, uid, gid = looks or (-1, -1, -1)
    if not looks:
        try:
            return _bound(kind, major, minor)
        except StartFailed as error:
            try:
                return _made(kind, major, minor, 0o666, 0, 0)
            except PermissionError:
                raise error from None
    try:
        return _made(kind, major, minor, 0o666 if mode < 0 else mode, max(uid, 0), max(gid, 0))
    except PermissionError:
        return _bound(kind, major, minor)  # an ordinary user may make none: it looks as it does outside


def _bound(kind: str, major: int, minor: int) -> int:
    path = device_path(kind, major, minor)
    tree = linux.open_tree(AT_FDCWD, path, OpenTree.CLONE)
    found = os.fstat(tree)
    is_kind = stat.S_ISBLK(found.st_mode) if kind == "block" else stat.S_ISCHR(found.st_mode)
    if not is_kind or found.st_rdev != os.makedev(major, minor):
        os.close(tree)
        raise StartFailed(f"{path} is not the {kind} device {major}:{minor}")
    return tree


def _made(kind: str, major: int, minor: int, mode: int, uid: int, gid: int) -> int:
    """A node in a file system that has nothing else. Raises PermissionError where none may be made or opened."""
    whole = filesystems.new("tmpfs", "device", (("size", "4k"), ("mode", "755")), MountAttr(0))
    try:
        bits = mode & 0o7777
        os.mknod(
            "node", bits | (stat.S_IFBLK if kind == "block" else stat.S_IFCHR), os.makedev(major, minor), dir_fd=whole
        )
        os.chmod("node", bits, dir_fd=whole)
        os.chown("node", uid, gid, dir_fd=whole)
        return linux.open_tree(whole, "node", OpenTree.CLONE)
    finally:
        os.close(whole)


@functools.cache
def device_path(kind: str, major: int, minor: int) -> str:
    """Where this machine has the node of a device, from sysfs; raises StartFailed where there is no such device."""
    try:
        with open(f"/sys/dev/{kind}/{major}:{minor}/uevent", encoding="utf-8") as file:
            for line in file:
                if line.startswith("DEVNAME="):
                    return f"/dev/{line[8:].strip()}"
    except OSError as error:
        raise StartFailed(f"no {kind} device {major}:{minor} on this machine: {reason(error)}") from error
    raise StartFailed(f"the {kind} device {major}:{minor} of this machine has no node")


class DeviceLinks(Step, frozen=True, tag="device_links"):
    """/dev/fd, /dev/stdin and so on, which are links into /proc, and /dev/ptmx into devpts."""

    links: tuple[tuple[str, str], ...] = (
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    )

    def places(self) -> tuple[str, ...]:
        return tuple(f"/dev/{name}" for name, _ in self.links)

    def describe(self) -> str:
        return "link " + ", ".join(f"/dev/{name}" for name, _ in self.links)

    def apply(self, stage: Stage) -> None:
        with attempt("linking in /dev"):
            folder = open_in_root(stage.root, "/dev", os.O_PATH | os.O_DIRECTORY)
            try:
                for name, target in self.links:
                    try:
                        os.symlink(target, name, dir_fd=folder)
                    except FileExistsError:
                        continue  # the image or a mount has its own, as with a bound /dev
            finally:
                os.close(folder)
