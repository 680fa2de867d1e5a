"""The root of a bundle: it is a folder already, so it only has to become a mount, and then `/`.

Interface:
- steps: `BindRoot` in the place of `MountRoot`; `MoveRoot` in that of `Pivot`, if `--no-pivot` asks for it;
  `ChangeRoot` where there is no mount namespace of its own.
- `absolute(mounts, folder)`: the sources of binds that are named from the bundle's folder.

Rules: as in rootfs.py. Without pivot_root(2), which a RAM disk refuses, the machine's root stays mounted below ours:
the mount is moved over it, and what is below can no longer be named. The kernel still sees it, and lets whoever makes a
user namespace mount a proc without masks as long as there is one; so the machine's proc and sysfs go first.

Sources: pivot_root(2), mount(2), chroot(2), mount_too_revealing() in fs/namespace.c of the kernel
"""

from __future__ import annotations

import errno
import os

import msgspec

from glassdock.linux import mount as linux
from glassdock.linux.mount import MountAttr, MountFlag, UmountFlag
from glassdock.oci.runtime import Mount
from glassdock.runtime.stage import Stage, Step, attempt


def absolute(mounts: tuple[Mount, ...], folder: str) -> tuple[Mount, ...]:
    """The mounts, with sources of binds that are not absolute found in the bundle's folder, as the specification says.

    Without a type it is a bind where the options say so.
    """
    return tuple(
        msgspec.structs.replace(one, source=os.path.join(folder, one.source))
        if not one.source.startswith("/") and (one.type == "bind" or {"bind", "rbind"} & set(one.options))
        else one
        for one in mounts
    )


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
            for place in _whole_views(self.path):
                _take_away(place)
            linux.mount(self.path, "/", None, MountFlag.MOVE)
            os.chroot(".")
            os.chdir("/")


class ChangeRoot(Step, frozen=True, tag="change_root"):
    """The root becomes `/` for the process alone: it shares the machine's mounts, which cannot be pivoted away."""

    path: str

    def describe(self) -> str:
        return f"chroot {self.path}, in the machine's mount namespace"

    def apply(self, stage: Stage) -> None:
        with attempt("chroot"):
            if stage.root >= 0:
                os.fchdir(stage.root)
                os.close(stage.root)
            else:  # an exec, which made nothing
                os.chdir(self.path)
            os.chroot(".")
            os.chdir("/")
            stage.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _whole_views(root: str) -> list[str]:
    """Where proc and sysfs are mounted as a whole, outside of the container's root."""
    found: list[str] = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields, _, rest = line.partition(" - ")
            part, where = fields.split(" ")[3:5]
            where = where.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
            inside = where == root or where.startswith(f"{root}/")
            if rest.split(" ")[0] in ("proc", "sysfs") and part == "/" and not inside:
                found.append(where)
    return found


def _take_away(place: str) -> None:
    """Unmount, in this namespace alone; where an ordinary user may not, cover it."""
    try:
        linux.mount(None, place, None, MountFlag.REC | MountFlag.SLAVE)
    except FileNotFoundError:
        return  # it went with one above it
    try:
        linux.umount2(place, UmountFlag.DETACH)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
        linux.mount("tmpfs", place, "tmpfs", MountFlag(0))
