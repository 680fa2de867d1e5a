"""Device nodes: those that every container has, and those that are asked for.

Interface (steps): `DeviceNode`, `DeviceLinks`.

Rules: a device node is a read-only bind mount of the machine's, so that chmod in here does not change the machine's; a
node that is made in the root itself opens nothing, because all that can be written is nodev.

Source: https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#devices
"""

from __future__ import annotations

import os

from glassdock.linux import mount as linux
from glassdock.linux.mount import MountAttr, MountFlag
from glassdock.linux.openat2 import open_in_root
from glassdock.runtime.rootfs import attach, place
from glassdock.runtime.stage import Stage, Step, attempt


class DeviceNode(Step, frozen=True, tag="device"):
    """A device of the machine's: its node, bound read-only, which reading and writing the device does not mind."""

    path: str
    kind: str
    major: int
    minor: int

    def places(self) -> tuple[str, ...]:
        return (self.path,)

    def describe(self) -> str:
        return f"device {self.path} ({self.kind} {self.major}:{self.minor})"

    def sources(self) -> tuple[str, ...]:
        return (f"{'block' if self.kind == 'b' else 'char'}:{self.major}:{self.minor}",)

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
                attach(tree, place(stage, self.path, directory=False))
            finally:
                os.close(tree)


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
