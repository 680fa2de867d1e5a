"""The root of a bundle: it is a folder already, so it only has to become a mount, and then `/`.

Interface (steps): `BindRoot` in the place of `MountRoot`; `MoveRoot` in that of `Pivot`, if `--no-pivot` asks for it.

Rules: as in rootfs.py. Without pivot_root(2), which a RAM disk refuses, the machine's root stays mounted below ours:
the mount is moved over it, and what is below can no longer be named.

Sources: pivot_root(2), mount(2), chroot(2)
"""

from __future__ import annotations

import os

from glassdock.linux import mount as linux
from glassdock.linux.mount import MountAttr, MountFlag
from glassdock.runtime.stage import Stage, Step, attempt


class BindRoot(Step, frozen=True, tag="bind_root"):
    """The bundle's root is mounted on itself: what becomes `/` has to be a mount of its own."""

    path: str
    propagation: int = int(MountFlag.PRIVATE)

    def describe(self) -> str:
        return f"bind {self.path} as the root"

    def sources(self) -> tuple[str, ...]:
        return (f"rbind:{self.path}",)

    def apply(self, stage: Stage) -> None:
        with attempt(f"mounting the root filesystem {self.path}"):
            stage.root = stage.take(self.sources()[0])
            try:
                target = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            except PermissionError:
                # The root of a user namespace may not walk there; `/` is as good a place, the machine's files go next.
                target = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            linux.mount_setattr(stage.root, add=MountAttr.NODEV, propagation=MountFlag(self.propagation))
            linux.move_mount(stage.root, target)
            os.close(target)


class MoveRoot(Step, frozen=True, tag="move_root"):
    """Move the root's mount over `/` and stand in it."""

    path: str

    def describe(self) -> str:
        return f"move {self.path} to / without pivot_root"

    def apply(self, stage: Stage) -> None:
        with attempt("moving the root to /"):
            os.fchdir(stage.root)
            linux.mount(self.path, "/", None, MountFlag.MOVE)
            os.chroot(".")
            os.chdir("/")
